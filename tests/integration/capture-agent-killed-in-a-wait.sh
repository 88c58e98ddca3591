#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The agent is killed while a file system is frozen, and one of its threads waits for another, stuck disk, so that
# it cannot end: what it froze is thawed at once all the same.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl

declare -A disk=()
for n in source other output; do
	truncate -s 120M "$scratch/$n"
	loop_make "$scratch/$n"
	fs_make ext4 "$loop"
	mount_at "$loop" "$scratch/$n.mnt"
	disk[$n]=$loop
done
some_files "$scratch/source.mnt" 10
some_files "$scratch/other.mnt" 10

# the thread that writes the image of `other` waits in the kernel, and no signal ends that
thaw_output() { fsfreeze -u "$scratch/output.mnt" 2>/dev/null || :; }
agent_start AMBRO_TEST_PAUSE=frozen:60000
exec 7>"$scratch/output.mnt/image.zst"
fsfreeze -f "$scratch/output.mnt"
cleanup thaw_output
ambroctl capture "${disk[other]}" -o - >&7 2>"$scratch/other.log" &
stuck=$!
cleanup _stop_quietly $stuck
exec 7>&-
waits() { grep -qs '^State:.D' /proc/"$agent_pid"/task/*/status; }
wait_for 20 waits || fail "no thread of the agent waits"

ambroctl capture "${disk[source]}" -o /dev/null --max-freeze 50000 &>"$scratch/client.log" &
client=$!
is_frozen() {
	kill -0 "$client" 2>/dev/null || fail "the capture ended: $(cat "$scratch/client.log")"
	stands_still "$scratch/source.mnt"
}
wait_for 60 is_frozen || fail "it never froze"
kill -KILL "$agent_pid"
began=${EPOCHREALTIME/./}
wait "$probe"
took=$((${EPOCHREALTIME/./} - began))
say "thawed $((took / 1000)) ms after the kill"
kill -0 "$agent_pid" 2>/dev/null || fail "the agent has ended: nothing was shown"
((took < 5000000)) || fail "only after $took us"

thaw_output
wait "$agent_pid" 2>/dev/null || :
agent_pid=
wait "$client" && fail "the client thinks that all is well"
wait_for 10 umount "$scratch/source.mnt" || fail "something still holds the file system"
