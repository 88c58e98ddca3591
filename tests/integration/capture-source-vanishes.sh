#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The disk is pulled out in the middle of its capture, mounted or not: the capture fails and says where it
# could not read, leaves no image and nothing frozen, and the agent lives on and captures another disk.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
require_root
require mkfifo jq

agent_start
mkfifo "$scratch/pipe"
exec 9<>"$scratch/pipe" # nobody reads it: holds a capture in its middle

# vanishes NAME: job number $job reads $loop into the pipe; then the disk goes, and the pipe flows
job=0
is_reading() { [[ $(job_property "$job" BytesRead 2>/dev/null) =~ ^"t "[1-9] ]]; }
vanishes() {
	job=$((job + 1))
	capture_start "$loop" "$scratch/pipe"
	wait_for 60 is_reading || fail "it does not read: $(cat "$scratch/pipe.log")"
	fault_disk_vanish "$scratch/$1"
	cat <&9 >/dev/null &
	local drain=$!
	capture_ends
	_stop_quietly "$drain" || :
	[[ $client_status == 1 ]] || fail "exit code $client_status: $(cat "$scratch/pipe.log")"
	grep -q "cannot read .* at byte [0-9]* .*Input/output error" "$scratch/pipe.log" ||
		fail "$1: it says only: $(cat "$scratch/pipe.log")"
}

for name in offline live; do
	truncate -s 160M "$scratch/$name"
	fault_disk "$scratch/$name"
	fs_make ext4 "$loop"
	mount_at "$loop" "$scratch/mnt.$name"
	head -c 70M /dev/urandom >"$scratch/mnt.$name/random"
	sync -f "$scratch/mnt.$name"
	[[ $name == live ]] || umount_at "$scratch/mnt.$name"
	vanishes "$name"
done
timeout 120 umount "$scratch/mnt.live" || fail "the dead disk is still held"

# in the frozen moment
agent_stop
agent_start_pausing frozen
truncate -s 100M "$scratch/frozen"
fault_disk "$scratch/frozen"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt.frozen"
some_files "$scratch/mnt.frozen" 10
witness_start writer "$scratch/mnt.frozen" --rate 100
capture_start "$loop" "$scratch/frozen.zst"
agent_comes_to frozen
fault_disk_vanish "$scratch/frozen"
agent_goes_on
capture_ends
((client_status == 1)) || fail "exit code $client_status: $(cat "$scratch/frozen.zst.log")"
[[ ! -e $scratch/frozen.zst ]] || fail "an image was left"
witness_stop writer
timeout 120 umount "$scratch/mnt.frozen" || fail "the dead disk is still frozen, or held"

truncate -s 50M "$scratch/other"
loop_make "$scratch/other"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
ambroctl capture "$loop" -o "$scratch/image.zst" --quiet
ambroctl verify "$scratch/image.zst"
