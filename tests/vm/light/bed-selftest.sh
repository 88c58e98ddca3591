#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The bed: what every other test takes for granted is there.
# vm-disks: 64M 64M,logical=4096 16M,bus=scsi 16M,bus=nvme
# vm-modules: dm-snapshot
# vm-expect-dmesg: WARNING: bed-selftest means this
. "$(dirname "$0")/../lib.sh"

check_equal "root" 0 "$EUID"
check "tools" require dmsetup sfdisk blockdev fsfreeze fio jq mkfs.ext4 mkfs.xfs losetup python3
check "the kernel that was asked for" grep -q "^$VM_KERNEL\." /proc/sys/kernel/osrelease
check "the tree" test -f "$top/tests/vm/run"
check "BTF" test -s /sys/kernel/btf/vmlinux
for fs in proc sysfs devtmpfs bpf debugfs tracefs cgroup2 devpts; do
	grep -q " $fs " /proc/mounts || fail "$fs is not mounted"
done

check_equal "disks" 4 "${#disks[@]}"
check_equal "4096-byte sectors" 4096 "$(blockdev --getss "${disks[1]}")"
check_equal "names" "/dev/vda /dev/vdb /dev/sda /dev/nvme0n1" "${disks[*]}"

disk_layout "${disks[0]}" <<<'label: gpt
size=20M
size=30M'
fs_make ext4 "$(part "${disks[0]}" 1)"
mount_at "$(part "${disks[0]}" 1)" "$scratch/ext4"
echo before >"$scratch/ext4/file"
sync -f "$scratch/ext4"
ok "a partition with ext4"

sectors=$(sectors_of "${disks[2]}")
random_onto "${disks[2]}"
was=$(hash_of "${disks[2]}")
check_equal "hash of a part" "$(hash_of "${disks[2]}" 0 "$sectors")" "$was"
dm_make bed-real <<<"0 $sectors linear ${disks[2]} 0"
dm_make bed-snap <<<"0 $sectors snapshot /dev/mapper/bed-real ${disks[3]} N 16"
dm_make bed-origin <<<"0 $sectors snapshot-origin /dev/mapper/bed-real"
random_onto /dev/mapper/bed-origin 2
check_equal "a snapshot by device-mapper" "$was" "$(hash_of /dev/mapper/bed-snap)"
[[ $(hash_of /dev/mapper/bed-origin) != "$was" ]] || fail "nothing was written"

truncate -s 330M "$scratch/xfs.img"
loop_make "$scratch/xfs.img"
fs_make xfs "$loop"
mount_at "$loop" "$scratch/xfs"
fio_start load --directory="$scratch/xfs" --size=2M --rw=randwrite --bs=4k --ioengine=psync --verify=crc32c
fio_wait load
ok "xfs on a loop device, and fio"

echo "WARNING: bed-selftest means this" >/dev/kmsg
