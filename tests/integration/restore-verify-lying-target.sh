#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A disk that gives back other bytes than were written: --verify notices, and the disk never gets its table. Without
# --verify nobody would. (Somebody writes into the loop device's file all the time.)
. "$(dirname "$0")/../lib/functions.sh"
require_root
require python3 sfdisk cmp

raw=$scratch/raw img=$scratch/img
head -c 100M /dev/urandom >"$raw"
sfdisk -q "$raw" <<<$'label: gpt\nsize=90M'
tool mkimage "$raw" "$img"
truncate -s 100M "$scratch/disk"
loop_make "$scratch/disk"

python3 - "$scratch/disk" <<'PYTHON' &
import os, sys, time
fd = os.open(sys.argv[1], os.O_WRONLY)
while True:
    os.pwrite(fd, b'lies', (50 << 20) + 4242)
    time.sleep(0.0005)
PYTHON
liar=$!
cleanup _stop_quietly $liar
sleep 0.2
expect_fail 1 "does not give back what was written" ambroctl restore --yes --verify "$img" "$loop"
grep -q "byte $((50 << 20)) of the disk" "$scratch/expect.err" || fail "$(cat "$scratch/expect.err")"
blockdev --flushbufs "$loop"
cmp -s -n $((1 << 20)) "$loop" /dev/zero || fail "the disk got its table"
_stop_quietly $liar || :
ambroctl restore --yes --verify "$img" "$loop" 2>/dev/null
same "$raw" "$loop"
