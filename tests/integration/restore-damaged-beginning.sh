#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The damage lies in the first MiB, which is written last: also then the target ends without the beginning of a disk, even if
# chunks before the damaged one were right.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk blkid python3 cmp

raw=$scratch/raw img=$scratch/img bad=$scratch/bad
head -c 12M /dev/urandom >"$raw"
sfdisk -q "$raw" <<<$'label: gpt\nsize=5M'
tool mkimage --chunk-shift 16 "$raw" "$img"
truncate -s 12M "$scratch/disk"
loop_make "$scratch/disk"

# damage KIB: a bit of the chunk that holds this KiB of the disk; noise is stored as it is
damage() {
	cp "$img" "$bad"
	python3 - "$raw" "$bad" "$1" <<'PYTHON'
import sys
raw, img, at = open(sys.argv[1], 'rb').read(), open(sys.argv[2], 'r+b'), int(sys.argv[3]) << 10
at = img.read().find(raw[at:at + 64])
assert at > 0
img.seek(at)
byte = img.read(1)[0]
img.seek(at)
img.write(bytes([byte ^ 1]))
PYTHON
}
no_beginning() {
	sync "$1"
	[[ ! -b $1 ]] || blockdev --flushbufs "$1"
	cmp -s -n $((1 << 20)) "$1" /dev/zero || fail "$2: the first MiB has something"
	! blkid -p "$1" >/dev/null || fail "$2: blkid finds something"
}

# the second of the chunks with tables and superblocks, one behind them, the last of the first MiB
for kib in 100 500 1000; do
	damage $kib
	for target in "$loop" "$scratch/new$kib" "$raw.copy"; do
		cp "$raw" "$raw.copy"
		expect_fail 3 "region" "$O/ambroctl" restore --yes "$bad" "$target"
		grep -q "is now incomplete" "$scratch/expect.err" || fail "$(cat "$scratch/expect.err")"
		no_beginning "$target" "damage at $kib KiB, $target"
	done
done
ambroctl restore --yes "$img" "$loop" 2>/dev/null
same "$raw" "$loop"
