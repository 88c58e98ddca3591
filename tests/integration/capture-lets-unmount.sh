#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# While a capture reads, its file systems can be unmounted and others mounted, and the image has them as they
# are at its instant.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl sfdisk partx jq

disk_make "$scratch/source" 300M <<'TABLE'
label: gpt
size=100M
size=100M
TABLE
source=$loop
for i in 1 2; do
	fs_make ext4 "${source}p$i"
	mount_at "${source}p$i" "$scratch/$i"
	some_files "$scratch/$i" 20
done
umount_at "$scratch/2"
sync

agent_start AMBRO_TEST_PAUSE=mapped:3000
ambroctl capture "$source" -o "$scratch/image.zst" &>"$scratch/client.log" &
client=$!
umount_first() { umount "$scratch/1" 2>/dev/null; }
is_tracked() { [[ -e /sys/fs/bpf/ambro/$((0x$(stat -c %t "$source"))):$((0x$(stat -c %T "$source")))/control ]]; }
wait_for 20 is_tracked || fail "it does not begin"
sleep 1
wait_for 5 umount_first || fail "the capture keeps a file system mounted"
mount_at "${source}p2" "$scratch/2"
some_files "$scratch/2/more" 20
sums "$scratch/2" >"$scratch/sums"
wait "$client" || fail "$(cat "$scratch/client.log")"
[[ $(manifest "$scratch/image.zst" .guarantee) == filesystem-consistent ]] || fail "wrong guarantee"

umount_at "$scratch/2"
truncate -s 300M "$scratch/target"
loop_make "$scratch/target"
ambroctl restore "$scratch/image.zst" "$loop" --yes
partitions_add "$loop"
fs_check ext4 "${loop}p1"
fs_check ext4 "${loop}p2"
mount_at "${loop}p2" "$scratch/restored" -o ro
sums "$scratch/restored" | cmp - "$scratch/sums" || fail "files differ"
