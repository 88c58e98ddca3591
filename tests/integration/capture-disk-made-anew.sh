#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Swap space, of which only the header is captured, becomes a file system while the capture reads: refused.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx busctl

disk_make "$scratch/source" 300M <<'TABLE'
label: gpt
size=100M
size=64M, type=swap
TABLE
source=$loop
fs_make ext4 "${source}p1"
fs_make swap "${source}p2"
mount_at "${source}p1" "$scratch/mnt"
agent_start AMBRO_TEST_PAUSE=mapped:4000
ambroctl capture "$source" -o "$scratch/image.zst" &>"$scratch/client.log" &
client=$!
is_tracked() { [[ -e /sys/fs/bpf/ambro/$((0x$(stat -c %t "$source"))):$((0x$(stat -c %T "$source")))/control ]]; }
wait_for 20 is_tracked || fail "it does not begin"
sleep 1
fs_make ext4 "${source}p2"
mount_at "${source}p2" "$scratch/new"
some_files "$scratch/new" 10
if wait "$client"; then fail "an image without the new file system is called valid"; fi
grep -q "made anew" "$scratch/client.log" || fail "$(cat "$scratch/client.log")"
[[ ! -e $scratch/image.zst ]] || fail "an image was left"
