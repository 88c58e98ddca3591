#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A repository on the very disk that is captured: refused where that cannot come to an end, before anything is read.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require_root
require jq

truncate -s 100M "$scratch/disk"
loop_make "$scratch/disk"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
ambroctl repo init --repo "$scratch/mnt/repo" >/dev/null
agent_start
expect_fail 6 "would lie on $loop" ambroctl capture "$loop" --repo "$scratch/mnt/repo" --strategy precopy -q
one_line "$scratch/expect.err"
[[ $(find "$scratch/mnt/repo/packs" -type f 2>/dev/null | wc -l) == 0 ]] || fail "something was written"
stands_still "$scratch/mnt" && fail "the file system stands still"

# the same repository seen by another name
mkdir "$scratch/other"
mount --bind "$scratch/mnt" "$scratch/other"
cleanup umount_at "$scratch/other"
expect_fail 6 "would lie on $loop" ambroctl capture "$loop" --repo "$scratch/other/repo" -q
