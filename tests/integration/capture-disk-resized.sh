#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A disk that grows or shrinks while it is captured, mounted or not, is no image; one that is only told to go
# (losetup -d, while we have it open) stays until the capture is done.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
require_root
require jq

agent_start_pausing mapped
for how in offline precopy; do
	for to in 80M 40M; do
		truncate -s 60M "$scratch/source"
		loop_make "$scratch/source"
		mkfs.ext4 -q -F "$loop" 30M # of which the last pages of the disk are no part
		[[ $how == offline ]] || mount_at "$loop" "$scratch/mnt"
		agent_pauses_again
		capture_start "$loop" "$scratch/image.zst" --ignore-read-errors
		agent_comes_to mapped
		truncate -s $to "$scratch/source"
		losetup -c "$loop"
		agent_goes_on
		capture_ends
		((client_status == 1)) || fail "$how, $to: exit code $client_status: $(cat "$scratch/image.zst.log")"
		grep -q "size .*changed" "$scratch/image.zst.log" || fail "$how, $to: $(cat "$scratch/image.zst.log")"
		[[ ! -e $scratch/image.zst ]] || fail "an image was left"
		[[ $how == offline ]] || umount_at "$scratch/mnt"
		_loop_free "$loop" || :
		rm "$scratch/source"
	done
done

head -c 60M /dev/urandom >"$scratch/source"
loop_make "$scratch/source"
agent_pauses_again
capture_start "$loop" "$scratch/image.zst"
agent_comes_to mapped
losetup -d "$loop"
agent_goes_on
capture_ends
((client_status == 0)) || fail "exit code $client_status: $(cat "$scratch/image.zst.log")"
ambroctl restore "$scratch/image.zst" "$scratch/restored" --yes
cmp "$scratch/source" "$scratch/restored"
