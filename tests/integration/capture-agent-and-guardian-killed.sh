#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Agent and guardian are both killed while a file system is frozen, so that nobody is left who thaws: --recover does, and
# leaves alone what somebody still watches over.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl

expedited=$(cat /sys/kernel/rcu_expedited)
is_frozen() {
	kill -0 "$client" 2>/dev/null || fail "the capture ended: $(cat "$scratch/client.log")"
	stands_still "$scratch/mnt.$fs"
}
thaw() { fsfreeze -u "$scratch/mnt.$fs" 2>/dev/null || :; }

# btrfs has another number than the device that it lies on
for fs in ext4 btrfs; do
	fs_known "$fs" || continue
	truncate -s 300M "$scratch/$fs"
	loop_make "$scratch/$fs"
	fs_make "$fs" "$loop"
	mount_at "$loop" "$scratch/mnt.$fs"
	some_files "$scratch/mnt.$fs" 10

	agent_start AMBRO_TEST_PAUSE=frozen:60000
	ambroctl capture "$loop" -o "$scratch/image.zst" --max-freeze 50000 >"$scratch/client.log" 2>&1 &
	client=$!
	wait_for 60 is_frozen || fail "$fs: it never froze"
	cleanup thaw
	guardian=$(pgrep -P "$agent_pid")
	left=$(find "/proc/$guardian/fd" -lname '/run/ambro/freeze-*' -printf '%l')
	[[ -e $left ]] || fail "the guardian has no file in /run/ambro: $(ls -l "/proc/$guardian/fd")"

	"$O/ambrod" --recover
	kill -0 "$probe" || fail "$fs: --recover thawed what an agent watches over"
	[[ -e $left ]] || fail "--recover took a file that is in use"

	# not before the agent is dead may it be killed, nor may it notice that
	kill -STOP "$guardian"
	kill -KILL "$agent_pid"
	wait "$agent_pid" 2>/dev/null || :
	agent_pid=
	kill -KILL "$guardian"
	ended() { ! kill -0 "$guardian" 2>/dev/null; }
	wait_for 10 ended || fail "the guardian does not end"
	sleep 0.3 # for a thaw that must not come
	kill -0 "$probe" || fail "$fs: somebody else thawed it: nothing is shown"

	"$O/ambrod" --recover 2>"$scratch/recover.log" || fail "--recover: $(cat "$scratch/recover.log")"
	finds 'thawed 1 file system' "$scratch/recover.log" || fail "it says: $(cat "$scratch/recover.log")"
	thawed() { ! kill -0 "$probe" 2>/dev/null; }
	wait_for 10 thawed || fail "$fs: it still stands"
	[[ ! -e $left ]] || fail "$left is still there"
	[[ $(cat /sys/kernel/rcu_expedited) == "$expedited" ]] || fail "rcu_expedited is not as it was"
	! wait "$client" || fail "the client thinks that all is well"

	agent_start
	ambroctl capture "$loop" -o "$scratch/image.zst"
	ambroctl verify "$scratch/image.zst"
	rm "$scratch/image.zst"
	agent_stop
	[[ ! -e $left ]] || fail "a file of a freeze is left: $left"
	umount_at "$scratch/mnt.$fs"
done
