#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Without --disk images are kept under the kernel's name of the disk, however the source is named: by its node, by a link as those in
# /dev/disk/by-id, by a link to such a link, by where its file system is mounted. They are one line of increments.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require_root
require jq sfdisk partx

disk_make "$scratch/disk" 60M <<'TABLE'
label: gpt
size=50M
TABLE
disk=$loop
fs_make ext4 "${disk}p1"
mount_at "${disk}p1" "$scratch/mnt"
some_files "$scratch/mnt" 10
sync -f "$scratch/mnt"
# as udev makes them, relative
mkdir -p "$scratch/dev/disk/by-id"
ln -s "$(realpath --relative-to="$scratch/dev/disk/by-id" "$disk")" "$scratch/dev/disk/by-id/ata-DISK_of_ours_0815"
ln -s "$(realpath --relative-to="$scratch/dev/disk/by-id" "${disk}p1")" "$scratch/dev/disk/by-id/ata-DISK_of_ours_0815-part1"
ln -s disk/by-id/ata-DISK_of_ours_0815 "$scratch/dev/backup-source"
agent_start
repo_make

# named SOURCE NAME WHAT: its image is kept under that name, and is a full one, or an increment.
named() {
	local view
	taken "$1" --host h
	[[ $taken == "h/$2/"* ]] || fail "an image of $1 is called $taken"
	[[ $(taken_says .source) == "$1" ]] || fail "it says that $1 is $(taken_says .source)"
	if [[ $3 == full ]]; then
		[[ $(taken_says .increment) == full ]] || fail "$1: $taken is $(taken_says .increment)"
	else
		[[ $(taken_says .increment) != full ]] || fail "$1: $taken begins anew: $(taken_says .increment_reason)"
	fi
	restored "$taken" "$scratch/out"
	loop_make "$scratch/out"
	view=$loop
	[[ $2 != "${disk##*/}" ]] || { partitions_add "$loop" && view=${loop}p1; }
	mount_at "$view" "$scratch/look"
	sums "$scratch/look" >"$scratch/sums"
	umount_at "$scratch/look"
	_loop_free "$loop" || :
	sums "$scratch/mnt" | cmp - "$scratch/sums" || fail "$1: other files"
	head -c 100000 /dev/urandom >"$scratch/mnt/new"
	sync -f "$scratch/mnt"
	sleep 1 # names have seconds
}
named "$disk" "${disk##*/}" full
named "$scratch/dev/disk/by-id/ata-DISK_of_ours_0815" "${disk##*/}" increment
named "$scratch/dev/backup-source" "${disk##*/}" increment
named "$scratch/mnt" "${disk##*/}" increment
# a partition is a disk of its own
named "$scratch/dev/disk/by-id/ata-DISK_of_ours_0815-part1" "${disk##*/}p1" full
