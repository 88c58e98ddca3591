#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A disk of many partitions: each is mapped in its own way, gaps and swap as the rules say.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
require_root
# shellcheck source=tests/lib/usedmap.sh
. "$top/tests/lib/usedmap.sh"

disk_make "$scratch/disk.img" 2G <<'TABLE'
label: dos
start=63,size=600000
start=700001,size=200000,type=82
start=1000000,size=2400000,type=5
start=1000063,size=400001
start=1500000,size=500000
TABLE
disk=$loop
# partx -u overlooks the last one where a number is missing
partx -a --nr 6 "$disk" 2>/dev/null || :
fs_make ext4 "${disk}p1"
mkswap -q "${disk}p2"
fs_make ext4 "${disk}p5"
fs_make ext4 "${disk}p6"
for n in 1 5 6; do
	mount_at "${disk}p$n" "$scratch/mnt$n"
	some_files "$scratch/mnt$n/some" $((10 * n))
	rm -rf "$scratch/mnt$n/some/usr/share"
	sums "$scratch/mnt$n" >"$scratch/sums$n"
	fsfreeze -f "$scratch/mnt$n"
	fsfreeze -u "$scratch/mnt$n"
done
umount "$scratch/mnt6"

usedmap_copy "$disk" "$scratch/copy" live
# 0 gap, 1 first, 2 gap, 3 swap, 4 gap, 5 EBR, 6 fifth, 7 gap, 8 sixth, 9 gap, 10 the rest
map_is 1 ext-bitmaps
map_is 3 swap-header
map_is 5 all
map_is 6 ext-bitmaps
map_is 7 all
map_is 8 ext-bitmaps
map_is 9 all
map_is 10 edges

loop_make "$scratch/copy"
copy=$loop
sfdisk -d "$disk" | sed "s,$disk,X,g" >"$scratch/table"
sfdisk -d "$copy" | sed "s,$copy,X,g" | cmp - "$scratch/table" || fail "the tables differ"
partitions_add "$copy"
partx -a --nr 6 "$copy" 2>/dev/null || :
for n in 1 5 6; do
	fs_check ext4 "${copy}p$n"
	mount_at "${copy}p$n" "$scratch/copy$n"
	(sums "$scratch/copy$n") | cmp - "$scratch/sums$n" || fail "files differ on partition $n"
done
