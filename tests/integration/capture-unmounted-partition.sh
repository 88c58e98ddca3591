#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# One partition alone, not mounted, of a disk that is otherwise in use.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx jq

disk_make "$scratch/source" 300M <<'TABLE'
label: gpt
size=120M
size=120M
TABLE
source=$loop
fs_make ext4 "${source}p1"
fs_make ext4 "${source}p2"
mount_at "${source}p2" "$scratch/mnt"
some_files "$scratch/mnt" 40
sums "$scratch/mnt" >"$scratch/sums"
umount_at "$scratch/mnt"
mount_at "${source}p1" "$scratch/other"
noise_start "$scratch/other"
agent_start

ambroctl capture "${source}p2" -o "$scratch/image.zst"
[[ $(manifest "$scratch/image.zst" .strategy) == offline ]] || fail "not offline"
[[ $(manifest "$scratch/image.zst" '.regions | length') == 1 ]] || fail "more than a partition"
[[ $(manifest "$scratch/image.zst" .disk.size) == $((120 << 20)) ]] || fail "wrong size"
ambroctl restore "$scratch/image.zst" "$scratch/disk" --yes
fs_check ext4 "$scratch/disk"
mount_at "$scratch/disk" "$scratch/restored" -o ro,loop
sums "$scratch/restored" | cmp - "$scratch/sums" || fail "files differ"
