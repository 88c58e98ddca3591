#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A whole disk with two file systems, frozen together, and with a raw writer in the gap between them: all of
# the snapshot is the disk at one instant. Then one partition alone, by a table that has the origin for its
# range only: a raw write across its edge is split there and preserves what was inside.
# vm-disks: 420M 64M
# vm-memory: 512
# vm-modules: dm-snapshot xfs
. "$(dirname "$0")/../lib.sh"
. "$top/tests/vm/kmod.sh"

disk_layout "${disks[0]}" <<<'label: gpt
start=2048, size=40M
start=94208, size=320M'
one=$(part "${disks[0]}" 1)
two=$(part "${disks[0]}" 2)
first=2048
sectors=$(sectors_of "$one")
gap=$(((first + sectors) / 2048)) # in MiB
fs_make ext4 "$one"
fs_make xfs "$two"
mount_at "$one" "$scratch/one"
mount_at "$two" "$scratch/two"
files_make "$scratch/one/files" 4
files_make "$scratch/two/files" 4
sums "$scratch/one/files" >"$scratch/one.sums"
sums "$scratch/two/files" >"$scratch/two.sums"
kmod_load
owner_start
cleanup stack_clean
write_to() { dd if=/dev/urandom of="$1" bs=64k count="$2" conv=fsync status=none; }

stack_attach "${disks[0]}"
stack_prepare "${disks[1]}"
sync -f "$scratch/one"
sync -f "$scratch/two"
# the gap and the first 8 MiB of each file system are enough to hash; all of 420 MiB takes a minute
stack_range="0 $((first + sectors + 2048 * 6))"
check "on" stack_on "$scratch/one" "$scratch/two"
write_to "$scratch/one/after" 32
write_to "$scratch/two/after" 32
random_gap() { dd if=/dev/urandom of="${disks[0]}" bs=1M seek="$gap" count=1 oflag=direct conv=notrunc status=none; }
check "a raw write into the gap" random_gap
snapshot_is_truth "both file systems and the gap"
[[ $(hash_of "${disks[0]}" $((gap * 2048)) 2048) != "$(hash_of "$snap" $((gap * 2048)) 2048)" ]] || fail "the gap was not written"
dm_make view1 <<<"0 $sectors linear $snap $first"
dm_make view2 <<<"0 $(sectors_of "$two") linear $snap 94208"
check "ext4 in the snapshot" e2fsck -fn /dev/mapper/view1
# its log is dirty by design: xfs leaves one behind when it is frozen
mount_at /dev/mapper/view2 "$scratch/view" -o nouuid
sums "$scratch/view/files" | cmp - "$scratch/two.sums" || fail "xfs: files differ"
[[ ! -e $scratch/view/after ]] || fail "xfs: the file from after the freeze is there"
umount_at "$scratch/view"
check "xfs in the snapshot" xfs_repair -n /dev/mapper/view2
dm_remove view1
dm_remove view2
check_equal "missed" 0 "$(query missed)"
stack_off
stack_remove

# ---- one partition --------------------------------------------------------------------------------------
total=$(sectors_of "$back")
stack_table="0 $first linear $back 0
$first $sectors snapshot-origin $back
$((first + sectors)) $((total - first - sectors)) linear $back $((first + sectors))"
stack_range="$first $sectors"
rm "$scratch/one/after"
stack_prepare "${disks[1]}"
sync -f "$scratch/one"
check "on, for the partition" stack_on "$scratch/one"
write_to "$scratch/one/after" 8
# 256 KiB, half before the end of the partition and half behind; the file system has nothing there
straddle() {
	python3 - "${disks[0]}" $(((first + sectors) * 512 - 131072)) <<-'EOT'
		import mmap, os, sys
		fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
		m = mmap.mmap(-1, 262144)
		m.write(os.urandom(262144))
		assert os.pwrite(fd, m, int(sys.argv[2])) == 262144
	EOT
}
was=$(hash_of "$snap" $((first + sectors - 256)) 256)
check "a raw write across the edge" straddle
check_equal "the snapshot at the edge" "$was" "$(hash_of "$snap" $((first + sectors - 256)) 256)"
[[ $(hash_of "$back" $((first + sectors - 256)) 256) != "$was" ]] || fail "the edge was not written"
snapshot_is_truth "the partition"
stack_off
stack_remove
stack_detach
umount_at "$scratch/one"
umount_at "$scratch/two"
check "xfs on the disk" xfs_repair -n "$two"
