#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The object "format" is lost or damaged, and there is no copy of it: repo rebuild-format makes the one that was lost, killed at any
# of its steps or not, and where the other objects do not agree it does nothing.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq python3
[[ -x $O/tests/lib/tool-mkimage ]] || skip "$O/tests/lib/tool-mkimage is not built"
umask 077
cd "$scratch"
export AMBRO_REPOSITORY=$scratch/repo
# it is put back again and again, which a client would take for a rollback
export AMBRO_STATE_DIR=

rebuild() { ambroctl repo rebuild-format "$@"; }
refused() { expect_fail "$1" "$2" ambroctl repo rebuild-format "${@:3}" && one_line expect.err; }
state() { (cd repo && find . -type f -exec sha256sum {} + | sort); }
# unchanged: but for "format" nothing is.
unchanged() { state | grep -v ' ./format$' | cmp - before.sums || fail "$1: something else was changed"; }

head -c 1M /dev/urandom >disk
tool mkimage --chunk-shift 18 disk image
ambroctl key generate key >key.pub
ambroctl key generate reader >reader.pub
ambroctl key generate writer >writer.pub
chmod 600 key reader writer

# whole WHAT OPTIONS: it is in use as before, by every key.
whole() {
	local key
	# shellcheck disable=SC2086 # words
	ambroctl repo check --read-data $2 &>check.log || fail "$1: $(cat check.log)"
	rm -f out
	# shellcheck disable=SC2086
	ambroctl restore --yes h/d/latest out $2 &>check.log || fail "$1: $(cat check.log)"
	same disk out
	for key in ${2:+reader writer}; do
		ambroctl repo info --key-file "$key" >/dev/null 2>check.log || { [[ $key == writer ]] && finds "not read them" <check.log; } ||
			fail "$1: $key opens nothing: $(cat check.log)"
	done
	[[ ! $2 ]] || cmp repo/format format || fail "$1: it is another one"
	unchanged "$1"
}

for options in "" "--key-file key"; do
	rm -rf repo
	# shellcheck disable=SC2086
	ambroctl repo init --chunk-size 256K ${options:+--encrypt} $options >/dev/null
	if [[ $options ]]; then
		ambroctl key add --key-file key --recipient reader.pub >/dev/null
		ambroctl key add --key-file key --recipient writer.pub --write-only >/dev/null
	fi
	# shellcheck disable=SC2086
	ambroctl import -q --host h --disk d image $options
	cp repo/format format
	state | grep -v ' ./format$' >before.sums
	# shellcheck disable=SC2086
	refused 6 "there is nothing to do" $options
	cmp repo/format format || fail "it was touched all the same"

	# lost
	rm repo/format
	# shellcheck disable=SC2086
	expect_fail 3 "'ambroctl repo rebuild-format'" ambroctl repo check $options
	# shellcheck disable=SC2086
	rebuild --dry-run --json $options >result
	jq -e --argjson e "$([[ $options ]] && echo true || echo false)" '.dry_run and (.damaged | not) and .chunk_size == 262144 and
		.encrypted == $e and .images == 1 and .objects >= 3 and .objects_damaged == 0' result >/dev/null || fail "$(cat result)"
	[[ ! -e repo/format ]] || fail "--dry-run made it"
	# shellcheck disable=SC2086
	rebuild $options >result
	finds "^made \"format\" anew: repository [0-9a-f]{8}, chunks of 256.0 KiB" -E <result || fail "$(cat result)"
	whole "lost, options '$options'" "$options"

	# damaged, and killed or failing at each step
	printf 'rotten' | dd of=repo/format bs=1 seek=100 conv=notrunc status=none
	cp repo/format rotten
	# shellcheck disable=SC2086
	AMBRO_TEST_STORE_STEP=count:$scratch/steps rebuild $options >/dev/null
	whole "damaged, options '$options'" "$options"
	steps=$(wc -l <steps)
	((steps > 4)) || fail "$steps steps"
	for ((n = 1; n <= steps; n++)); do
		for how in "kill:$n" "fail:$n:EIO" "fail:$n:ENOSPC"; do
			rm repo/format
			cp rotten repo/format
			status=0
			# shellcheck disable=SC2086
			{ AMBRO_TEST_STORE_STEP=$how rebuild $options &>stopped.log; } 2>/dev/null || status=$?
			case $how:$status in
			kill:*:137 | fail:*:[01]) ;;
			*) fail "$how ended with $status: $(cat stopped.log)" ;;
			esac
			status=0
			# shellcheck disable=SC2086
			rebuild $options &>again.log || status=$?
			[[ $status == 0 ]] || { [[ $status == 6 ]] && finds "nothing to do" <again.log; } || fail "$how, again: $(cat again.log)"
			# shellcheck disable=SC2086
			ambroctl repo check $options &>check.log || fail "$how: $(cat check.log)"
			unchanged "$how"
		done
	done
	say "options '$options': $steps steps"
done

# ---- an encrypted one: who may not, and what does not agree ------------------------------------------

rm repo/format
refused 7 "full rights" --key-file writer
ambroctl key generate nobody >/dev/null
refused 7 "no slot for this key" --key-file nobody
mv repo/keys keys
refused 3 "no key slot that is whole says what stood" --key-file key
mv keys repo/keys
# a pack of another repository got into it
ambroctl repo init --repo other >/dev/null
ambroctl repo init --repo other2 --chunk-size 256K >/dev/null
ambroctl import -q --repo other2 --host h --disk d image
pack=$(cd other2 && find packs -type f | head -n 1)
mkdir -p "repo/${pack%/*}"
cp "other2/$pack" "repo/$pack"
refused 3 "${pack##*/} is of another repository" --key-file key
rm "repo/$pack"
[[ ! -e repo/format ]] || fail "it was made all the same"
rebuild --key-file key >/dev/null
cmp repo/format format || fail "it is another one"
# one that was replaced by one in the clear is no better than the one
rm other2/format
refused 1 "was it replaced" --repo other2 --key-file key
refused 1 "no repository here" --repo "$(mkdir empty && echo empty)"
rm other/format
refused 1 "no repository here" --repo other
rebuild --help | finds "^Usage: ambroctl repo rebuild-format"
