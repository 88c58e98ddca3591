#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The output's disk is full: an error that says so, no file, and the server did not notice.
. "$(dirname "$0")/../lib/functions.sh"
require_root

truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
head -c 50M /dev/urandom >"$scratch/mnt/random"
mount_at tmpfs "$scratch/small" -t tmpfs -o size=4M
agent_start

expect_fail 1 "space" ambroctl capture "$loop" -o "$scratch/small/image.zst"
[[ -z $(ls -A "$scratch/small") ]] || fail "left: $(ls -A "$scratch/small")"
timeout 120 touch "$scratch/mnt/after" || fail "the file system stands still"
ambroctl capture "$loop" -o "$scratch/image.zst"
ambroctl verify "$scratch/image.zst"
