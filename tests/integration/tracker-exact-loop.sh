#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Whatever a file system with a busy life writes to a partition is marked: every 64 KiB of the disk that
# changed since an era lies in what the tracker names since that era. Also what is written through the
# whole disk.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
require fio partx sfdisk fstrim jq
tracker_ready

disk_make "$scratch/disk" 768M <<<'label: gpt
start=1MiB, size=500MiB
start=600MiB, size=100MiB'
tracker_new "$loop"
fs_make ext4 "${loop}p1"

life() {
	local dir=$scratch/mnt
	mount "${loop}p1" "$dir"
	fio --minimal --directory="$dir" --size=24m --bs=4k --rw=randwrite --runtime=1 --time_based \
		--name=direct --ioengine=libaio --direct=1 --iodepth=8 \
		--name=buffered --ioengine=psync --direct=0 --fsync=64 \
		--name=mapped --ioengine=mmap --direct=0 >/dev/null
	mkdir "$dir/d$1" && cp -r /etc/default "$dir/d$1/"
	dd if=/dev/urandom of="$dir/big$1" bs=1M count=16 status=none
	fallocate --punch-hole -o 1M -l 2M "$dir/big$1"
	fallocate --zero-range -o 8M -l 1M "$dir/big$1"
	sync "$dir"
	rm -f "$dir/direct.0.0"
	# over the data of the round before
	[[ ! -e $dir/big$(($1 - 1)) ]] || rm "$dir/big$(($1 - 1))"
	fstrim "$dir"
	umount "$dir"
	head -c 8192 /dev/urandom | dd of="${loop}p2" bs=4k seek=$((100 * $1)) conv=nocreat,fsync status=none
	head -c 4096 /dev/urandom | dd of="$loop" bs=4k seek=$((187000 + $1 * 100)) conv=nocreat,fsync status=none
}
mkdir "$scratch/mnt"
cleanup umount_at "$scratch/mnt"

for round in 1 2 3; do
	cp --sparse=always "$scratch/disk" "$scratch/before"
	era=$(tracker era "$loop")
	life $round
	say "round $round: $(tracker exact "$loop" "$era" "$scratch/before" "$scratch/disk")" ||
		fail "a change was not marked"
done
[[ $(tracker doubt "$loop") == none ]] || fail "doubt: $(tracker doubt "$loop")"
