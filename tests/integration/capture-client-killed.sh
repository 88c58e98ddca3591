#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A client that goes away takes its capture with it: the job ends, the disk is let go, the next one works.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl jq

truncate -s 300M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
head -c 60M /dev/urandom >"$scratch/mnt/random"
sync
agent_start

no_job() { [[ $(agent_call get-property Jobs) == "u 0" ]]; }
one_job() { [[ $(agent_call get-property Jobs) == "u 1" ]]; }
disk_is_free() { ! find "/proc/$agent_pid/fd" -lname "$loop" | finds .; }

# A pipe that nobody reads holds the capture in its middle.
mkfifo "$scratch/pipe"
exec 9<>"$scratch/pipe"
for signal in KILL TERM; do
	"$O/ambroctl" capture "$loop" -o - >"$scratch/pipe" 2>"$scratch/client.log" &
	client=$!
	wait_for 30 one_job || fail "no job: $(cat "$scratch/client.log")"
	sleep 0.5
	kill "-$signal" "$client"
	status=0
	wait "$client" || status=$?
	[[ $signal != TERM || $status == 130 ]] || fail "exit code $status after SIGTERM"
	wait_for 20 no_job || fail "the job goes on without its client (SIG$signal)"
	wait_for 20 disk_is_free || fail "the disk is still open (SIG$signal)"
	timeout 120 touch "$scratch/mnt/after-$signal" || fail "the file system stands still"
done
exec 9>&-

# SIGINT in the middle of a capture to a file leaves no file
"$O/ambroctl" capture "$loop" -o "$scratch/cut.zst" 2>"$scratch/client.log" &
client=$!
kill -TERM "$client"
wait "$client" || :
find "$scratch" -name '*cut.zst*' | finds . && ! ambroctl verify "$scratch/cut.zst" && fail "half an image"

ambroctl capture "$loop" -o "$scratch/image.zst"
ambroctl verify "$scratch/image.zst"
