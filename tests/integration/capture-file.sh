#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An image file is a disk, too.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk mkfs.vfat zstd

truncate -s 200M "$scratch/source"
sfdisk -q "$scratch/source" <<'TABLE'
label: dos
start=2048, size=60M, type=c
size=100M, type=83
TABLE
mkfs.vfat --offset 2048 "$scratch/source" $((60 << 10)) >/dev/null
some_files "$scratch/tree" 30
mkfs.ext4 -q -F -d "$scratch/tree" -E offset=$((61 << 20)) "$scratch/source" 100M
agent_start

ambroctl capture "$scratch/source" -o "$scratch/image.zst"
ambroctl verify "$scratch/image.zst"
[[ $(manifest "$scratch/image.zst" '[.regions[] | select(.kind == "partition").fs.type] | join(" ")') == "vfat ext4" ]] ||
	fail "regions: $(manifest "$scratch/image.zst" .regions)"
zstd -dcq "$scratch/image.zst" >"$scratch/disk"
[[ $(stat -c %s "$scratch/disk") == $((200 << 20)) ]] || fail "wrong size"
cmp -n $((61 << 20)) "$scratch/source" "$scratch/disk" || fail "the first 61 MiB differ"
dd if="$scratch/disk" of="$scratch/ext4" bs=1M skip=61 count=100 status=none
fs_check ext4 "$scratch/ext4"
ambroctl restore "$scratch/image.zst" "$scratch/ours" --yes
cmp "$scratch/ours" "$scratch/disk" || fail "restore and zstd do not agree"
