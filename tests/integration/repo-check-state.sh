#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `repo check --read-data --state FILE`: killed, it goes on where it was and reads the rest only; what is not its own it does not touch,
# and what another check noted it does not take for read. With a percentage each check reads the next part, whenever it is.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq
[[ -x $O/tests/lib/tool-mkimage ]] || skip "$O/tests/lib/tool-mkimage is not built"
umask 077
state=$scratch/check.state

# repository NAME [options of init…]: of many packs; $AMBRO_REPOSITORY is it, $packs how many.
repository() {
	local i
	export AMBRO_REPOSITORY=$scratch/$1
	ambroctl repo init --chunk-size 64K "${@:2}" >/dev/null
	for ((i = 0; i < 12; i++)); do
		head -c 100K /dev/urandom >"$scratch/disk"
		tool mkimage --chunk-shift 16 "$scratch/disk" "$scratch/image"
		ambroctl import -q --host h --disk "d$i" "$scratch/image"
		rm "$scratch/image"
	done
	packs=$(find "$AMBRO_REPOSITORY/packs" -type f | wc -l)
	((packs >= 20)) || fail "$1 has only $packs packs"
}

# check [options…]: its result is $scratch/result.json; says PACKS-READ PACKS-SKIPPED.
check() {
	ambroctl repo check --read-data --state "$state" --json "$@" >"$scratch/result.json" 2>"$scratch/result.err" ||
		fail "check $*: $(cat "$scratch/result.err")"
}
said() { jq -r "$1" "$scratch/result.json"; }
expect() { [[ $(said "$2") == "$3" ]] || fail "$1: $2 is $(said "$2"), not $3"; }
# killed [options…]: one that is killed (SIGXFSZ) in the middle of a line, when its state has 1 KiB; $noted packs are in it.
killed() {
	local status=0
	rm -f "$state"
	(ulimit -c 0 -f 1 && exec "$O/ambroctl" repo check --read-data --state "$state" "$@") &>/dev/null || status=$?
	((status == 128 + $(kill -l XFSZ))) || fail "it was not killed, but ended with $status"
	(($(stat -c %s "$state") == 1024)) || fail "it was killed elsewhere: $(cat "$state")"
	noted=$(($(wc -l <"$state") - 1))
	((noted > 0 && noted < packs)) || fail "$noted packs are noted"
}

# foreign WHAT: $state is no state; it is refused and stays as it is.
foreign() {
	cp -p "$state" "$scratch/was"
	expect_fail 6 "is not the state of a check" ambroctl repo check --read-data --state "$state"
	expect_fail 6 "is not the state of a check" ambroctl repo check --read-data=10% --state "$state"
	cmp "$state" "$scratch/was" || fail "$1 was written to"
}

repository plain
printf 'the only copy of a thesis\n' >"$state"
foreign "a text"
head -c 100K /dev/urandom >"$state"
foreign "a file of bytes"
printf 'ambrotype check 2 something newer\n' >"$state"
foreign "a newer version's"
mkfifo "$scratch/fifo"
expect_fail 6 "not a regular file" ambroctl repo check --read-data --state "$scratch/fifo"
expect_fail 6 "directory" ambroctl repo check --read-data --state "$scratch"
expect_fail 6 "not a regular file" ambroctl repo check --read-data --state /dev/null
[[ -c /dev/null ]] || fail "/dev/null is gone"

# ---- killed, and gone on with ----

killed
check
expect "gone on with" .packs_skipped "$noted"
expect "gone on with" .packs_read $((packs - noted))
[[ ! -e $state ]] || fail "it came to its end, and left its state"
: >"$state" # as mktemp makes one
check
expect "anew" .packs_read "$packs"

# what cannot be noted is no fault of the repository's
(trap '' XFSZ && ulimit -f 1 && check)
expect "a state that cannot grow" .packs_read "$packs"
[[ ! -e $state ]] || fail "it came to its end, and left its state"

out=$(trap '' XFSZ && ulimit -f 0 && ambroctl repo check --read-data --state "$state" 2>&1) && fail "without a head: $out"
[[ $out == *"cannot write $state"* ]] || fail "without a head: $out"
check

# ---- of another check ----

killed
cp "$state" "$scratch/killed"
(
	exec 9<"$state"
	flock -n 9 || fail "who has it?"
	expect_fail 6 "another check" ambroctl repo check --read-data --state "$state"
)
cmp "$state" "$scratch/killed" || fail "the state of another check at work was written to"
plain=$AMBRO_REPOSITORY
ambroctl key generate "$scratch/key" >/dev/null
mkdir "$scratch/credentials"
cp "$scratch/key" "$scratch/credentials/ambro-key"
export CREDENTIALS_DIRECTORY=$scratch/credentials
repository encrypted --encrypt
check
expect "another repository's" .packs_skipped 0
expect "another repository's" .packs_read "$packs"

# by names only, then with the key, and the other way round
killed --no-key
cp "$state" "$scratch/killed"
check
expect "with the key" .packs_skipped 0
expect "with the key" .decoded true
cp "$scratch/killed" "$state"
check --no-key
expect "without a key" .packs_skipped "$noted"
expect "without a key" .decoded false
killed
check --no-key
expect "without a key, after one with it" .packs_skipped 0
unset CREDENTIALS_DIRECTORY

# ---- from part to part ----

AMBRO_REPOSITORY=$plain
read=0 parts=
for i in 1 2 3 4; do
	check --read-data=25%
	read=$((read + $(said .packs_read)))
	parts+="$(said .part)/$(said .parts) "
	expect "after part $i" '.packs_skipped' 0
	[[ $(wc -l <"$state") == 1 ]] || fail "part $i is over, and its packs are noted: $(cat "$state")"
done
((read == packs)) || fail "in four quarters $read of $packs packs were read"
[[ $(tr ' ' '\n' <<<"$parts" | grep . | sort -u | wc -l) == 4 ]] || fail "not four parts: $parts"
# whatever it was that it ended with: the same part is next for a check of all its days
next=$(sed 's/.* \([0-9]*\)\/.*/\1/' "$state")
check --read-data=25%
expect "the fifth" .part $((10#$next + 1))
# another number of parts begins anew, and one that was named has no next one
check --read-data=10%
expect "tenths" .parts 10
check --read-data=3/10
expect "a part by name" .part 3
[[ ! -e $state ]] || fail "a part by name left its state"

# ---- what is said of one thing ----

export AMBRO_REPOSITORY=$scratch/one
ambroctl repo init --chunk-size 64K >/dev/null
truncate -s 1M "$scratch/empty"
tool mkimage --chunk-shift 16 "$scratch/empty" "$scratch/image"
ambroctl import -q --host h --disk d "$scratch/image"
[[ $(ambroctl repo check --read-data 2>/dev/null) == *": OK, 1 image, 1 pack, 1 read ("*")" ]] ||
	fail "$(ambroctl repo check --read-data 2>&1)"
# and nothing twice: the page is gone
rm -f "$AMBRO_REPOSITORY"/packs/*/*
ambroctl repo check >"$scratch/out" 2>"$scratch/err" && fail "a pack is gone, and check finds nothing"
[[ $(<"$scratch/out") == *": DAMAGED, 1 image, 0 packs, 1 image hurt" ]] || fail "$(cat "$scratch/out")"
(($(wc -l <"$scratch/err") == 3)) || fail "not three things: $(cat "$scratch/err")"
finds "h/d/.*: the disk: its files cannot be told: " <"$scratch/err" || fail "$(cat "$scratch/err")"
finds "h/d/.* cannot be restored: 1048576 bytes at byte 0 of the disk: " <"$scratch/err" || fail "$(cat "$scratch/err")"
ambroctl verify h/d/latest &>"$scratch/out" && fail "verify"
finds "the first: region 0, chunk 0 (byte 0 of the disk): [^:]*$" <"$scratch/out" || fail "$(cat "$scratch/out")"
