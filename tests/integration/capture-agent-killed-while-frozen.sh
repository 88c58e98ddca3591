#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The agent is killed while a file system is frozen: it is thawed at once, nothing of the kernel's settings
# stays changed, and the next agent captures as if nothing had been.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl jq

truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
some_files "$scratch/mnt" 20
expedited=$(cat /sys/kernel/rcu_expedited)

agent_start AMBRO_TEST_PAUSE=frozen:20000
ambroctl capture "$loop" -o "$scratch/image.zst" --max-freeze 15000 >"$scratch/client.log" 2>&1 &
client=$!

is_frozen() {
	kill -0 "$client" 2>/dev/null || fail "the capture ended: $(cat "$scratch/client.log")"
	stands_still "$scratch/mnt"
}
wait_for 60 is_frozen || fail "it never froze"

kill -KILL "$agent_pid"
began=${EPOCHREALTIME/./}
wait "$probe"
took=$((${EPOCHREALTIME/./} - began))
say "thawed $((took / 1000)) ms after the kill"
((took < 10000000)) || fail "the guardian took $took us"
wait "$agent_pid" 2>/dev/null || :
agent_pid=

if wait "$client"; then fail "the client thinks that all is well"; fi
[[ ! -e $scratch/image.zst ]] || fail "a torn image was left"
expedited_is_back() { [[ $(cat /sys/kernel/rcu_expedited) == "$expedited" ]]; }
wait_for 5 expedited_is_back || fail "rcu_expedited stayed $(cat /sys/kernel/rcu_expedited)"

agent_start
ambroctl capture "$loop" -o "$scratch/image.zst"
ambroctl verify "$scratch/image.zst"
