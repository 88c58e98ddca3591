#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# One wrong bit in the image: the restore stops there, says where, and nothing of that chunk is on the target;
# with --skip-damaged there are zeros, and everything else is right.
. "$(dirname "$0")/../lib/functions.sh"
require python3 jq cmp

raw=$scratch/raw img=$scratch/img out=$scratch/out
head -c 32M /dev/urandom >"$raw"
tool mkimage --regions 1048576 "$raw" "$img"

# chunk 19 of region 1 is byte 20 MiB of the disk; noise is stored as it is, so it can be found
python3 - "$raw" "$img" <<'PYTHON'
import sys
raw, img = open(sys.argv[1], 'rb').read(), open(sys.argv[2], 'r+b')
at = img.read().find(raw[(20 << 20) + 70000:(20 << 20) + 70064])
assert at > 0
img.seek(at)
byte = img.read(1)[0]
img.seek(at)
img.write(bytes([byte ^ 4]))
PYTHON

expect_fail 3 "region 1 (partition 1), byte $((20 << 20)) of the disk" ambroctl restore "$img" "$out"
grep -q incomplete "$scratch/expect.err" || fail "it does not say that the target is incomplete"
cmp -s -n $((1 << 20)) -i $((20 << 20)):0 "$out" /dev/zero || fail "bytes of the damaged chunk were written"
cmp -s -n $((1 << 20)) "$out" /dev/zero || fail "the beginning was written after an error"

got=0
ambroctl restore --yes --skip-damaged --verify --json "$img" "$out" >"$scratch/json" 2>"$scratch/err" || got=$?
[[ $got == 3 ]] || fail "exit code $got with --skip-damaged"
grep -q "zeros on the target: region 1, byte $((20 << 20)), $((1 << 20)) bytes" "$scratch/err" || fail "$(cat "$scratch/err")"
jq -e '.damaged == [{"region": 1, "offset": 20971520, "length": 1048576}] and (.ok | not)' "$scratch/json" >/dev/null ||
	fail "$(cat "$scratch/json")"
dd if=/dev/zero of="$raw" bs=1M seek=20 count=1 conv=notrunc status=none
same "$raw" "$out"
