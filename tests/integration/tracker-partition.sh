#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A write through a partition and the same write through the whole disk mark the same granules; reads and
# another disk's writes mark none.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
require partx sfdisk
tracker_ready

truncate -s 64M "$scratch/other"
loop_make "$scratch/other"
other=$loop
disk_make "$scratch/disk" 64M <<<'label: gpt
start=8MiB, size=16MiB
start=32MiB, size=16MiB'
tracker_new "$loop"

put() { dd if=/dev/urandom of="$1" bs=4k count="$3" seek="$2" oflag=direct conv=nocreat status=none; }
marks_of() {
	local era
	era=$(tracker era "$loop")
	"$@"
	tracker scan "$loop" "$era"
}

# the partition's 1 MiB + 4 KiB is the disk's 33 MiB + 4 KiB
granule=$((128 << 10))
want="$((33 << 20)) $granule"
got=$(marks_of put "${loop}p2" 257 1)
[[ $got == "$want" ]] || fail "through the partition: $got, expected $want"
got=$(marks_of put "$loop" $((33 * 256 + 1)) 1)
[[ $got == "$want" ]] || fail "through the disk: $got, expected $want"
got=$(marks_of put "${loop}p1" $((16 * 256 - 1)) 1)
[[ $got == "$(((24 << 20) - granule)) $granule" ]] || fail "last block of a partition: $got"
got=$(marks_of blkdiscard -o 1M -l 9M "${loop}p1")
[[ $got == "$((9 << 20)) $((9 << 20))" ]] || fail "discard: $got"
got=$(marks_of blkdiscard -z -o 4k -l 512k "${loop}p2")
[[ $got == "$((32 << 20)) $(((512 << 10) + granule))" ]] || fail "write zeroes: $got"
got=$(marks_of dd if="$loop" of=/dev/null bs=1M iflag=direct status=none)
[[ ! $got ]] || fail "reading marked $got"
got=$(marks_of put "$other" 0 256)
[[ ! $got ]] || fail "another disk's write marked $got"
expect_fail any "is a partition" tracker open "${loop}p1"
