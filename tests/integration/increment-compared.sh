#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Where nobody knows what was written, all is read and what the parent has is not sent again: the same disk as a whole
# image of that moment gives, byte for byte.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/increment.sh"
require_root
require sfdisk partx python3
increment_ready

disk_make "$scratch/source" 300M <<'TABLE'
label: gpt
size=200M
size=60M
TABLE
fs_make ext4 "${loop}p1"
mount_at "${loop}p1" "$scratch/mnt"
some_files "$scratch/mnt/kept" 40
some_files "$scratch/mnt/gone" 20
umount_at "$scratch/mnt"
head -c 20M /dev/urandom >"${loop}p2"
sync

agent_start
whole parent "$loop"
mount_at "${loop}p1" "$scratch/mnt"
rm -r "$scratch/mnt/gone"
head -c 3M /dev/urandom >"$scratch/mnt/new"
umount_at "$scratch/mnt"
# zeros where something was, and something where zeros were
head -c 2M /dev/zero | dd of="${loop}p2" bs=1M seek=4 conv=nocreat,notrunc status=none
head -c 300000 /dev/urandom | dd of="${loop}p2" bs=1M seek=40 conv=nocreat,notrunc status=none
sync

increment compared "$loop" parent compared --no-track
[[ $(increment_told compared .reason) == *"nothing tracked"* ]] || fail "no reason"
whole now "$loop"
reader "$scratch/now.zst" "$scratch/now.raw"
cmp "$scratch/now.raw" "$scratch/compared.raw" >&2 || fail "not the disk"
read -r same data < <(jq -r '"\(.same) \(.data)"' "$scratch/compared.counts")
((same > data && data > 0)) || fail "$same chunks the same, $data sent"
(($(stat -c %s "$scratch/compared.delta") < $(stat -c %s "$scratch/now.zst") / 2)) || fail "all was sent again"
[[ $(increment_manifest compared .parent) == "$(manifest "$scratch/parent.zst" .image_id)" ]] || fail "no parent"
[[ $(increment_manifest compared .increment) == compared ]] || fail "not told"
[[ $(increment_manifest compared .track) == 2:* ]] || fail "no token for the next one"
[[ $(increment_manifest compared .capture.same_chunks) == "$same" ]] || fail "same_chunks"

# nothing that reads images takes a delta stream for one
expect_fail any "" ambroctl verify "$scratch/compared.delta"
expect_fail any "" zstd -tq "$scratch/compared.delta"

# another chunk size, another disk: nothing to compare with
increment other "$loop" parent full --chunk-shift 20
[[ $(increment_told other .reason) == *"another size"* ]] || fail "no reason"
truncate -s 200M "$scratch/small"
loop_make "$scratch/small"
increment small "$loop" parent full
[[ $(increment_told small .reason) == *"disk of another size"* ]] || fail "no reason"
ambroctl verify "$scratch/small.delta"

# a file is never tracked
cp --sparse=always "$scratch/source" "$scratch/file"
increment file "$scratch/file" parent compared
cmp "$scratch/now.raw" "$scratch/file.raw" >&2 || fail "not the file"
