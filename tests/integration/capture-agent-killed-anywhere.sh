#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The agent is killed in every phase of a capture. Each time: the file system takes writes at once, nothing of
# the agent is left that holds the disk, no image has its name, and the next agent's image, made with the
# tracking that it finds, has what was written meanwhile.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
require_root
require jq mkfifo

truncate -s 160M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make xfs "$source" 2>/dev/null || fs_make ext4 "$source"
type=$(blkid -p -s TYPE -o value "$source")
mount_at "$source" "$scratch/mnt"
some_files "$scratch/mnt" 20
# not compressible, so that a pipe that nobody reads holds the capture while it reads
head -c 24M /dev/urandom >"$scratch/mnt/random"
expedited=$(cat /sys/kernel/rcu_expedited)
mkfifo "$scratch/pipe"
exec 9<>"$scratch/pipe"

is_reading() { [[ $(job_property 1 BytesRead 2>/dev/null) =~ ^"t "[1-9] ]]; }
expedited_is_back() { [[ $(cat /sys/kernel/rcu_expedited) == "$expedited" ]]; }

for step in tracking mapped reading frozen thawed written; do
	agent_start_pausing "$step"
	image=$scratch/$step.zst
	if [[ $step == reading ]]; then
		capture_start "$source" "$scratch/pipe"
		wait_for 60 is_reading || fail "it does not read: $(cat "$scratch/pipe.log")"
	else
		capture_start "$source" "$image" --max-freeze 30000
		agent_comes_to "$step"
	fi
	agent_dies
	writes_go_on "$scratch/mnt"
	capture_ends
	((client_status != 0)) || fail "$step: the client thinks that all is well"
	[[ ! -e $image ]] || fail "$step: an image was left"
	nobody_views "$source" || fail "$step: $(losetup -l)"
	wait_for 5 expedited_is_back || fail "$step: rcu_expedited stayed $(cat /sys/kernel/rcu_expedited)"

	# while nobody but the pinned programs looks
	head -c 1M /dev/urandom | dd of="$scratch/mnt/random" bs=1M seek=$((RANDOM % 24)) conv=notrunc status=none
	echo "$step" >"$scratch/mnt/step"
	sums "$scratch/mnt" >"$scratch/sums"
	agent_start
	ambroctl capture "$source" -o "$image" --quiet
	agent_ends
	ambroctl restore "$image" "$scratch/restored" --yes 2>"$scratch/restore.log"
	loop_make "$scratch/restored"
	fs_check "$type" "$loop"
	mount_at "$loop" "$scratch/copy" -o "ro$([[ $type == xfs ]] && echo ,nouuid)"
	sums "$scratch/copy" | cmp - "$scratch/sums" || fail "$step: the next image is not right"
	umount_at "$scratch/copy"
	_loop_free "$loop" || :
	rm "$scratch/restored" "$image"
done
