#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Where the image has nothing, nothing of the old disk may look like something: superblocks at the beginning
# and labels at the end of a region and of the disk are gone, with --no-discard too. Other free space stays then.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx blkid cmp

raw=$scratch/raw img=$scratch/img
truncate -s 64M "$raw"
sfdisk -q "$raw" <<<$'label: gpt\nstart=2048, size=40M'
tool mkimage --chunk-shift 16 --free $((1 << 20)):$((40 << 20)) "$raw" "$img"

for option in '' --no-discard; do
	head -c 100M /dev/urandom >"$scratch/disk"
	loop_make "$scratch/disk"
	mkfs.ext4 -q -F -E nodiscard,offset=$((1 << 20)) "$loop" 40M
	# md 1.0 and GPT live at the end, ZFS and others too: any byte there counts
	# shellcheck disable=SC2086
	ambroctl restore --yes $option "$img" "$loop" 2>/dev/null
	partitions_add "$loop"
	[[ ! $(blkid -p -o value -s TYPE "${loop}p1") ]] || fail "$(blkid -p "${loop}p1")"
	cmp -s -n $((1 << 20)) "${loop}p1" /dev/zero || fail "the partition's first MiB is old"
	cmp -s -n $((1 << 20)) -i $((39 << 20)):0 "${loop}p1" /dev/zero || fail "the partition's last MiB is old"
	cmp -s -n $((900 << 10)) -i $((99 << 20)):0 "$loop" /dev/zero || fail "the disk's last MiB is old"
	if [[ $option ]]; then
		! cmp -s -n $((1 << 20)) -i $((20 << 20)):0 "${loop}p1" /dev/zero ||
			fail "free space was touched in spite of --no-discard"
	fi
	_loop_free "$loop" || :
done
