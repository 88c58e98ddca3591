#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The target fails in the middle (its medium is full): an error that says what and where, and no disk on it.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk blkid cmp

raw=$scratch/raw img=$scratch/img
head -c 64M /dev/urandom >"$raw"
sfdisk -q "$raw" <<<$'label: gpt\nsize=50M'
tool mkimage "$raw" "$img"
mount_at tmpfs "$scratch/small" -t tmpfs -o size=24M

no_disk() {
	grep -q "$1 is now incomplete" "$scratch/expect.err" || fail "$(cat "$scratch/expect.err")"
	cmp -s -n $((1 << 20)) "$1" /dev/zero || fail "$1: the first MiB has something"
	! blkid -p "$1" >/dev/null || fail "$1: blkid finds something"
}

# a file on a file system that is too small
expect_fail 1 "No space left on device" timeout 120 "$O/ambroctl" restore "$img" "$scratch/small/new"
no_disk "$scratch/small/new"
# and with the beginning of a disk on it
head -c 1M "$raw" >"$scratch/small/new"
expect_fail 1 "No space left on device" timeout 120 "$O/ambroctl" restore --yes "$img" "$scratch/small/new"
no_disk "$scratch/small/new"
rm "$scratch/small/new"

# a disk that promises more than it has
truncate -s 64M "$scratch/small/disk"
loop_make "$scratch/small/disk"
for verify in '' --verify; do
	# shellcheck disable=SC2086
	expect_fail 1 "$loop" timeout 120 "$O/ambroctl" restore --yes $verify "$img" "$loop"
	grep -qE 'byte [0-9]+|medium' "$scratch/expect.err" || fail "it does not say where: $(cat "$scratch/expect.err")"
	blockdev --flushbufs "$loop"
	no_disk "$loop"
done
