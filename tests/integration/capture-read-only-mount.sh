#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A file system that is mounted read-only cannot be frozen, and need not be.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx jq

disk_make "$scratch/source" 300M <<'TABLE'
label: gpt
size=120M
size=120M
TABLE
source=$loop
for i in 1 2; do
	fs_make ext4 "${source}p$i"
	mount_at "${source}p$i" "$scratch/mnt$i"
	some_files "$scratch/mnt$i" 20
	sums "$scratch/mnt$i" >"$scratch/$i.sums"
done
mount -o remount,ro "$scratch/mnt1"
sync
agent_start

# proves IMAGE
proves() {
	truncate -s 300M "$1.disk"
	loop_make "$1.disk"
	ambroctl restore "$1" "$loop" --yes
	partitions_add "$loop"
	for i in 1 2; do
		fs_check ext4 "${loop}p$i"
		mount_at "${loop}p$i" "$1.$i" -o ro
		sums "$1.$i" | cmp - "$scratch/$i.sums" || fail "partition $i differs"
	done
}
ambroctl capture "$source" -o "$scratch/one.zst"
proves "$scratch/one.zst"

mount -o remount,ro "$scratch/mnt2"
ambroctl capture "$source" -o "$scratch/both.zst"
proves "$scratch/both.zst"
