#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The second reader, which shares no code with ours, makes the same bytes of an image.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx zstd python3 jq

disk_make "$scratch/source" 300M <<'TABLE'
label: gpt
size=120M
size=64M
TABLE
source=$loop
fs_make ext4 "${source}p1"
fs_make ext4 "${source}p2"
mount_at "${source}p1" "$scratch/mnt"
some_files "$scratch/mnt" 40
umount_at "$scratch/mnt"
agent_start

# both_readers IMAGE: restore with both and compare
both_readers() {
	ambroctl restore "$1" "$1.ours" --yes
	reader "$1" "$1.theirs"
	reader --walk "$1"
	cmp "$1.ours" "$1.theirs" || fail "$1: the readers do not agree"
}

ambroctl capture "$source" -o "$scratch/offline.zst"
both_readers "$scratch/offline.zst"
zstd -dcq "$scratch/offline.zst" | cmp - "$scratch/offline.zst.theirs" || fail "zstd does not agree"

ambroctl capture "${source}p2" -o "$scratch/partition.zst"
both_readers "$scratch/partition.zst"
cmp -n $((64 << 20)) "$scratch/partition.zst.ours" \
	<(tail -c +$((1 + $(manifest "$scratch/offline.zst" '.regions[] | select(.partition == 2).start'))) \
		"$scratch/offline.zst.ours") || fail "the partition differs from the disk's"

mount_at "${source}p1" "$scratch/mnt"
noise_start "$scratch/mnt" 8
sleep 0.5
ambroctl capture "$source" -o "$scratch/live.zst"
both_readers "$scratch/live.zst"
reader --partition 1 "$scratch/live.zst" "$scratch/one"
start=$(manifest "$scratch/live.zst" '.regions[] | select(.partition == 1).start')
cmp -n "$(stat -c %s "$scratch/one")" "$scratch/one" <(tail -c +$((start + 1)) "$scratch/live.zst.ours") ||
	fail "reader.py --partition differs"

# and both refuse what is damaged
size=$(stat -c %s "$scratch/offline.zst")
frames=$(od -An -tu4 -j $((size - 9)) -N 4 "$scratch/offline.zst")
trailer=$((size - 17 - 8 * frames - 160))
for place in 60 $((size / 3)) $((size / 2)) $((trailer - 100)) $((trailer + 100)) $((size - 5)); do
	cp "$scratch/offline.zst" "$scratch/bad.zst"
	byte=$(od -An -tu1 -j "$place" -N 1 "$scratch/bad.zst")
	printf '%b' "\\x$(printf %x $((byte ^ 16)))" |
		dd of="$scratch/bad.zst" bs=1 seek="$place" conv=notrunc status=none
	expect_fail 1 "" reader "$scratch/bad.zst" "$scratch/bad.out"
	expect_fail 3 "" ambroctl verify "$scratch/bad.zst"
done
truncate -s $((size - 1000)) "$scratch/offline.zst"
expect_fail 1 "" reader "$scratch/offline.zst" "$scratch/bad.out"
expect_fail 3 "" ambroctl verify "$scratch/offline.zst"
