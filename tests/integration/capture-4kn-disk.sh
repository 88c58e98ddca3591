#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A disk with sectors of 4096 bytes, its GPT in these, ext4 and xfs mounted on it: captured live, it comes back
# on such a disk, whole; a disk with sectors of 512 bytes, where its table would mean nothing, is refused.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx blkid jq

truncate -s 700M "$scratch/source"
loop_make "$scratch/source" --sector-size 4096
source=$loop
[[ $(blockdev --getss "$source") == 4096 ]] || skip "loop devices have no sectors of 4096 bytes here"
printf 'label: gpt\nsize=150M\nsize=320M\nsize=16M, type=swap\n' | sfdisk -q --no-reread --no-tell-kernel "$source" >/dev/null
partitions_add "$source"
fs_make ext4 "${source}p1"
fs_make xfs "${source}p2"
fs_make swap "${source}p3"
for i in 1 2; do
	mount_at "${source}p$i" "$scratch/mnt$i"
	some_files "$scratch/mnt$i" 15
done
agent_start
witness_start one "$scratch/mnt1" --rate 100
witness_start two "$scratch/mnt2" --rate 100
ambroctl capture "$source" -o "$scratch/image.zst"
witness_stop one
witness_stop two
[[ $(manifest "$scratch/image.zst" .disk.logical_sector) == 4096 ]] || fail "$(reader --show "$scratch/image.zst")"

truncate -s 700M "$scratch/small"
loop_make "$scratch/small"
expect_fail any "sector" ambroctl restore "$scratch/image.zst" "$loop" --yes
(($(stat -c %b "$scratch/small") == 0)) || fail "the refused target was written to"

truncate -s 900M "$scratch/target"
loop_make "$scratch/target" --sector-size 4096
ambroctl restore "$scratch/image.zst" "$loop" --yes
sfdisk --verify "$loop" &>"$scratch/verify" || fail "the table: $(cat "$scratch/verify")"
partitions_add "$loop"
fs_check ext4 "${loop}p1"
fs_check xfs "${loop}p2"
[[ $(blkid -p -s TYPE -o value "${loop}p3") == swap ]] || fail "no swap"
mount_at "${loop}p1" "$scratch/copy1" -o ro
mount_at "${loop}p2" "$scratch/copy2" -o ro,nouuid
witness_check one "$scratch/copy1" "$scratch/image.zst"
witness_check two "$scratch/copy2" "$scratch/image.zst"
