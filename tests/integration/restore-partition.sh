#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# One partition of a disk's image: into another disk's partition, whose neighbours do not change, and into a file.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx sha256sum

raw=$scratch/raw img=$scratch/img
head -c 120M /dev/urandom >"$raw"
sfdisk -q "$raw" <<<$'label: gpt\nsize=30M\nsize=50M\nsize=20M'
mkfs.ext4 -q -F -L inner -E offset=$((31 << 20)) "$raw" 50M
tool mkimage "$raw" "$img"

disk_make "$scratch/disk" 200M <<<$'label: gpt\nsize=40M\nsize=60M\nsize=40M\nsize=10M'
head -c 40M /dev/urandom >"${loop}p1"
head -c 40M /dev/urandom >"${loop}p3"
sync
around() { { dd if="$scratch/disk" bs=1M count=41 && dd if="$scratch/disk" bs=1M skip=101; } 2>/dev/null | sha256sum; }
before=$(around)
ambroctl restore --partition 2 --verify "$img" "${loop}p2" 2>/dev/null
cmp -i $((31 << 20)):0 -n $((50 << 20)) "$raw" "${loop}p2" || fail "the partition differs"
fs_check ext4 "${loop}p2"
[[ $before == $(around) ]] || fail "something beside the partition has changed"
expect_fail 6 "too small" ambroctl restore --partition 2 --yes "$img" "${loop}p4"

ambroctl restore --partition 3 "$img" "$scratch/three" 2>/dev/null
cmp -i $((81 << 20)):0 -n $((20 << 20)) "$raw" "$scratch/three" || fail "the file differs"
[[ $(stat -c %s "$scratch/three") == $((20 << 20)) ]] || fail "the file's size"
