#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The same as tracker-exact-loop.sh on a disk that makes no requests of its bios.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
require fio fstrim
tracker_ready

zram_make 400M || skip "no zram to be had"
tracker_new "$zram"
fs_make ext4 "$zram"
mkdir "$scratch/mnt"
cleanup umount_at "$scratch/mnt"
for round in 1 2 3; do
	dd if="$zram" of="$scratch/before" bs=1M iflag=direct status=none
	era=$(tracker era "$zram")
	mount "$zram" "$scratch/mnt"
	fio --minimal --directory="$scratch/mnt" --size=24m --bs=4k --rw=randwrite --runtime=1 --time_based \
		--name=direct --ioengine=libaio --direct=1 --iodepth=8 \
		--name=buffered --ioengine=psync --direct=0 --fsync=64 \
		--name=mapped --ioengine=mmap --direct=0 >/dev/null
	dd if=/dev/urandom of="$scratch/mnt/big$round" bs=1M count=32 status=none
	sync "$scratch/mnt"
	rm -f "$scratch/mnt/direct.0.0" "$scratch/mnt/big$((round - 1))"
	fstrim "$scratch/mnt"
	umount "$scratch/mnt"
	dd if="$zram" of="$scratch/after" bs=1M iflag=direct status=none
	say "round $round: $(tracker exact "$zram" "$era" "$scratch/before" "$scratch/after")" ||
		fail "a change was not marked"
done

# bios so large that they are split: what completes is still known, nothing else is marked
era=$(tracker era "$zram")
dd if=/dev/urandom of="$zram" bs=32M seek=3 count=2 oflag=direct conv=nocreat status=none
[[ $(tracker scan "$zram" "$era") == "$((96 << 20)) $((64 << 20))" ]] || fail "$(tracker scan "$zram" "$era")"
[[ $(tracker doubt "$zram") == none ]] || fail "doubt: $(tracker doubt "$zram")"
