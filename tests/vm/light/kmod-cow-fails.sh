#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The COW store overflows, or its device fails: the snapshot dies, the disk's own writers notice nothing.
# vm-disks: 40M 4M 16M
# vm-modules: dm-snapshot dm-flakey
# vm-expect-dmesg: Invalidating snapshot|Buffer I/O error|I/O error|Snapshot overflowed
. "$(dirname "$0")/../lib.sh"
. "$top/tests/vm/kmod.sh"

disk_layout "${disks[0]}" <<<'label: gpt
size=32M'
part=$(part "${disks[0]}" 1)
fs_make ext4 "$part"
mount_at "$part" "$scratch/fs"
kmod_load
owner_start
cleanup stack_clean
stack_attach "${disks[0]}"
snapshot_reads() { dd if="$snap" of=/dev/null bs=64k count=16 iflag=direct status=none 2>/dev/null; }
write_file() { dd if=/dev/urandom of="$scratch/fs/$1" bs=1M count=12 conv=fsync status=none; }
dies() { dmsetup status "snap$id" | finds Invalid; }

# $1: what happens; the rest makes it happen, after the snapshot is active
snapshot_dies() {
	local what=$1
	shift
	check "$what: the snapshot reads" snapshot_reads
	"$@"
	check "$what: the writer goes on" write_file file
	md5sum "$scratch/fs/file" >"$scratch/sum"
	check "$what: the snapshot is invalid" dies
	check_fails "$what: and cannot be read" snapshot_reads
	check_equal "$what: errors of the disk's own" 0 "$(query errors)"
	stack_off
	stack_remove
	uncache "$scratch/fs/file"
	check "$what: what was written is there" md5sum -c --quiet "$scratch/sum"
}

stack_prepare "${disks[1]}"
stack_on "$scratch/fs"
snapshot_dies "overflow" true

dm_make cow <<<"0 $(sectors_of "${disks[2]}") linear ${disks[2]} 0"
stack_prepare /dev/mapper/cow
stack_on "$scratch/fs"
turn_into() {
	dmsetup load cow --table "$1"
	dmsetup resume --nolockfs cow
}
snapshot_dies "error target" turn_into "0 $(sectors_of "${disks[2]}") error"

turn_into "0 $(sectors_of "${disks[2]}") linear ${disks[2]} 0"
stack_prepare /dev/mapper/cow
stack_on "$scratch/fs"
snapshot_dies "flakey" turn_into "0 $(sectors_of "${disks[2]}") flakey ${disks[2]} 0 0 60 1 error_writes"
dm_remove cow
stack_detach
umount_at "$scratch/fs"
check "fsck" e2fsck -fn "$part"
