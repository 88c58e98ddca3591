#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the map of a FAT leaves out is in no file, whether the kernel can mount it or not.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
require_root
# shellcheck source=tests/lib/usedmap.sh
. "$top/tests/lib/usedmap.sh"

require mkfs.vfat partclone.vfat mcopy mdel
for bits in 12 16 32; do
	size=$((bits * bits / 4))M # 36, 64, 256: what each of them likes
	rm -f "$scratch/disk.img"
	truncate -s "$size" "$scratch/disk.img"
	mkfs.vfat -F "$bits" "$scratch/disk.img" >/dev/null
	some_files "$scratch/from" 6
	mcopy -i "$scratch/disk.img" -s -Q -n "$scratch/from" ::/a >/dev/null 2>&1
	mcopy -i "$scratch/disk.img" -s -Q -n "$scratch/from/usr/bin" ::/b >/dev/null 2>&1
	mdeltree -i "$scratch/disk.img" ::/a/usr/bin
	loop_make "$scratch/disk.img"
	usedmap_copy "$loop" "$scratch/copy" offline
	if [[ $bits == 12 ]]; then
		map_whole 0 FAT12 # partclone's map of it is wrong
	else
		map_is 0 partclone.vfat
		map_saves 0 20
	fi
	fs_check vfat "$scratch/copy"
	for image in disk.img copy; do
		rm -rf "${scratch:?}/out.$image"
		mkdir "$scratch/out.$image"
		mcopy -i "$scratch/$image" -s -Q -n ::/a ::/b "$scratch/out.$image" >/dev/null 2>&1
	done
	diff -r "$scratch/out.disk.img" "$scratch/out.copy" || fail "files differ in a copy of FAT$bits"
	(($(find "$scratch/out.copy" -type f | wc -l) > 3)) || fail "there were no files to compare"
done
