#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A file system with a log to replay has no map that can be believed: it is read whole.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
require_root
# shellcheck source=tests/lib/usedmap.sh
. "$top/tests/lib/usedmap.sh"

# a copy of a mounted file system's medium, taken without unmounting it: as after a power cut
dirty_make() {
	rm -f "$scratch/disk.img"
	truncate -s 400M "$scratch/disk.img"
	loop_make "$scratch/disk.img"
	fs_make "$1" "$loop"
	mount_at "$loop" "$scratch/mnt"
	head -c 5M /dev/urandom >"$scratch/mnt/file"
	sync -f "$scratch/mnt"
	# more than once: btrfs writes no log for the first
	for _ in 1 2 3; do
		head -c 9000 /dev/urandom >>"$scratch/mnt/file"
		sync "$scratch/mnt/file"
	done
	dd if="$loop" of="$scratch/dirty.img" bs=1M iflag=direct conv=sparse status=none
	umount "$scratch/mnt"
}

dirty_make ext4
usedmap_copy "$scratch/dirty.img" "$scratch/copy" offline
map_whole 0 "journal is not replayed"
same "$scratch/dirty.img" "$scratch/copy"
if fs_known xfs; then
	dirty_make xfs
	usedmap_copy "$scratch/dirty.img" "$scratch/copy" offline
	map_whole 0 "log is not replayed"
fi
if fs_known btrfs; then
	dirty_make btrfs
	usedmap_copy "$scratch/dirty.img" "$scratch/copy" offline
	map_whole 0 "log is not replayed"
fi

# mounted, but without looking at its log: the kernel's own map is no better
dirty_make ext4
loop_make "$scratch/dirty.img" -r
mount_at "$loop" "$scratch/mnt.ro" -o ro,noload
usedmap_copy "$loop" "$scratch/copy" live
map_whole 0 "without its log"
