#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A disk knows every file system on it, once, through partitions and loop devices on files and on devices.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
require_root
disk_tool=$O/tests/unit/test-disk
[[ -x $disk_tool ]] || skip "$disk_tool is not built"

show() { "$disk_tool" show "$1" >"$scratch/shown" || fail "$1 cannot be opened"; }
shown() { grep -qx "$1" "$scratch/shown" || fail "not shown: $1 in $(cat "$scratch/shown")"; }
shown_mounts() {
	local n
	n=$(grep -c '^mount=' "$scratch/shown" || :)
	((n == $1)) || fail "$n mounts instead of $1: $(cat "$scratch/shown")"
}
holds() { "$disk_tool" holds "$1" "$2" || fail "$1 should hold $2"; }
holds_not() { ! "$disk_tool" holds "$1" "$2" || fail "$1 should not hold $2"; }

disk_make "$scratch/disk.img" 300M <<'TABLE'
label: gpt
start=1MiB,size=100MiB
start=101MiB,size=150MiB
TABLE
disk=$loop
show "$disk"
shown_mounts 0
shown ".* table=gpt regions=4 in_use=0"

fs_make ext4 "${disk}p1"
fs_make ext4 "${disk}p2"
mount_at "${disk}p2" "$scratch/two"
mount_at "${disk}p1" "$scratch/one"
mkdir "$scratch/one/folder" "$scratch/bind"
mount --bind "$scratch/one/folder" "$scratch/bind"
cleanup umount_at "$scratch/bind"

show "$disk"
shown_mounts 2
shown "mount=$scratch/two type=ext4 direct=1 start=$((101 << 20)) ro=0"
shown "mount=$scratch/one type=ext4 direct=1 start=$((1 << 20)) ro=0"
[[ $(sed -n 2p "$scratch/shown") == *"/two "* ]] || fail "not in mount order"
shown ".* in_use=1"

show "${disk}p1"
shown_mounts 1
shown "path=${disk}p1 partition=1 offset=$((1 << 20)) .*"
shown "mount=$scratch/one type=ext4 direct=1 start=0 ro=0"

# a mount point stands for the whole disk under it, a folder for nothing
show "$scratch/one"
shown "path=$disk partition=0 .*"
expect_fail any "mount point" "$disk_tool" show "$scratch/one/lost+found"

# a file system in a file on the disk is frozen with it, but does not lie on it directly
truncate -s 30M "$scratch/one/inner.img"
fs_make ext4 "$scratch/one/inner.img"
loop_make "$scratch/one/inner.img"
inner=$loop
mount_at "$inner" "$scratch/inner"
show "$disk"
shown_mounts 3
shown "mount=$scratch/inner type=ext4 direct=0 start=0 ro=0"
show "$inner"
shown_mounts 1
show "$scratch/one/inner.img"
shown_mounts 1
shown ".* in_use=1"

touch "$scratch/one/out" "$scratch/two/out" "$scratch/inner/out" "$scratch/out"
for f in one two inner; do holds "$disk" "$scratch/$f/out"; done
holds_not "$disk" "$scratch/out"
holds "${disk}p1" "$scratch/one/out"
holds "${disk}p1" "$scratch/inner/out"
holds_not "${disk}p1" "$scratch/two/out"
holds "$disk" "${disk}p1"
holds "${disk}p1" "$disk"
holds_not "${disk}p1" "${disk}p2"
holds "$scratch/one/inner.img" "$scratch/inner/out"
holds_not "$scratch/one/inner.img" "$scratch/one/out"
umount "$scratch/inner"

if fs_known overlay; then
	mkdir "$scratch"/one/{upper,work} "$scratch/lower"
	mount_at overlay "$scratch/over" -t overlay \
		-o "lowerdir=$scratch/lower,upperdir=$scratch/one/upper,workdir=$scratch/one/work"
	touch "$scratch/over/out"
	holds "$disk" "$scratch/over/out"
	expect_fail any "does not lie on a disk" "$disk_tool" show "$scratch/over"
	umount "$scratch/over"
fi
umount "$scratch/two"

mkswap -q "${disk}p2"
if swapon "${disk}p2" 2>/dev/null; then
	cleanup swapoff "${disk}p2"
	show "$disk"
	shown ".* in_use=1"
	swapoff "${disk}p2"
fi

fs_known btrfs || exit 0
# of a file system on several disks each knows the mount
truncate -s 200M "$scratch"/{a,b}.img
loop_make "$scratch/a.img"
a=$loop
loop_make "$scratch/b.img"
b=$loop
mkfs.btrfs -q -f "$a" "$b" >/dev/null
btrfs device scan "$a" "$b" >/dev/null
mount_at "$a" "$scratch/many"
btrfs subvolume create "$scratch/many/sub" >/dev/null
mount_at "$a" "$scratch/sub" -o subvol=sub
touch "$scratch/sub/out"
for d in "$a" "$b"; do
	show "$d"
	shown_mounts 1
	shown "mount=$scratch/many type=btrfs direct=1 start=0 ro=0"
	holds "$d" "$scratch/sub/out"
done
expect_fail any "several devices" "$disk_tool" show "$scratch/many"
umount "$scratch/sub" "$scratch/many"
