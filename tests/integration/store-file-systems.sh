#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A repository's directory on every kind of file system: with and without nameless files, links, and permissions, and
# full. The unit tests of the store, which make their directories where they are told.
. "$(dirname "$0")/../lib/functions.sh"
require_root

# run TYPE DIR: both programs there, which leave nothing behind.
run() {
	local t
	for t in test-store test-store-dir; do
		TMPDIR=$2 timeout 300 "$O/tests/unit/$t" >"$scratch/log" 2>&1 ||
			{ cat "$scratch/log" >&2 && fail "$t on $1"; }
		say "$1: $t: $(grep -c '^\[       OK' "$scratch/log") tests, $(grep '^\[  SKIPPED \] [^0-9]' "$scratch/log" | sort -u | wc -l) skips"
	done
	[[ -z $(find "$2" -maxdepth 1 -name 'ambro-store.*') ]] || fail "something was left on $1"
}

# full TYPE: the last run was on a small file system, so none of the tests of a full one was skipped.
full() { ! finds 'SKIPPED.*full_file_system' "$scratch/log" || fail "$1 was not filled"; }

mount_at tmpfs "$scratch/tmpfs" -t tmpfs -o size=4M
run tmpfs "$scratch/tmpfs"
full tmpfs

mkdir "$scratch/lower" "$scratch/tmpfs/upper" "$scratch/tmpfs/work"
if fs_known overlay; then
	mount_at overlay "$scratch/overlay" -t overlay \
		-o "lowerdir=$scratch/lower,upperdir=$scratch/tmpfs/upper,workdir=$scratch/tmpfs/work"
	run overlay "$scratch/overlay"
	full overlay
fi

for type in ext4 vfat xfs btrfs; do
	if ! fs_known "$type" || ! command -v "mkfs.$type" >/dev/null; then
		say "note: no $type here"
		continue
	fi
	size=48M
	[[ $type == xfs || $type == btrfs ]] && size=512M
	truncate -s $size "$scratch/$type.img"
	loop_make "$scratch/$type.img"
	fs_make "$type" "$loop"
	mount_at "$loop" "$scratch/$type"
	run "$type" "$scratch/$type"
	[[ $size == 512M ]] || full "$type"
done

# through FUSE, which knows no RENAME_NOREPLACE
if command -v ntfs-3g mkfs.ntfs >/dev/null && [[ -c /dev/fuse ]]; then
	truncate -s 48M "$scratch/ntfs.img"
	loop_make "$scratch/ntfs.img"
	mkfs.ntfs -q -Q -F "$loop" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2 && fail "mkfs.ntfs"; }
	mkdir "$scratch/ntfs"
	ntfs-3g "$loop" "$scratch/ntfs"
	cleanup umount_at "$scratch/ntfs"
	run ntfs-3g "$scratch/ntfs"
	full ntfs-3g
fi
