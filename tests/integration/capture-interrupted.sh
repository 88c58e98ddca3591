#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In every phase of a capture its client is killed, or interrupted (Ctrl-C), or the agent is told to end: nothing
# stays frozen, no image is left, the interrupted client exits with 130, and the same agent (or the next) captures.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
require_root
require busctl jq

truncate -s 100M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make ext4 "$source"
mount_at "$source" "$scratch/mnt"
some_files "$scratch/mnt" 10
no_job() { [[ $(agent_call get-property Jobs) == "u 0" ]]; }
disk_is_free() { ! find "/proc/$agent_pid/fd" -lname "$source" | finds .; }

for step in tracking mapped frozen thawed written; do
	agent_start_pausing "$step"
	for signal in KILL INT agent; do
		agent_pauses_again
		image=$scratch/$step.$signal
		capture_start "$source" "$image"
		agent_comes_to "$step"
		if [[ $signal == agent ]]; then
			kill "$agent_pid"
			sleep 0.2
			agent_goes_on
			agent_ends
		else
			# bash starts it with SIGINT ignored, but it wants to know
			kill "-$signal" "$client"
			sleep 0.2
			agent_goes_on
		fi
		capture_ends
		[[ $signal != INT || $client_status == 130 ]] || fail "$step: exit code $client_status after SIGINT"
		((client_status != 0)) || fail "$step, $signal: the client thinks that all is well"
		[[ $signal == agent ]] || wait_for 30 no_job || fail "$step, $signal: the job goes on"
		[[ $signal == agent ]] || wait_for 30 disk_is_free || fail "$step, $signal: the disk is still open"
		writes_go_on "$scratch/mnt"
		[[ ! -e $image ]] || fail "$step, $signal: an image was left"
		left=$(find "$scratch" -maxdepth 1 -name "*$step.$signal*" ! -name '*.log')
		[[ $signal == KILL || ! $left ]] || fail "$step, $signal: left: $left"
	done
done
agent_start
ambroctl capture "$source" -o "$scratch/image.zst" --quiet
ambroctl verify "$scratch/image.zst"
