#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A mounted partition's disk is snapshotted under load: the snapshot reads as the disk did while frozen and
# goes on doing so, its file system is sound, holds what was written before and nothing written after.
# Three times, with everything taken down in between, under the same load.
# vm-disks: 48M 64M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$top/tests/vm/kmod.sh"

disk_layout "${disks[0]}" <<<'label: gpt
size=40M'
part=$(part "${disks[0]}" 1)
fs_make ext4 "$part"
mount_at "$part" "$scratch/fs"
files_make "$scratch/fs/files" 6
sums "$scratch/fs/files" >"$scratch/sums"
kmod_load
owner_start
cleanup stack_clean

first=$(cat "/sys/class/block/$(basename "$part")/start")
for cycle in 1 2 3; do
	fio_start "load$cycle" --directory="$scratch/fs" --size=4M --rw=randwrite --bs=4k --direct=1 --iodepth=8 \
		--ioengine=libaio --time_based --runtime=600 --rate_iops=400
	stack_attach "${disks[0]}"
	stack_prepare "${disks[1]}"
	echo "$cycle" >"$scratch/fs/before"
	sync -f "$scratch/fs"
	check "$cycle: on" stack_on "$scratch/fs"
	echo after >"$scratch/fs/after"
	dd if=/dev/urandom of="$scratch/fs/more" bs=64k count=16 conv=fsync status=none
	snapshot_is_truth "$cycle: the snapshot is what was frozen" 2
	(($(query redirected) > 100)) || fail "only $(query redirected) bios redirected"
	check_equal "$cycle: errors" 0 "$(query errors)"
	check_equal "$cycle: missed" 0 "$(query missed)"
	[[ $(hash_of "${disks[0]}") != "$truth" ]] || fail "the disk has not changed"

	dm_make "view$cycle" <<<"0 $(sectors_of "$part") linear $snap $first"
	check "$cycle: fsck of the snapshot" e2fsck -fn "/dev/mapper/view$cycle"
	mount_at "/dev/mapper/view$cycle" "$scratch/view" -o ro
	check_equal "$cycle: before" "$cycle" "$(cat "$scratch/view/before")"
	[[ ! -e $scratch/view/after ]] || fail "the file from after the freeze is there"
	sums "$scratch/view/files" | cmp - "$scratch/sums" || fail "files differ"
	umount_at "$scratch/view"
	dm_remove "view$cycle"

	stack_off
	stack_remove
	stack_detach
	fio_stop "load$cycle"
	rm "$scratch/fs/after"
done
owner_stop
check "rmmod" rmmod ambro
umount_at "$scratch/fs"
check "fsck of the disk" e2fsck -fn "$part"
mount_at "$part" "$scratch/fs"
sums "$scratch/fs/files" | cmp - "$scratch/sums" || fail "files differ on the disk"
