#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Targets that cannot be meant: too small, read-only, of another sector size, the image itself, the disk it
# lies on, a device that does not exist.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx

truncate -s 64M "$scratch/raw"
sfdisk -q "$scratch/raw" <<<$'label: gpt\nsize=20M'
# only the beginning is in use, and still a smaller disk is refused
img=$scratch/img
tool mkimage --free $((30 << 20)):$((30 << 20)) "$scratch/raw" "$img"

truncate -s 63M "$scratch/small"
loop_make "$scratch/small"
expect_fail 6 "too small: it has $((63 << 20)) bytes (63.0 MiB), the image needs $((64 << 20)) (64.0 MiB)" \
	ambroctl restore --yes "$img" "$loop"
expect_fail 1 "no partition 7" ambroctl restore --partition 7 --yes "$img" "$loop"

truncate -s 64M "$scratch/ro"
loop_make "$scratch/ro" --read-only
expect_fail 6 "read-only" ambroctl restore --yes "$img" "$loop"

loop_make "$scratch/ro" --sector-size 4096
expect_fail 6 "sectors of 4096 bytes" ambroctl restore --yes "$img" "$loop"
# a partition's content does not count in the disk's sectors
ambroctl restore --partition 1 "$img" "$loop" 2>/dev/null

cp "$img" "$scratch/before"
ln -s img "$scratch/link"
ln "$img" "$scratch/hard"
for same in "$img" "$scratch/link" "$scratch/hard"; do
	expect_fail 6 "the image itself" ambroctl restore --yes "$img" "$same"
	expect_fail 6 "the image itself" ambroctl restore --yes "$same" "$img"
done
cmp "$img" "$scratch/before"

disk_make "$scratch/disk" 200M <<<$'label: gpt\nsize=90M'
fs_make ext4 "${loop}p1"
mount_at "${loop}p1" "$scratch/mnt"
cp "$img" "$scratch/mnt/img"
expect_fail 6 "the image lies on $loop itself" ambroctl restore --yes "$scratch/mnt/img" "$loop"
expect_fail 6 "the image lies on ${loop}p1 itself" ambroctl restore --yes "$scratch/mnt/img" "${loop}p1"
# the file under all that
expect_fail 6 "is what $loop stands on" ambroctl restore --yes "$scratch/mnt/img" "$scratch/disk"
# a disk in a file that lies on the disk which the image is for
below=$loop
truncate -s 64M "$scratch/mnt/nested"
loop_make "$scratch/mnt/nested"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt2"
cp "$img" "$scratch/mnt2/img"
expect_fail 6 "the image lies on $below itself" ambroctl restore --yes "$scratch/mnt2/img" "$below"
cmp "$scratch/mnt2/img" "$scratch/before"

expect_fail 1 "there is no device" ambroctl restore --yes "$img" /dev/ambro-no-such-disk
[[ ! -e /dev/ambro-no-such-disk ]] || fail "a file was made in /dev"
expect_fail 1 "neither a block device nor a regular file" ambroctl restore --yes "$img" /dev/null
expect_fail 1 "neither a block device nor a regular file" ambroctl restore --yes "$img" "$scratch"
expect_fail 1 "No such file or directory" ambroctl restore --yes "$img" "$scratch/none/new"
expect_fail 1 "Not a directory" ambroctl restore --yes "$img" "$img/new"
mount_at tmpfs "$scratch/ro-fs" -t tmpfs -o ro,size=1M
expect_fail 1 "Read-only file system" ambroctl restore --yes "$img" "$scratch/ro-fs/new"
ln -s nowhere/at/all "$scratch/dangling"
expect_fail 6 "dangling" ambroctl restore --yes "$img" "$scratch/dangling"
expect_fail 1 "not a regular file" ambroctl restore --yes "$scratch" "$scratch/new"
expect_fail 1 "not a regular file" ambroctl restore --yes "$loop" "$scratch/new"
expect_fail 1 "pipe" ambroctl restore --yes - "$scratch/new"
expect_fail 3 "not an image" ambroctl restore --yes "$scratch/raw" "$scratch/new"
expect_fail 2 "--help" ambroctl restore "$img"
[[ ! -e $scratch/new ]] || fail "a file was made for nothing"
