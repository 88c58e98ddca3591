#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Where a repository is made, and where not; that an init which is killed before any of its steps, or fails there, leaves a place where
# it can be done again; and what is said when the object "format" is lost.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq python3
[[ -x $O/tests/lib/tool-mkimage ]] || skip "$O/tests/lib/tool-mkimage is not built"
umask 077
cd "$scratch"
export AMBRO_REPOSITORY=$scratch/repo

init() { ambroctl repo init --chunk-size 64K "$@"; }
refused() { expect_fail "$1" "$2" ambroctl repo init "${@:3}" && one_line expect.err; }
state() { (cd repo && find . -type f -exec sha256sum {} + | sort); }

# ---- other things -----------------------------------------------------------------------------------

mkdir repo
: >repo/notes.txt
refused 6 "other things in it (notes.txt)"
[[ $(ls -A repo) == notes.txt ]] || fail "it left something: $(ls -A repo)"
rm repo/notes.txt
mkdir repo/lost+found
init >/dev/null
refused 6 "already"

# ---- a key that is another repository's ----------------------------------------------------------------

ambroctl key generate key >key.pub
chmod 600 key
cp key bound
ambroctl repo init --repo bound-repo --encrypt --key-file key >/dev/null
ambroctl key add --repo bound-repo --key-file key --recipient key.pub | grep -o 'AMBRO-REPOSITORY-1:.*' >>bound
refused 7 "AMBRO-REPOSITORY-1" --repo other --encrypt --key-file bound
[[ ! -e other/format && ! -e other/keys ]] || fail "it left something: $(find other)"
ambroctl repo init --repo other --encrypt --key-file key >/dev/null

# ---- killed, or failing, at each step ------------------------------------------------------------------

printf 'pass' >pass
# again WHAT OPTIONS-OF-INIT OPTIONS-THAT-OPEN: the same once more gives a repository, or there is one; it opens, and is whole.
again() {
	local status=0 slot
	# shellcheck disable=SC2086 # words
	init $2 >again.log 2>&1 || status=$?
	[[ $status == 0 ]] || { [[ $status == 6 ]] && finds "already" <again.log; } || fail "$1: once more: $(cat again.log)"
	# the end of it was missing: what an earlier one left is named, and can be removed
	for slot in $(ambroctl key list --json 2>/dev/null | jq -r '.[] | select(.foreign) | .id'); do
		[[ $status == 6 ]] || fail "$1: keys/$slot is still there"
		ambroctl key remove --force "$slot" >/dev/null
	done
	# shellcheck disable=SC2086
	ambroctl repo check --read-data $3 &>check.log || fail "$1: $(cat check.log)"
	# shellcheck disable=SC2086
	[[ ! $3 ]] || ambroctl repo info $3 >/dev/null || fail "$1: it does not open"
	[[ $status == 6 || ! $3 ]] || [[ $(find repo/keys -type f | wc -l) == 1 ]] || fail "$1: $(find repo/keys)"
}
# anywhere WHAT OPTIONS-OF-INIT OPTIONS-THAT-OPEN
anywhere() {
	local n=0 how status
	rm -rf repo
	# shellcheck disable=SC2086
	AMBRO_TEST_STORE_STEP=count:$scratch/steps init $2 >/dev/null
	while read -r _ <&3; do
		((++n))
		for how in "kill:$n" "fail:$n:ENOSPC" "fail:$n:EIO"; do
			rm -rf repo
			[[ ! ${before:-} ]] || cp -a "$before" repo
			status=0
			# shellcheck disable=SC2086
			{ AMBRO_TEST_STORE_STEP=$how init $2 &>stopped.log; } 2>/dev/null || status=$?
			case $how:$status in
			kill:*:137 | fail:*:[01]) ;;
			*) fail "$1, $how ended with $status: $(cat stopped.log)" ;;
			esac
			again "$1, $how" "$2" "$3"
		done
	done 3<steps
	((n > 4)) || fail "$1: $n steps"
	say "$1: $n steps"
}
anywhere "a plain one" "" ""
anywhere "an encrypted one" "--encrypt --key-file key" "--key-file key"
# what was left by one that was killed: the slot is there, "format" is not
rm -rf repo
AMBRO_TEST_STORE_STEP=count:$scratch/steps init --encrypt --key-file key >/dev/null
rm -rf repo
link=$(awk '/^(link|rename)$/ && ++n == 2 { print NR }' steps)
{ AMBRO_TEST_STORE_STEP=kill:$link init --encrypt --key-file key &>/dev/null; } 2>/dev/null || :
[[ ! -e repo/format && $(find repo/keys -type f | wc -l) == 1 ]] || fail "not killed between slot and format: $(find repo)"
mv repo left
before=$scratch/left
anywhere "one where another was killed" "--encrypt --key-file key" "--key-file key"
# a plain one in such a place
rm -rf repo
cp -a left repo
init >/dev/null
[[ -z $(find repo/keys -type f) ]] || fail "a slot of nobody was left"

# ---- two at once: one makes it, and nothing of the other is left ------------------------------------------

ambroctl key generate key2 >/dev/null
for round in $(seq 8); do
	rm -rf repo
	init --encrypt --key-file key >first.log 2>&1 &
	first=$!
	init --encrypt --key-file key2 >second.log 2>&1 &
	second=$!
	wait "$first" && first=0 || first=$?
	wait "$second" && second=0 || second=$?
	((first * second == 0 && first + second > 0)) || fail "round $round: $first, $second: $(cat first.log second.log)"
	opens=key
	((first == 0)) || opens=key2
	ambroctl repo check --key-file $opens &>check.log || fail "round $round: $(cat check.log)"
	[[ $(find repo/keys -type f | wc -l) == 1 ]] || fail "round $round: $(find repo/keys)"
done

# ---- "format" is lost ---------------------------------------------------------------------------------

head -c 1M /dev/urandom >disk
tool mkimage --chunk-shift 16 disk image
for options in "" "--key-file key"; do
	rm -rf repo
	# shellcheck disable=SC2086
	init ${options:+--encrypt} $options >/dev/null
	# shellcheck disable=SC2086
	ambroctl import -q --host h --disk d image $options
	mv repo/format format
	state >before.sums
	# shellcheck disable=SC2086
	for verb in "list" "repo check" "repo info" "repo repair" "prune" "import -q --host h --disk d image"; do
		expect_fail 3 "\"format\" is missing" ambroctl $verb $options
	done
	# shellcheck disable=SC2086
	refused 3 "\"format\" is missing" ${options:+--encrypt} $options
	state | cmp - before.sums || fail "something was changed"
	mv format repo/format
	# shellcheck disable=SC2086
	ambroctl repo check --read-data $options &>check.log || fail "put back: $(cat check.log)"
done

# not encrypted, it can be written by hand, from what any image says (docs/REPOSITORY.md)
rm -rf repo
init >/dev/null
ambroctl import -q --host h --disk d image
cp repo/format format
python3 - <<'EOF'
import glob, json, os, re
data = open(glob.glob('repo/images/*')[0], 'rb').read()
size = int(re.search(rb'"chunk_size": *(\d+)', data)[1])
o = {'format': 1, 'what': 'by hand', 'repository': data[64:80].hex(), 'chunk_shift': size.bit_length() - 1,
     'chunk_hash': 'sha256-tree8k', 'encryption': 'none', 'require': [], 'created_ns': 0}
os.unlink('repo/format')
open('repo/format', 'w').write(json.dumps(o)[:-1] + 80 * '.')
EOF
rechecked format
! cmp -s repo/format format || fail "it is the same"
ambroctl repo check --read-data &>check.log || fail "$(cat check.log)"
ambroctl restore --yes h/d/latest out &>check.log || fail "$(cat check.log)"
same disk out
