#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A file system that knows no freeze (FIFREEZE: EOPNOTSUPP), here ntfs-3g, beside one that does: it is flushed in
# its turn. Idle, the image is consistent; while it is written to, no more than crash-consistent is promised.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
require_root
require sfdisk partx ntfs-3g mkntfs fsfreeze jq

disk_make "$scratch/source" 200M <<'TABLE'
label: gpt
size=80M
size=80M
TABLE
source=$loop
fs_make ext4 "${source}p1"
mkntfs -q -F "${source}p2" 2>/dev/null
mount_at "${source}p1" "$scratch/mnt"
mkdir "$scratch/ntfs"
ntfs-3g "${source}p2" "$scratch/ntfs" 2>/dev/null || skip "ntfs-3g cannot mount here"
cleanup umount_at "$scratch/ntfs"
expect_fail 1 "not supported" fsfreeze -f "$scratch/ntfs"
some_files "$scratch/mnt" 10
some_files "$scratch/ntfs" 10
sums "$scratch/ntfs" >"$scratch/sums"
sync
agent_start

ambroctl capture "$source" -o "$scratch/image.zst"
[[ $(manifest "$scratch/image.zst" .guarantee) == filesystem-consistent ]] || fail "promises too little"
truncate -s 200M "$scratch/target"
loop_make "$scratch/target"
ambroctl restore "$scratch/image.zst" "$loop" --yes
partitions_add "$loop"
fs_check ext4 "${loop}p1"
mkdir "$scratch/copy"
ntfs-3g -o ro "${loop}p2" "$scratch/copy" 2>/dev/null || fail "the ntfs cannot be mounted"
cleanup umount_at "$scratch/copy"
sums "$scratch/copy" | cmp - "$scratch/sums" || fail "files differ"

busy() {
	while dd if=/dev/urandom of="$scratch/ntfs/busy.$1" bs=64k count=4 conv=notrunc,fsync status=none; do :; done
}
for i in 1 2 3; do
	busy $i 2>/dev/null &
	cleanup _stop_quietly $!
done
capture_start "$source" "$scratch/busy.zst"
capture_ends
say "busy: exit code $client_status: $(tail -n 3 "$scratch/busy.zst.log")"
case $client_status in
0) [[ $(manifest "$scratch/busy.zst" .guarantee) == crash-consistent ]] || fail "promises too much" ;;
6) ;; # it never was quiet for as long as the last pass takes
*) fail "exit code $client_status: $(cat "$scratch/busy.zst.log")" ;;
esac
timeout 120 touch "$scratch/mnt/alive" || fail "it stands still"
