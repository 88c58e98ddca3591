#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What a stranger learns from `show`, and a program from `show --json`.
. "$(dirname "$0")/../lib/functions.sh"
require sfdisk jq

raw=$scratch/raw img=$scratch/img
truncate -s 64M "$raw"
sfdisk -q "$raw" <<<$'label: gpt\nsize=20M, name="odd\tname"\nsize=30M'
mkfs.ext4 -q -F -L data -E offset=$((21 << 20)) "$raw" 30M
tool mkimage "$raw" "$img"
ambroctl show "$img" >"$scratch/page"
for text in 'Host .*test' '[0-9:]* UTC' 'Guarantee .*offline: nothing was in use' 'gpt' 'partition 2 .*ext4 .*data' \
	'zstd -dc gives the disk' 'ratio [0-9]' 'Bad sectors *none'; do
	grep -qE -- "$text" "$scratch/page" || fail "it does not say '$text': $(cat "$scratch/page")"
done
! LC_ALL=C grep -q $'[\x01-\x08\x0b-\x1f]' "$scratch/page" || fail "control characters"

ambroctl show --json "$img" >"$scratch/json"
[[ $(jq -r .image_id "$scratch/json") == $(manifest "$img" .image_id) ]] || fail "another id than the second reader's"
[[ $(jq .file.size "$scratch/json") == $(stat -c %s "$img") ]] || fail "the file's size"
jq -e '.file.plain_zstd and (.regions | length) == 4' "$scratch/json" >/dev/null || fail "$(cat "$scratch/json")"

tool mkimage --sparse --bad $((40 << 20)):512 "$raw" "$img"
ambroctl show "$img" >"$scratch/page"
grep -q 'needs ambroctl: so much of the disk is empty' "$scratch/page" || fail "$(cat "$scratch/page")"
grep -q '512 bytes at byte 41943040' "$scratch/page" || fail "$(cat "$scratch/page")"
ambroctl restore "$img" "$scratch/out" >/dev/null 2>"$scratch/err"
grep -q '512 bytes of the disk could not be read' "$scratch/err" || fail "restore does not speak of bad sectors"

expect_fail 3 "not an image" ambroctl show "$raw"
expect_fail 2 "one image" ambroctl show
expect_fail 1 "No such file" ambroctl show "$scratch/none"
