#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A target with something on it is named, with what would be lost, and left alone until somebody says yes.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx script sha256sum

head -c 4M /dev/urandom >"$scratch/raw"
img=$scratch/img
tool mkimage "$scratch/raw" "$img"

disk_make "$scratch/disk" 200M <<'TABLE'
label: gpt
size=90M
size=90M
TABLE
fs_make ext4 "${loop}p1" precious
mount_at "${loop}p1" "$scratch/was here"
umount_at "$scratch/was here"
fs_make btrfs "${loop}p2" || skip "no mkfs.btrfs for this size"
sync
before=$(sha256sum <"$scratch/disk")
unchanged() { [[ $before == $(sha256sum <"$scratch/disk") ]] || fail "the disk has changed"; }

expect_fail 6 "is not empty; --yes overwrites it" ambroctl restore "$img" "$loop"
for text in "a gpt partition table" 'partition 1: 90.0 MiB, ext4, label "precious", last mounted on '"$scratch/was here" \
	'partition 2: 90.0 MiB, btrfs'; do
	grep -qF -- "$text" "$scratch/expect.err" || fail "it does not say: $text"
done
unchanged

# on a terminal it asks
terminal() { script -qec "$(printf '%q ' "$O/ambroctl" restore "$img" "$loop")" /dev/null; }
got=0
echo no | terminal >"$scratch/tty" || got=$?
[[ $got == 6 ]] || fail "exit code $got after no: $(cat "$scratch/tty")"
grep -q 'Type yes' "$scratch/tty" && grep -q 'not confirmed' "$scratch/tty" || fail "$(cat "$scratch/tty")"
unchanged
(sleep 1 && echo yes && sleep 1) | terminal >"$scratch/tty" || fail "$(cat "$scratch/tty")"
same "$scratch/raw" "$loop"

# nothing known, but not zeros: asked for as well; only zeros: not
truncate -s 0 "$scratch/other"
truncate -s 8M "$scratch/other"
loop_make "$scratch/other"
ambroctl restore "$img" "$loop" 2>/dev/null
expect_fail 6 "data of an unknown kind" ambroctl restore "$img" "$loop"
