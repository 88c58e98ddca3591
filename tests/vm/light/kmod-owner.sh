#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The owner is killed while on, under load: it goes off by itself, the data are right, and anybody may take
# down the rest. The module cannot be removed before.
# vm-disks: 40M 64M 16M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$top/tests/vm/kmod.sh"

disk_layout "${disks[0]}" <<<'label: gpt
size=32M'
part=$(part "${disks[0]}" 1)
fs_make ext4 "$part"
mount_at "$part" "$scratch/fs"
kmod_load
for round in 1 2 3; do
	owner_start
	fio_start "load$round" --directory="$scratch/fs" --size=8M --rw=randwrite --bs=16k --direct=1 --iodepth=8 \
		--ioengine=libaio --verify=crc32c --verify_backlog=64 --time_based --runtime=8
	stack_attach "${disks[0]}"
	stack_prepare "${disks[1]}"
	check "$round: on" stack_on "$scratch/fs"
	sleep 1
	owner_kill
	off_by_itself() { ambro_oneshot query "$id" | finds 'state=armed owned=0'; }
	check "$round: off by itself" wait_for 60 off_by_itself
	check_fails "$round: rmmod" rmmod ambro
	before=$(ambro_oneshot query "$id" | grep -o 'redirected=[0-9]*')
	fio_wait "load$round"
	check_equal "$round: nothing more is redirected" "$before" "$(ambro_oneshot query "$id" | grep -o 'redirected=[0-9]*')"
	check "$round: anybody disarms" ambro_oneshot disarm "$id"
	dm_remove "origin$id"
	dm_remove "snap$id"
	check "$round: and detaches" ambro_oneshot detach "$id"
done

# two disks: only what it owned
owner_start
stack_attach "${disks[0]}"
other=$id
check "a second disk" ambro attach "${disks[2]}"
check_equal "another id" 1 "$(field id)"
owner_kill
for i in "$other" 1; do
	check "detach $i" ambro_oneshot detach "$i"
done
umount_at "$scratch/fs"
check "fsck" e2fsck -fn "$part"
