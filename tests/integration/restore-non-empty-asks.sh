#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A target with something on it is named, with what would be lost, and left alone until somebody says yes.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx script sha256sum mkfs.btrfs

head -c 4M /dev/urandom >"$scratch/raw"
img=$scratch/img
tool mkimage "$scratch/raw" "$img"

disk_make "$scratch/disk" 260M <<'TABLE'
label: gpt
size=90M
size=120M
TABLE
fs_make ext4 "${loop}p1" precious
mount_at "${loop}p1" "$scratch/was here"
# opening a file is when ext4 notes where it is mounted
echo x >"$scratch/was here/file"
umount_at "$scratch/was here"
fs_make btrfs "${loop}p2"
sync
before=$(sha256sum <"$scratch/disk")
unchanged() { [[ $before == $(sha256sum <"$scratch/disk") ]] || fail "the disk has changed"; }

expect_fail 6 "is not empty; --yes overwrites it" ambroctl restore "$img" "$loop"
for text in "a gpt partition table" 'partition 1: 90.0 MiB, ext4, label "precious", last mounted on '"$scratch/was here" \
	'partition 2: 120.0 MiB, btrfs'; do
	grep -qF -- "$text" "$scratch/expect.err" || fail "it does not say: $text: $(cat "$scratch/expect.err")"
done
unchanged

# on a terminal it asks
terminal() { script -qec "$(printf '%q ' "$O/ambroctl" restore "$img" "$loop")" /dev/null; }
got=0
echo no | terminal >"$scratch/tty" || got=$?
[[ $got == 6 ]] || fail "exit code $got after no: $(cat "$scratch/tty")"
for text in 'Type yes' 'not confirmed'; do
	grep -q "$text" "$scratch/tty" || fail "$(cat "$scratch/tty")"
done
unchanged
(sleep 1 && echo yes && sleep 3) | terminal >"$scratch/tty" || fail "$(cat "$scratch/tty")"
same "$scratch/raw" "$loop"

# nothing known, but not zeros: asked for as well; only zeros: not
truncate -s 0 "$scratch/other"
truncate -s 8M "$scratch/other"
loop_make "$scratch/other"
ambroctl restore "$img" "$loop" 2>/dev/null
expect_fail 6 "data of an unknown kind" ambroctl restore "$img" "$loop"
