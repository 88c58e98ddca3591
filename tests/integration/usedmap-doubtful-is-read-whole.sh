#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An ext without check values is believed only where its numbers agree, what lies behind its end is kept, and features
# that nobody knows here are no map to believe.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
require_root
require mkfs.ext4 dumpe2fs mkfs.xfs xfs_db python3
# shellcheck source=tests/lib/usedmap.sh
. "$top/tests/lib/usedmap.sh"

disk=$scratch/disk.img
# make OPTION…: 64 MiB of file system in a place of 80
make() {
	rm -f "$disk"
	truncate -s 80M "$disk"
	mkfs.ext4 -q -F -b 4096 -g 8192 "$@" "$disk" 64M
}
# poke BYTE VALUE
poke() {
	python3 -c 'import sys
f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2])); f.write(bytes([int(sys.argv[3])]))' "$disk" "$@"
}
doubted() {
	usedmap_copy "$disk" "$scratch/copy" offline
	map_whole 0 "$1"
}

make -O ^metadata_csum,^uninit_bg,^flex_bg
head -c 8M /dev/urandom | dd of="$disk" bs=1M seek=70 conv=notrunc status=none
usedmap_copy "$disk" "$scratch/copy" offline
map_is 0 ext-bitmaps
map_saves 0 30
cmp -i $((64 << 20)) "$disk" "$scratch/copy" || fail "what lies behind the end of the file system is lost"

# one bit of the first group's bitmap
bitmap=$(dumpe2fs "$disk" 2>/dev/null | sed -n 's/^  Block bitmap at \([0-9]*\).*/\1/p' | head -n1)
poke $((bitmap * 4096)) 254
doubted damaged

# two groups with one bitmap
make -O ^metadata_csum,^uninit_bg
dd if="$disk" of="$disk" bs=1 count=4 skip=4096 seek=$((4096 + 64)) conv=notrunc status=none
doubted damaged

# a feature that "only" forbids writing
make -O ^metadata_csum,^uninit_bg
poke $((1024 + 103)) 128
doubted "not known here"
rm "$disk"
truncate -s 320M "$disk"
mkfs.xfs -q -f "$disk"
xfs_db -x -c 'sb 0' -c 'write -d features_ro_compat 0x8f' "$disk" >/dev/null
doubted "not known here"

# a mounted one in which errors are recorded
make
debugfs -w -R 'set_super_value state 3' "$disk" 2>/dev/null
loop_make "$disk"
mount_at "$loop" "$scratch/mnt"
usedmap_copy "$loop" "$scratch/copy" live
map_whole 0 "errors are recorded"
