#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The machine of the repository crashes, at any moment of captures, imports, forget, prune, repair and changes of keys, some of them
# killed in the middle: whatever was not flushed by then is lost, all of it, or any part of it. Nothing that was committed is lost, nothing
# half-done is seen, what is forgotten stays so, and the next capture works; a key that was added opens the repository, one that was
# removed does not, and while a passphrase is changed one of the two does. tests/lib/crash-states.py says how. AMBRO_CRASH_STATES says
# how many states are tried (0: all, some minutes).
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require python3 jq
[[ -x $O/tests/lib/tool-crashlog ]] || skip "$O/tests/lib/tool-crashlog is not built"
# LeakSanitizer cannot work in what is traced
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
states=${AMBRO_CRASH_STATES:-250}
seed=$RANDOM

mark() {
	local IFS=$'\t'
	printf 'M\t%s\n' "$*" >>"$log"
}
# logged ARGUMENT…: ambroctl, noted.
logged() {
	"$O/tests/lib/tool-crashlog" -K "$scratch/$mode/keep" "${as[@]}" "${at[@]}" "$log" "$scratch/$mode/root" "$O/ambroctl" "$@"
}
# killed -k|-e CALL:PATH ARGUMENT…: killed just before that call, or behind it.
killed() {
	local status=0
	at=("$1" "$2")
	[[ $mode != renamed ]] || at[1]=${2/#link:/rename:}
	logged "${@:3}" &>/dev/null || status=$?
	at=()
	((status == 137)) || fail "${*:3} ended by itself ($status), not at $2"
}
# put ID CMD…: a capture or import of what $scratch/ID is, to its end.
put() {
	mark begin "$1" "$(hash_of "$scratch/$1")"
	logged "${@:2}" --json >"$scratch/put.json" 2>"$scratch/put.err" || fail "$*: $(cat "$scratch/put.err")"
	image=$(jq -er .hash "$scratch/put.json")
	mark end "$1" "$image"
}
# put_killed ID -k|-e CALL:PATH CMD…
put_killed() {
	mark begin "$1" "$(hash_of "$scratch/$1")"
	killed "${@:2}"
	mark dead "$1"
}
# noise FILE CHUNK…: new bytes in these chunks of 64 KiB.
noise() {
	local n
	for n in "${@:2}"; do
		dd if=/dev/urandom of="$1" bs=64k count=1 seek="$n" conv=notrunc status=none
	done
}
# copied ID FROM CHUNK…: a disk like another, but for these.
copied() {
	cp "$scratch/$2" "$scratch/$1"
	noise "$scratch/$1" "${@:3}"
}
forgotten() {
	mark forget "$1"
	logged forget "${1:0:16}" --yes >/dev/null
	mark forgotten "$1"
}

# story: what happens to a repository.
story() {
	local a1 a3 other
	: >"$log"
	mkdir -p "$scratch/$mode"/{root,keep}
	export AMBRO_REPOSITORY=$scratch/$mode/root/repo
	mark init
	logged repo init --chunk-size 64K >/dev/null
	mark inited
	put a1 capture "$scratch/a1" --host h --disk a
	a1=$image
	# its index file has a name, but not for sure; the next one relies on it
	put_killed b1 -e link:repo/index/ capture "$scratch/b1" --host h --disk b
	put b2 capture "$scratch/b2" --host h --disk b
	# the image has a name, but not for sure; somebody is told of it
	put_killed a2 -e link:repo/images/ capture "$scratch/a2" --host h --disk a
	logged list --json >"$scratch/list"
	# shellcheck disable=SC2046 # words
	mark listed $(jq -r '.[].hash' "$scratch/list")
	mark end a2 "$(jq -er --arg a "$a1" '.[] | select(.disk == "a" and .hash != $a).hash' "$scratch/list")"
	sleep 1 # names have seconds
	put a3 capture "$scratch/a3" --host h --disk a
	a3=$image
	# packs in a new folder
	put_killed golden -e link:repo/packs/ import "$scratch/golden.img" --host i --disk c
	put golden import "$scratch/golden.img" --host i --disk c
	# the tombstone has a name, but not for sure; somebody is told that the image is gone
	mark forget "$a1"
	killed -e link:repo/gc/ forget "${a1:0:16}" --yes
	logged list --json >"$scratch/list"
	! finds "$a1" <"$scratch/list" || fail "a forgotten image is listed"
	mark forgotten "$a1"
	forgotten "$a3"
	mark undo "$a3"
	logged forget --undo "${a3:0:16}" >/dev/null
	mark undone "$a3"
	# deletes and copies; killed before what it replaces is gone, and once more
	killed -k unlink:repo/index/ prune --grace 0 --repack-dead 5
	killed -k unlink:repo/packs/ prune --grace 0 --repack-dead 5
	# two at once, and one that looks
	other=$image
	mark begin e1 "$(hash_of "$scratch/e1")"
	logged capture "$scratch/e1" --host h --disk e -q &
	logged prune &>/dev/null
	wait $! || fail "a capture beside prune"
	mark end e1 "$(ambroctl list --json | jq -r '.[] | select(.disk == "e").hash')"
	forgotten "$other"
	logged prune --grace 0 --repack-dead 5 &>/dev/null
	killed -k unlink:repo/index/ repo repair
	logged repo repair &>/dev/null
	sleep 1
	put a4 capture "$scratch/a4" --host h --disk a
}

# slot LABEL: the id of the key with that label.
slot() { ambroctl key list --json | jq -er --arg l "$1" '.[] | select(.label == $l).id'; }

# story_of_keys: what happens to an encrypted one. ambro-key stays; the others come and go.
story_of_keys() {
	local keys=$scratch/keys
	: >"$log"
	mkdir -p "$scratch/$mode"/{root,keep}
	export AMBRO_REPOSITORY=$scratch/$mode/root/repo CREDENTIALS_DIRECTORY=$keys
	mark init
	logged repo init --chunk-size 64K --encrypt --key-file "$keys/ambro-key" >/dev/null
	mark inited
	put a1 capture "$scratch/a1" --host h --disk a
	mark add client
	logged key add --recipient "$keys/client.pub" --label client >/dev/null
	mark added client
	# its slot has a name, but not for sure; the next one is put beside it
	mark add lost
	killed -e link:repo/keys/ key add --recipient "$keys/lost.pub" --label lost
	mark add pw1
	logged key add --new-passphrase-file "$keys/pw1" --label word >/dev/null
	mark added pw1
	put a2 capture "$scratch/a2" --host h --disk a
	# a new passphrase: killed when the new slot has its name, before the old one goes, and when it has gone; then to its end
	mark change pw1 pw2
	killed -e link:repo/keys/ key change --passphrase-file "$keys/pw1" --new-passphrase-file "$keys/pw2"
	mark change pw1 pw3
	killed -k unlink:repo/keys/ key change --passphrase-file "$keys/pw1" --new-passphrase-file "$keys/pw3"
	mark change pw1 pw4
	killed -e unlink:repo/keys/ key change --passphrase-file "$keys/pw1" --new-passphrase-file "$keys/pw4"
	mark change pw4 pw5
	logged key change --passphrase-file "$keys/pw4" --new-passphrase-file "$keys/pw5" >/dev/null
	mark changed pw4 pw5
	mark remove client
	killed -k unlink:repo/keys/ key remove "$(slot client)"
	logged key remove "$(slot client)" >/dev/null
	mark removed client
	sleep 1 # names have seconds
	put a3 capture "$scratch/a3" --host h --disk a
	logged prune --grace 0 &>/dev/null
	unset CREDENTIALS_DIRECTORY
}

# crashed [ARGUMENT…]: of crash-states.py.
crashed() {
	rm -rf "$scratch/states"
	python3 "$top/tests/lib/crash-states.py" "$log" "$scratch/$mode/keep" "$scratch/$mode/root" "$scratch/states" "$O/ambroctl" \
		"$scratch/golden.img" "$(hash_of "$scratch/golden")" --seed "$seed" "$@" >"$scratch/crashed" 2>&1
}

for f in a1 golden; do
	head -c 1M /dev/urandom >"$scratch/$f"
done
copied a2 a1 2 3
copied a3 a2 5 6 7 8
copied a4 a3 3 9
copied b1 a1 1 4 8
cp "$scratch/b1" "$scratch/b2"
copied e1 golden 12
agent_start
ambroctl repo init --repo "$scratch/other" --chunk-size 64K >/dev/null
ambroctl capture "$scratch/golden" --repo "$scratch/other" -q
ambroctl export --repo "$scratch/other" latest "$scratch/golden.img" -q

at=() image=''
# as on file systems that can do all, that have no files without names, that have no links either
for mode in all named renamed; do
	case $mode in
	all) as=() ;;
	named) as=(-t) ;;
	renamed) as=(-t -l) ;;
	esac
	log=$scratch/$mode.log
	story
	crashed --states "$([[ $mode == all ]] && echo "$states" || echo $((states / 5)))" ||
		fail "$mode: $(cat "$scratch/crashed")"
	say "$mode: $(cat "$scratch/crashed")"
done

# an encrypted one, and its keys
(
	umask 077
	mkdir "$scratch/keys"
	for key in client lost; do
		ambroctl key generate "$scratch/keys/$key" >"$scratch/keys/$key.pub"
	done
	ambroctl key generate "$scratch/keys/ambro-key" >/dev/null
	for key in pw{1..5}; do
		echo "the passphrase $key" >"$scratch/keys/$key"
	done
)
mode=keys as=() log=$scratch/keys.log
story_of_keys
crashed --keys "$scratch/keys" --states "$((states / 6))" || fail "keys: $(cat "$scratch/crashed")"
say "keys: $(cat "$scratch/crashed")"

# would it be noticed? As if the flushes of folders, of files, those by who found what another one had made, had not been made.
mode=all log=$scratch/all.log
for without in folders files found; do
	! crashed --ignore "$without" --random 0 --first || fail "without flushes of $without: $(cat "$scratch/crashed")"
	say "without flushes of $without: $(head -n 2 "$scratch/crashed")"
done
