#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# xfs and btrfs through the module, each busy, and an image that is written to the very disk that it is of.
# vm-disks: 320M 128M
# vm-modules: dm-snapshot btrfs
# vm-memory: 768
# vm-timeout: 600
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

module_load
fs_make xfs "${disks[0]}"
fs_make btrfs "${disks[1]}"
mount_at "${disks[0]}" "$scratch/x"
mount_at "${disks[1]}" "$scratch/b"
for d in x b; do
	made_files "$scratch/$d/files" 5
	(cd "$scratch/$d" && find files -type f -print0 | xargs -0 sha256sum) >"$scratch/sums.$d"
done
agent_start

# capture NAME DISK TYPE IMAGE STORE: while it is busy; STORE is where auto must have put what it kept.
capture() {
	busy_start "w$1" "$scratch/$1"
	ambroctl capture "$2" -o "$4" --strategy kmod --json >"$scratch/$1.json"
	busy_stop "w$1"
	say "$1: $(jq -c '{guarantee, freeze_us, cow, store, store_used, store_size, duration_ms}' "$scratch/$1.json")"
	check_equal "$3: guarantee" filesystem-consistent "$(manifest "$4" .guarantee)"
	check "$3: something was kept" test "$(jq .store_used "$scratch/$1.json")" -gt 0
	nothing_left "$scratch/x" "$scratch/b"
	# no two of one btrfs can be mounted
	[[ $3 != btrfs ]] || umount_at "$scratch/$1"
	image_restores "$4" "w$1" "$scratch/sums.$1" "$3"
	ok "$3: the image is right"
}
capture b "${disks[1]}" btrfs "$scratch/b.img"
capture x "${disks[0]}" xfs "$scratch/x/itself.img"
agent_stop
umount_at "$scratch/x"
umount_at "$scratch/b"
fs_check xfs "${disks[0]}"
fs_check btrfs "${disks[1]}"
