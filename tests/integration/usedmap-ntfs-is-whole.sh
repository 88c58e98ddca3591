#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the map of an NTFS leaves out is in no file; mounted through FUSE it is read whole.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
require_root
# shellcheck source=tests/lib/usedmap.sh
. "$top/tests/lib/usedmap.sh"

require mkfs.ntfs partclone.ntfs ntfs-3g ntfsfix
truncate -s 300M "$scratch/disk.img"
mkfs.ntfs -q -F -Q "$scratch/disk.img" >/dev/null 2>&1
loop_make "$scratch/disk.img"
mkdir "$scratch/mnt"
ntfs-3g "$loop" "$scratch/mnt" || skip "ntfs-3g cannot mount here"
cleanup umount_at "$scratch/mnt"
fs_wear "$scratch/mnt"
sums "$scratch/mnt" >"$scratch/sums"
usedmap_copy "$loop" "$scratch/copy" live
map_whole 0 fuse
umount "$scratch/mnt"
driver_gone() { ! pgrep -f "ntfs-3g $loop" >/dev/null; }
wait_for 10 driver_gone

usedmap_copy "$loop" "$scratch/copy" offline
map_is 0 partclone.ntfs
map_saves 0 30
loop_make "$scratch/copy"
ntfsfix -n "$loop" >/dev/null || fail "ntfsfix -n finds something"
ntfs-3g -o ro "$loop" "$scratch/mnt"
(sums "$scratch/mnt") | cmp - "$scratch/sums" || fail "files differ in a copy of NTFS"
umount "$scratch/mnt"
