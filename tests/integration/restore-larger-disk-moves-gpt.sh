#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# On a larger disk the backup GPT moves to the end, both tables check, and the partitions are the same bytes
# and known to the kernel.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk sgdisk jq partx

raw=$scratch/raw img=$scratch/img
truncate -s 200M "$raw"
sfdisk -q "$raw" <<'TABLE'
label: gpt
size=50M, name=first
size=100M, name=second
TABLE
mkfs.ext4 -q -F -L first -E offset=$((1 << 20)) "$raw" 50M
head -c 20M /dev/urandom | dd of="$raw" bs=1M seek=60 conv=notrunc status=none
tool mkimage "$raw" "$img"
sfdisk -d "$raw" | grep -vE '^(device|last-lba):' | sed "s|$raw|X|" >"$scratch/table"

truncate -s 300M "$scratch/big"
loop_make "$scratch/big"
ambroctl restore --verify --json "$img" "$loop" >"$scratch/json"
jq -e '.table_moved and .partitions == 2 and .verified' "$scratch/json" >/dev/null ||
	fail "JSON: $(cat "$scratch/json")"
sgdisk -v "$loop" >"$scratch/sgdisk" || fail "sgdisk -v"
grep -q 'No problems found' "$scratch/sgdisk" || fail "$(cat "$scratch/sgdisk")"
sfdisk --verify "$loop" >/dev/null
sfdisk -d "$loop" | grep -vE '^(device|last-lba):' | sed "s|${loop}p|X|" | diff "$scratch/table" - ||
	fail "the table has changed"
cmp -i $((1 << 20)):$((1 << 20)) -n $((150 << 20)) "$raw" "$loop" || fail "the data differ"
partitions_add "$loop"
fs_check ext4 "${loop}p1"

# of the same size: not a byte differs
truncate -s 200M "$scratch/equal"
loop_make "$scratch/equal"
ambroctl restore "$img" "$loop" 2>/dev/null
cmp "$raw" "$loop" || fail "not the same bytes on a disk of the same size"

# a file that is larger than the disk was
truncate -s 250M "$scratch/file"
ambroctl restore --yes --json "$img" "$scratch/file" 2>/dev/null | jq -e .table_moved >/dev/null
sgdisk -v "$scratch/file" | finds 'No problems found' || fail "sgdisk -v of a file"
