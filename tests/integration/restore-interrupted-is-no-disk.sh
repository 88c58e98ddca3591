#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Killed in the middle, or stopped by Ctrl-C: no partition table, no superblock, neither the image's nor the
# one that was there before.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk sgdisk blkid cmp

raw=$scratch/raw img=$scratch/img
head -c 600M /dev/urandom >"$raw"
sfdisk -q "$raw" <<<$'label: gpt\nsize=500M'
tool mkimage "$raw" "$img"

truncate -s 700M "$scratch/disk"
sfdisk -q "$scratch/disk" <<<$'label: gpt\nsize=100M\nsize=100M'
loop_make "$scratch/disk"

started() {
	blockdev --flushbufs "$loop"
	! cmp -s -n 4096 -i $((8 << 20)):0 "$loop" /dev/zero
}
no_disk() {
	sync
	blockdev --flushbufs "$loop"
	cmp -s -n $((1 << 20)) "$loop" /dev/zero || fail "$1: the first MiB has something"
	cmp -s -n $((1 << 20)) -i $((699 << 20)):0 "$loop" /dev/zero || fail "$1: the last MiB has something"
	! sfdisk -d "$loop" &>/dev/null || fail "$1: sfdisk finds a table"
	! blkid -p "$loop" >/dev/null || fail "$1: blkid finds something"
}

for signal in KILL INT; do
	"$O/ambroctl" restore --yes --threads 1 "$img" "$loop" >"$scratch/out" 2>"$scratch/err" &
	pid=$!
	cleanup _stop_quietly $pid
	wait_for 30 started || fail "nothing is written: $(cat "$scratch/err")"
	kill -$signal $pid
	got=0
	wait $pid || got=$?
	if [[ $signal == KILL ]]; then
		[[ $got == 137 ]] || fail "it had ended before it was killed ($got)"
	else
		[[ $got == 130 ]] || fail "exit code $got after SIGINT"
		grep -q "$loop is now incomplete" "$scratch/err" || fail "$(cat "$scratch/err")"
	fi
	no_disk $signal
	# so that the next round sees its own beginning
	dd if=/dev/zero of="$loop" bs=1M seek=8 count=1 status=none
done

# the second time it goes through
ambroctl restore --yes "$img" "$loop" 2>/dev/null
sgdisk -v "$loop" | finds 'No problems found' || fail "sgdisk -v"
