#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The agent is stopped, or its guardian killed, at a step between freeze and thaw, by kmod and by dm: the file system is
# thawed nevertheless, the snapshot that was begun counts for nothing, and the next attempt makes a right image.
# vm-disks: 64M 64M
# vm-modules: dm-snapshot
# vm-timeout: 900
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"
. "$top/tests/lib/faults.sh"

module_load
disk=${disks[0]} volume=/dev/mapper/vol
volume_make vol "${disks[1]}"
fs_make ext4 "$disk"
fs_make ext4 "$volume"
mount_at "$disk" "$scratch/kmod"
mount_at "$volume" "$scratch/dm"
for d in kmod dm; do
	made_files "$scratch/$d/files" 4
	(cd "$scratch/$d" && find files -type f -print0 | xargs -0 sha256sum) >"$scratch/sums.$d"
done

# freezes: how often the agent came to where it stands between freeze and thaw.
freezes() { grep -cx "pause: $1" "$agent_log"; }

# disturbed WHAT STEP STRATEGY SOURCE: WHAT is stop (the agent, until after the guardian's deadline) or guardian (killed).
disturbed() {
	local dir=$scratch/$3 limit=60000 name=$1-$2-$3 stopped
	[[ $1 != stop ]] || limit=3000
	agent_log=$scratch/agent-$name.log
	agent_start_pausing "$2"
	stopped=$agent_pid
	mkdir "$dir/$name"
	witness_start "$name" "$dir/$name" --rate 20 --size 4096
	capture_start "$4" "$scratch/$name.img" --strategy "$3" --cow ram --cow-size 8M --max-freeze "$limit"
	agent_comes_to "$2"
	if [[ $1 == stop ]]; then
		kill -STOP "$stopped"
	else
		kill -KILL "$(pgrep -P "$stopped" -x ambro-guardian)"
	fi
	goes_on "$dir"
	agent_goes_on
	[[ $1 != stop ]] || kill -CONT "$stopped"
	capture_ends
	witness_stop "$name"
	check_equal "$name: captured in the end ($(tail -n 1 "$scratch/$name.img.log"))" 0 "$client_status"
	check "$name: by another attempt" test "$(freezes "$2")" -ge 2
	agent_stop
	nothing_left "$dir"
	image_restores "$scratch/$name.img" "$name" "$scratch/sums.$3" ext4
	rm -r "${dir:?}/$name" "$scratch/$name.img"
}
for step in frozen resumed on; do
	disturbed stop "$step" kmod "$disk"
done
disturbed guardian on kmod "$disk"
disturbed stop resumed dm "$volume"
disturbed guardian on dm "$volume"
check_equal "the volume has its table" "$table" "$(dmsetup table vol)"
umount_at "$scratch/kmod"
umount_at "$scratch/dm"
fs_check ext4 "$disk"
fs_check ext4 "$volume"
