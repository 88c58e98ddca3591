#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The agent is killed at every step of a capture by dm: the volume's writers go on, all that was acknowledged is
# there, and the next agent takes down what is left.
# vm-disks: 96M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

volume_make vol "${disks[0]}"
dir=$scratch/vol
fs_make ext4 /dev/mapper/vol
mount_at /dev/mapper/vol "$dir"
witness_start w "$dir" --rate 20 --size 4096 --threads 2
i=0
for step in $steps; do
	# with the store in the file system and in memory by turns
	agent_killed_at "$step" /dev/mapper/vol --strategy dm --cow "$( ((i++ % 3 == 2)) && echo ram || echo file)" \
		--cow-size 16M
	goes_on "$dir"
	next_agent_cleans "$dir"
	check_equal "killed at $step: the volume has its table" "$table" "$(dmsetup table vol)"
	goes_on "$dir"
done
witness_stop w
umount_at "$dir"
fs_check ext4 /dev/mapper/vol
mount_at /dev/mapper/vol "$dir"
tool ackwriter check "$dir" "$scratch/w.ack" --instant "$(date +%s%N)" >"$scratch/check" || fail "acknowledged files: $(cat "$scratch/check")"
ok "acknowledged files: $(cat "$scratch/check")"
