#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What somebody uses is refused, --yes or not, with who it is, and not a byte of it changes.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx python3 sha256sum

head -c 4M /dev/urandom >"$scratch/raw"
img=$scratch/img
tool mkimage "$scratch/raw" "$img"

disk_make "$scratch/disk" 128M <<'TABLE'
label: gpt
size=40M
size=40M
TABLE
disk=$loop
# ext2: nothing of a mounted one moves while nobody writes
fs_make ext2 "${disk}p1"
fs_make swap "${disk}p2"

refused() {
	local before
	sync
	# not the second partition: while it is swap the kernel may well use it
	before=$(head -c 41M "$scratch/disk" | sha256sum)
	expect_fail 6 "$1" ambroctl restore --yes "$img" "$2"
	[[ $before == $(head -c 41M "$scratch/disk" | sha256sum) ]] || fail "refused ($1), but the disk has changed"
}

mount_at "${disk}p1" "$scratch/a mount" -o ro
refused "${disk}p1 is mounted on $scratch/a mount" "$disk"
refused "is mounted on $scratch/a mount" "${disk}p1"
umount_at "$scratch/a mount"

swap_off() { swapoff "${disk}p2" 2>/dev/null || :; }
cleanup swap_off
if swapon --priority 0 "${disk}p2"; then
	refused "${disk}p2 is in use as swap" "$disk"
	refused "in use as swap" "${disk}p2"
	swapoff "${disk}p2"
else
	say "note: no swap to be had here"
fi

# a file that is swapped on
truncate -s 32M "$scratch/swapdisk"
loop_make "$scratch/swapdisk"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/swapmnt"
dd if=/dev/zero of="$scratch/swapmnt/swap file" bs=1M count=8 status=none
chmod 600 "$scratch/swapmnt/swap file"
mkswap -q "$scratch/swapmnt/swap file"
swapfile_off() { swapoff "$scratch/swapmnt/swap file" 2>/dev/null || :; }
cleanup swapfile_off
if swapon --priority 0 "$scratch/swapmnt/swap file"; then
	refused "in use as swap" "$scratch/swapmnt/swap file"
	swapfile_off
else
	say "note: no swap to be had here"
fi
umount_at "$scratch/swapmnt"

loop_make "${disk}p1"
refused "is what $loop stands on" "${disk}p1"
refused "is what $loop stands on" "$disk"
# the file under a loop device
refused "is what $disk stands on" "$scratch/disk"
_loop_free "$loop" || :

hold() {
	python3 -c 'import os, sys, time
os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL); print("held", flush=True); time.sleep(600)' "$1" >"$scratch/held" &
	holder=$!
	cleanup _stop_quietly $holder
	wait_for 10 grep -q held "$scratch/held"
}
hold "$disk"
refused "process $holder (python3)" "$disk"
_stop_quietly $holder || :
hold "${disk}p2"
refused "held exclusively" "$disk"
_stop_quietly $holder || :

# and now nobody does
ambroctl restore --yes "$img" "${disk}p2" 2>/dev/null
same "$scratch/raw" "${disk}p2"
