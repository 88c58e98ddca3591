#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A file system in a loop device whose file lies on the disk, mounted later under a smaller mount id (they are
# used again): it is frozen before the one that it needs for its last writes.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl jq

truncate -s 300M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make ext4 "$source"
mount_at none "$scratch/first" -t tmpfs
mount_at "$source" "$scratch/low"
truncate -s 100M "$scratch/low/inner"
loop_make "$scratch/low/inner"
fs_make ext4 "$loop"
umount_at "$scratch/first"
mount_at "$loop" "$scratch/up"
noise_start "$scratch/up" 2
sleep 0.5

agent_start
timeout 120 "$O/ambroctl" capture "$source" -o "$scratch/image.zst" --max-freeze 3000 ||
	fail "the capture failed or hangs"
[[ $(manifest "$scratch/image.zst" .guarantee) == filesystem-consistent ]] || fail "wrong guarantee"
ambroctl verify "$scratch/image.zst"
ambroctl restore "$scratch/image.zst" "$scratch/restored" --yes
fs_check ext4 "$scratch/restored"
mount_at "$scratch/restored" "$scratch/low.restored" -o loop
fs_check ext4 "$scratch/low.restored/inner"
