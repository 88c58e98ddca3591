#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The agent is killed at every step of a capture through the module: the disk's writers go on, all that was
# acknowledged is there, and the next agent takes down what is left.
# vm-disks: 96M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

module_load
disk=${disks[0]} dir=$scratch/dir
fs_make ext4 "$disk"
mount_at "$disk" "$dir"
witness_start w "$dir" --rate 20 --size 4096 --threads 2
i=0
for step in $steps; do
	# with the store in the file system and in memory by turns
	agent_killed_at "$step" "$disk" --strategy kmod --cow "$( ((i++ % 3 == 2)) && echo ram || echo file)" \
		--cow-size 16M
	goes_on "$dir"
	next_agent_cleans "$dir"
	ok "killed at $step"
	goes_on "$dir"
done
witness_stop w
umount_at "$dir"
fs_check ext4 "$disk"
mount_at "$disk" "$dir"
tool ackwriter check "$dir" "$scratch/w.ack" --instant "$(date +%s%N)" >"$scratch/check" ||
	fail "acknowledged files: $(cat "$scratch/check")"
ok "acknowledged files: $(cat "$scratch/check")"
