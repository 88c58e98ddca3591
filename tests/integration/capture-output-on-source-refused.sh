#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An image on the disk that it shows would never end and could not be written while that is frozen.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx

disk_make "$scratch/source" 200M <<'TABLE'
label: gpt
size=90M
size=90M
TABLE
for i in 1 2; do
	fs_make ext4 "${loop}p$i"
	mount_at "${loop}p$i" "$scratch/mnt$i"
done
agent_start

for i in 1 2; do
	expect_fail 6 "disk" ambroctl capture "$loop" -o "$scratch/mnt$i/image.zst"
	[[ ! -e $scratch/mnt$i/image.zst ]] || fail "a file was left on partition $i"
done
expect_fail 6 "disk" ambroctl capture "$scratch/mnt1" -o "$scratch/mnt2/image.zst"
ambroctl capture "$loop" -o "$scratch/image.zst"
