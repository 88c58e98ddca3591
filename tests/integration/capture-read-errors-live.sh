#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An unreadable place in a file of a mounted, busy file system: the capture names it and nothing stays frozen;
# with --ignore-read-errors that place alone is zeros, and the rest is exact. A place that is not in use, or is
# written anew (and so readable), is not missed.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
require_root
require jq filefrag

truncate -s 200M "$scratch/source"
fault_disk "$scratch/source"
source=$loop
mkfs.ext4 -q -F -b 4096 "$source"
mount_at "$source" "$scratch/mnt"
some_files "$scratch/mnt/files" 10
head -c 4M /dev/urandom >"$scratch/mnt/hurt"
head -c 4M /dev/urandom >"$scratch/mnt/gone"
sync -f "$scratch/mnt"
# where_is FILE: the byte of the disk where it begins
where_is() { filefrag -b4096 -v "$1" | awk '$1 == "0:" { sub(/\.\..*/, "", $4); print $4 * 4096 }'; }
hurt=$(($(where_is "$scratch/mnt/hurt") + 40960))
gone=$(($(where_is "$scratch/mnt/gone") + 40960))
agent_start

printf '%s\n' "$hurt 8192" "$gone 4096" >"$scratch/source.faults"
lowest=$((hurt < gone ? hurt : gone))
expect_fail 1 "at byte $lowest " ambroctl capture "$source" -o "$scratch/image.zst"
[[ ! -e $scratch/image.zst ]] || fail "an image was left"
writes_go_on "$scratch/mnt"

rm "$scratch/mnt/gone"
sync -f "$scratch/mnt"
status=0
ambroctl capture "$source" -o "$scratch/image.zst" --ignore-read-errors --quiet || status=$?
((status == 4)) || fail "exit code $status"
told=$(manifest "$scratch/image.zst" '[.bad[] | .offset, .length] | join(" ")')
[[ $told == "$hurt 8192" ]] || fail "the manifest says: $told"
sums "$scratch/mnt/files" >"$scratch/sums"
: >"$scratch/source.faults"
cp "$scratch/mnt/hurt" "$scratch/hurt"
dd if=/dev/zero of="$scratch/hurt" bs=4096 seek=10 count=2 conv=notrunc status=none
ambroctl restore "$scratch/image.zst" "$scratch/restored" --yes
fs_check ext4 "$scratch/restored"
mount_at "$scratch/restored" "$scratch/copy" -o ro,loop
sums "$scratch/copy/files" | cmp - "$scratch/sums" || fail "files differ"
same "$scratch/hurt" "$scratch/copy/hurt"
