#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The bed: the machine is killed under load and boots again with what had reached its disks, twice.
# vm-disks: 64M 32M
. "$(dirname "$0")/../lib.sh"

ext4=${disks[0]} raw=${disks[1]}
case $VM_BOOT in
1)
	fs_make ext4 "$ext4"
	mount_at "$ext4" "$scratch/mnt"
	random_onto "$raw"
	hash_of "$raw" >"$state/raw"
	touch /var/tmp/lost
	dd if=/dev/urandom of="$scratch/mnt/kept" bs=1M count=4 conv=fsync status=none
	(cd "$scratch/mnt" && md5sum kept) >"$state/kept"
	fio_start load --directory="$scratch/mnt" --size=16M --rw=randwrite --bs=4k --ioengine=psync --fsync=8 \
		--time_based --runtime=1000
	sleep 2
	vm_power_cut
	;;
2)
	[[ ! -e /var/tmp/lost ]] || fail "this is the same boot"
	check_equal "what was written past the cache" "$(cat "$state/raw")" "$(hash_of "$raw")"
	check "the journal has work to do" bash -c "dumpe2fs -h $ext4 2>/dev/null | grep -q needs_recovery"
	mount_at "$ext4" "$scratch/mnt"
	(cd "$scratch/mnt" && check "what was synced" md5sum --quiet -c "$state/kept")
	touch "$state/second"
	vm_power_cut
	;;
3) check "the third boot" test -e "$state/second" ;;
*) fail "boot $VM_BOOT?" ;;
esac
