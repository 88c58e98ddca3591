#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The agent is killed when the deadline of its freeze had passed: the guardian ends too, and holds no mount.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl

truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
agent_start AMBRO_TEST_PAUSE=frozen:20000
ambroctl capture "$loop" -o "$scratch/image.zst" --max-freeze 300 &>"$scratch/client.log" &
client=$!
stands_still() { [[ $(job_property 1 Phase 2>/dev/null) == *freeze* ]]; }
wait_for 60 stands_still || fail "it never froze"
sleep 1
guardian=$(pgrep -P "$agent_pid") || fail "there is no guardian"
kill -KILL "$agent_pid"
wait "$agent_pid" 2>/dev/null || :
agent_pid=
if wait "$client"; then fail "the client thinks that all is well"; fi
guardian_is_gone() { [[ ! -e /proc/$guardian ]]; }
wait_for 5 guardian_is_gone || {
	kill -KILL "$guardian"
	fail "the guardian did not end"
}
umount "$scratch/mnt"
