#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# "-" is a pipe; a pipe that breaks ends the capture with an error.
. "$(dirname "$0")/../lib/functions.sh"
require_root

truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
some_files "$scratch/mnt" 60
agent_start

ambroctl capture "$loop" -o - | cat >"$scratch/image.zst"
ambroctl verify "$scratch/image.zst"
reader "$scratch/image.zst" "$scratch/disk"
fs_check ext4 "$scratch/disk"

ambroctl capture "$loop" -o - 2>"$scratch/err" | head -c 1000000 >/dev/null && fail "a broken pipe is no success"
grep -q . "$scratch/err" || fail "it does not say why"
timeout 120 touch "$scratch/mnt/after" || fail "the file system stands still"
