#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What happens to a disk while it is attached and on: it gets other partitions, grows, shrinks, and is torn
# out. Whatever can be done is right; the rest ends in errors, never in a crash, and everything can be taken down.
# vm-disks: 32M,bus=scsi 64M
# vm-modules: dm-snapshot
# vm-expect-dmesg: I/O error|EXT4-fs|Buffer I/O|JBD2|Aborting journal|lost async page write
. "$(dirname "$0")/../lib.sh"
. "$top/tests/vm/kmod.sh"

kmod_load
owner_start
cleanup stack_clean

# ---- other partitions -------------------------------------------------------------------------------------
disk=${disks[0]}
disk_layout "$disk" <<<'label: gpt
size=8M'
random_onto "$disk"
disk_layout "$disk" <<<'label: gpt
size=8M'
stack_attach "$disk"
stack_prepare "${disks[1]}"
stack_on
disk_layout "$disk" <<<'label: gpt
start=4096, size=4M
start=16384, size=4M'
random_onto "$(part "$disk" 2)" 4
check_equal "a new partition is where it should be" "$(hash_of "$disk" 16384 8192)" "$(hash_of "$(part "$disk" 2)")"
snapshot_is_truth "after partitioning"
check_equal "missed" 0 "$(query missed)"
stack_off
stack_remove

# ---- torn out ---------------------------------------------------------------------------------------------
fs_make ext4 "$(part "$disk" 2)"
mount_at "$(part "$disk" 2)" "$scratch/fs"
stack_prepare "${disks[1]}"
stack_on "$scratch/fs"
fio_start load --directory="$scratch/fs" --size=1M --rw=randwrite --bs=4k --direct=1 --iodepth=8 --ioengine=libaio \
	--time_based --runtime=600 --continue_on_error=all
sleep 1
(($(query redirected) > 10)) || fail "no load"
echo 1 >"/sys/block/${disk##*/}/device/delete"
is_gone() { [[ $(query gone) == 1 ]]; }
check "gone" wait_for 60 is_gone
read_back() { dd if="$back" of=/dev/null bs=4k count=1 iflag=direct status=none 2>/dev/null; }
check_fails "reading back" read_back
# whether it fails is the file system's affair; it must not hang
sync_returns() { timeout 60 sync -f "$scratch/fs" 2>/dev/null || (($? != 124)); }
check "syncing what is left returns" sync_returns
fio_stop load
umount -l "$scratch/fs"
stack_off
stack_remove
stack_detach

# ---- grown and shrunk ----------------------------------------------------------------------------------------
truncate -s 16M "$scratch/image"
random_onto "$scratch/image" 16 || dd if=/dev/urandom of="$scratch/image" bs=1M count=16 status=none
loop_make "$scratch/image"
stack_attach "$loop"
stack_prepare "${disks[1]}"
stack_on
truncate -s 24M "$scratch/image"
losetup -c "$loop"
wait_for 30 test "$(sectors_of "$loop")" = 49152 || fail "it did not grow"
behind() { dd if=/dev/urandom of="$loop" bs=1M seek=20 count=1 oflag=direct conv=notrunc,fsync status=none; }
check "a write behind the old end" behind
check_equal "is harmless" 0 "$(query missed)"
(($(query passed_by) > 0)) || fail "and is not counted"
# two pages are one request; of a large write the kernel makes several, and one may happen to end just there
across() { dd if=/dev/urandom of="$loop" bs=8k seek=$(((16 << 20) - 4096)) count=1 oflag=direct,seek_bytes conv=notrunc status=none; }
check "a write across the old end" across
(($(query missed) > 0)) || fail "is not counted as missed"
stack_off
truncate -s 8M "$scratch/image"
losetup -c "$loop"
check "on, with the disk shrunk" ambro on "$id"
check_equal "what is left reads" "$(dd if="$scratch/image" bs=1M count=8 status=none | md5sum | cut -d ' ' -f 1)" "$(hash_of "$loop" 0 16384)"
stack_off
stack_remove
stack_detach
