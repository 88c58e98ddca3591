#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A mounted volume is captured by a device-mapper snapshot below it, with each kind of COW store, while it is
# written to: the image is its file system at one instant, and nothing is left below it.
# vm-disks: 96M 64M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

volume_make vol "${disks[0]}"
agent_start
dir=$scratch/vol
fs_make ext4 /dev/mapper/vol
mount_at /dev/mapper/vol "$dir"
made_files "$dir/files" 8
(cd "$dir" && find files -type f -print0 | xargs -0 sha256sum) >"$scratch/sums"
sync -f "$dir"

for store in file ram "${disks[1]}"; do
	busy_start "w${store##*/}" "$dir"
	ambroctl capture /dev/mapper/vol -o "$scratch/vol.img" --force --strategy dm --cow "$store" --json \
		>"$scratch/job.json"
	busy_stop "w${store##*/}"
	say "$store: $(jq -c '{freeze_us, store_used, store_size, duration_ms}' "$scratch/job.json")"
	check_equal "$store: strategy" dm "$(manifest "$scratch/vol.img" .strategy)"
	check_equal "$store: guarantee" filesystem-consistent "$(manifest "$scratch/vol.img" .guarantee)"
	check "$store: something was kept in it" test "$(jq .store_used "$scratch/job.json")" -gt 0
	check_equal "$store: the volume has its table again" "$table" "$(dmsetup table vol)"
	nothing_left "$dir"
	image_restores "$scratch/vol.img" "w${store##*/}" "$scratch/sums" ext4
	ok "$store: the image is right"
done
umount_at "$dir"
fs_check ext4 /dev/mapper/vol
