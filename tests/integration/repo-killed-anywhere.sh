#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Whatever changes a repository is killed before each of its steps, or that step fails: no image that was there is lost, none is there
# by half, check finds nothing wrong, and the same command once more does its work.
#
# The steps are those of lib/repo/store_dir.c. All that others can see are tried (a folder, a name that comes or goes), and one in eight
# of the others: a process that is killed before a write or a flush leaves what one leaves that is killed before the next name.
# The default takes a minute or two; AMBRO_ALL_STEPS=1 tries all steps.
# AMBRO_ONLY='prune*' does only those of the commands below.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq busctl
[[ -x $O/tests/lib/tool-mkimage ]] || skip "$O/tests/lib/tool-mkimage is not built"
umask 077

every=8 thin=1
[[ ${AMBRO_ALL_STEPS:-} != 1 ]] || every=1
export AMBRO_REPOSITORY=$scratch/repo
# it is put back again and again, which a client would take for a rollback
export AMBRO_STATE_DIR=
declare -A hash_of_image=() # by the name of its object

# ---- images --------------------------------------------------------------------------------------

# raw NAME FROM: 4 MiB, the first half of which is that of FROM.
raw() {
	head -c 4M /dev/urandom >"$scratch/$1"
	[[ ! ${2:-} ]] || dd if="$scratch/$2" of="$scratch/$1" bs=2M count=1 conv=notrunc status=none
	tool mkimage --chunk-shift 16 "$scratch/$1" "$scratch/$1.ambro"
}
import() { ambroctl import -q --host h --disk "$1" "$scratch/$1.ambro"; }
listed() { ambroctl list --json | jq -r '.[] | .hash + " " + .disk'; }
# known: each image that is listed now, and was not before, is one of $scratch/DISK.
known() {
	local hash disk
	while read -r hash disk; do
		[[ ${hash_of_image[$hash]:-} ]] || hash_of_image[$hash]=$(hash_of "$scratch/$disk")
	done < <(listed)
}

# ---- what is looked at afterwards ----------------------------------------------------------------

# whole WHAT FULLY: all in $must are listed, all that are listed restore to what they should, check is content. What is listed and
# was not before is an image of $new.
must=() new=
whole() {
	local hash disk want
	local -A there=()
	while read -r hash disk; do
		there[$hash]=1
		want=${hash_of_image[$hash]:-$(hash_of "$scratch/$new")}
		if [[ $2 ]]; then
			restored "$hash" "$scratch/out"
			[[ $(hash_of "$scratch/out") == "$want" ]] || fail "$1: $disk restores to something else"
		elif [[ ! $again ]]; then
			ambroctl verify "$hash" &>"$scratch/verify" || fail "$1: $disk: $(cat "$scratch/verify")"
		fi
	done < <(listed || echo failed)
	[[ ! ${there[failed]:-} ]] || fail "$1: list failed"
	for hash in "${must[@]}"; do
		[[ ${there[$hash]:-} ]] || fail "$1: an image is not listed any more"
	done
	ambroctl repo check ${again:+--read-data} &>"$scratch/check" || fail "$1: check: $(cat "$scratch/check")"
}

# ---- one command, at every step ------------------------------------------------------------------

# stopped AT COMMAND…: $status is what it ended with. What a shell says of the killed is of no interest.
status=
stopped() {
	status=0
	{ AMBRO_TEST_STORE_STEP=$1 "${@:2}" >"$scratch/out.log" 2>"$scratch/err.log"; } 2>/dev/null || status=$?
	case $1:$status in
	kill:*:137) ((++hit)) ;;
	*:0) ;;
	fail:*:1 | short:*:1)
		((++hit))
		(($(grep -vcE '^(import|repair|mark|repack|read|write): ' "$scratch/err.log") == 1)) ||
			fail "$*: more than one line: $(cat "$scratch/err.log")"
		;;
	*) fail "$* ended with $status: $(cat "$scratch/err.log")" ;;
	esac
	settle
}
# shellcheck disable=SC2317 # round() and stopped() call it
settle() { :; }
between() { :; }
pristine() {
	rm -rf "$AMBRO_REPOSITORY"
	cp -a --reflink=auto "$scratch/pristine" "$AMBRO_REPOSITORY"
}

# round WHAT AT NUMBER COMMAND…
rounds=0 hit=0
round() {
	local what="$1, $2" fully=
	(($3 % 5)) || fully=1
	pristine
	stopped "$2" "${@:4}"
	"$look" "$what" "$fully"
	between "$what" "$3"
	{ "${@:4}" >"$scratch/out.log" 2>"$scratch/err.log"; } || again_refused || fail "$what, and once more: $(cat "$scratch/err.log")"
	settle
	again=1 "$look" "$what, and once more" "$fully"
	((++rounds))
}
again_refused() { false; }
again=
look=whole

# anywhere WHAT COMMAND…: of the repository as it is now.
anywhere() {
	local n=0 step chosen=0 begin=$SECONDS before=$rounds
	rm -rf "$scratch/pristine"
	cp -a --reflink=auto "$AMBRO_REPOSITORY" "$scratch/pristine"
	AMBRO_TEST_STORE_STEP=count:$scratch/steps "${@:2}" &>"$scratch/out.log" || fail "$1: $(cat "$scratch/out.log")"
	settle
	again=1 "$look" "$1, undisturbed" 1
	grep -qE '^(link|rename|delete)$' "$scratch/steps" || fail "$1 changed nothing"
	# shellcheck disable=SC2053 # a pattern
	[[ $1 == ${AMBRO_ONLY:-*} ]] || return 0
	while read -r step <&3; do
		((++n))
		[[ $step =~ ^(folder|link|rename|unlink|delete)$ ]] || ((n % every == 0)) || continue
		((++chosen % thin == 0)) || continue
		round "$1" "kill:$n" "$n" "${@:2}"
		case $((chosen / thin % 3)) in
		0) round "$1" "fail:$n:ENOSPC" "$n" "${@:2}" ;;
		1) round "$1" "fail:$n:EIO" "$n" "${@:2}" ;;
		esac
		# from there on no file takes more than some bytes
		[[ $step != link ]] || round "$1" "short:$((n - 2))" "$n" "${@:2}"
	done 3<"$scratch/steps"
	say "$1: $n steps, $((rounds - before)) rounds, $((SECONDS - begin)) s"
}

# all_are_needed: what is listed now must be there afterwards.
all_are_needed() {
	local hash disk
	must=()
	while read -r hash disk; do
		must+=("$hash")
	done < <(listed)
	known
}

# ---- captures --------------------------------------------------------------------------------------

raw a
raw b a
repo_make --chunk-size 64K
import b
all_are_needed
agent_start
nothing_runs() { [[ $(agent_call get-property Jobs) == "u 0" ]]; }
settle() { wait_for 20 nothing_runs || fail "the agent goes on"; }
new=a
anywhere "a full capture" ambroctl capture -q "$scratch/a" --disk a

# what the last one committed is the parent
pristine
taken "$scratch/a" --disk a
all_are_needed
cp "$scratch/a" "$scratch/first"
dd if=/dev/urandom of="$scratch/a" bs=64K count=3 seek=40 conv=notrunc status=none
anywhere "an increment" ambroctl capture -q "$scratch/a" --disk a
[[ $(listed | wc -l) == 3 || $(listed | wc -l) == 4 ]] || fail "images: $(listed)"
ambroctl list --json | jq -e 'map(.increment == "compared") | any' >/dev/null || fail "it was no increment"
settle() { :; }
agent_stop

# ---- import, forget, repair --------------------------------------------------------------------------

raw c b
raw d
raw e d
pristine
all_are_needed
new=c
anywhere "an import" import c

pristine
import c
known
gone=$(listed | awk '$2 == "c" { print $1 }')
# it was forgotten already
again_refused() { grep -q "no image" "$scratch/err.log"; }
anywhere "forget" ambroctl forget --yes "${gone:0:12}"
again_refused() { false; }
must+=("$gone")
pristine
ambroctl forget --yes "${gone:0:12}" >/dev/null
# (whole by another command: forgotten, it is not listed)
undone() {
	local -a kept=("${must[@]}")
	[[ $again ]] || must=("${must[@]:0:${#must[@]}-1}")
	whole "$@"
	must=("${kept[@]}")
}
look=undone
anywhere "forget --undo" ambroctl forget --undo "$gone"
look=whole
pristine
ambroctl forget --undo "$gone" >/dev/null
anywhere "repair" ambroctl repo repair

# without an index nothing can be looked at before it is done
pristine
rm -r "$AMBRO_REPOSITORY/index"
repaired() { [[ ! $again ]] || whole "$@"; }
look=repaired
anywhere "repair of a lost index" ambroctl repo repair
look=whole

# ---- prune -----------------------------------------------------------------------------------------

# pruned_make: a pack that is dead, one half of which is, one that no index file names.
pruned_make() {
	local kept link
	import b
	import d
	import e
	import c
	known
	kept=$(listed | awk '$2 == "b" || $2 == "e" { print $1 }')
	for disk in c d; do
		ambroctl forget --yes --keep-last 0 --disk "$disk" &>/dev/null || ambroctl forget --yes "h/$disk/latest" >/dev/null
	done
	mapfile -t must <<<"$kept"
	raw stray
	AMBRO_TEST_STORE_STEP=count:$scratch/steps ambroctl import -q --repo "$1" --host h --disk stray "$scratch/stray.ambro" "${@:2}"
	# the index file of that pack is the second object
	link=$(grep -n '^link$' "$scratch/steps" | sed -n '2s/:.*//p')
	stopped "kill:$link" ambroctl import -q --host h --disk stray "$scratch/stray.ambro"
	[[ $status == 137 ]] || fail "it was not killed"
}
rm -rf "$AMBRO_REPOSITORY"
repo_make --chunk-size 64K
cp -a "$AMBRO_REPOSITORY" "$scratch/other"
pruned_make "$scratch/other"
# in every second round somebody stores again what was being deleted
between() {
	(($2 % 2)) || return 0
	import c || fail "$1: what was forgotten cannot be stored again"
}
new=c
# (many deletions, so one in two of them)
[[ ${AMBRO_ALL_STEPS:-} == 1 ]] || thin=2
anywhere "prune" ambroctl prune --grace 0
thin=1
anywhere_bytes=$(repo_bytes)
ambroctl prune --grace 0 >/dev/null
whole "prune, at last" 1
say "$anywhere_bytes bytes, $(repo_bytes) after another prune"
between() { :; }

# ---- keys ------------------------------------------------------------------------------------------

ambroctl key generate "$scratch/key" >"$scratch/key.pub"
ambroctl key generate "$scratch/key2" >"$scratch/key2.pub"
mkdir "$scratch/credentials"
cp "$scratch/key" "$scratch/credentials/ambro-key"
rm -rf "$AMBRO_REPOSITORY"
export CREDENTIALS_DIRECTORY=$scratch/credentials
ambroctl repo init --encrypt --chunk-size 64K >/dev/null
cp -a "$AMBRO_REPOSITORY" "$scratch/other-encrypted"
import b && import e && all_are_needed
opens() { ambroctl repo info --json --key-file "$1" &>/dev/null; }
# the key that was there opens it, and after all the new one
added() {
	whole "$@"
	[[ ! $again ]] || opens "$scratch/key2" || fail "$1: the new key does not open it"
}
look=added
anywhere "key add" ambroctl key add --recipient "$scratch/key2.pub" --label second
pristine
ambroctl key add --recipient "$scratch/key2.pub" --label second >/dev/null
slot=$(ambroctl key list --json | jq -er '.[] | select(.label == "second").id')
removed() {
	whole "$@"
	[[ ! $again ]] || ! opens "$scratch/key2" || fail "$1: the removed key opens it"
}
look=removed
again_refused() { grep -q "no key slot" "$scratch/err.log"; }
anywhere "key remove" ambroctl key remove "$slot"
# shellcheck disable=SC2317 # round() and stopped() call it
again_refused() { false; }

echo old >"$scratch/old"
echo new >"$scratch/new"
pristine
ambroctl key add --key-file "$scratch/key" --new-passphrase-file "$scratch/old" >/dev/null
changed() {
	whole "$@"
	[[ ! $again ]] || must_open "$1" new
	must_open "$1" old new
}
# must_open WHAT PASSPHRASE…: one of them does.
must_open() {
	local p
	for p in "${@:2}"; do
		ambroctl repo info --passphrase-file "$scratch/$p" &>/dev/null && return
	done
	fail "$1: nothing of ${*:2} opens it"
}
again_refused() { grep -q "opens none" "$scratch/err.log"; }
look=changed
anywhere "key change" ambroctl key change --passphrase-file "$scratch/old" --new-passphrase-file "$scratch/new"
again_refused() { false; }
look=whole

# ---- the same, encrypted -----------------------------------------------------------------------------

rm -rf "$AMBRO_REPOSITORY"
cp -a "$scratch/other-encrypted" "$AMBRO_REPOSITORY"
pruned_make "$scratch/other-encrypted"
# (the steps are the same, so one in three)
[[ ${AMBRO_ALL_STEPS:-} == 1 ]] || thin=3
new=f
raw f d
anywhere "import, encrypted" import f
pristine
new=c
anywhere "prune, encrypted" ambroctl prune --grace 0
say "$rounds rounds, $hit of them hit, in $SECONDS s"
((hit * 10 >= rounds * 9)) || fail "the steps were not met"
