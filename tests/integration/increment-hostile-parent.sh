#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Whatever a client says of the parent, or does not, harms its own capture only: that fails, or waits until it is
# cancelled, while nothing stands still; the agent goes on.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/increment.sh"
require_root
require jq
increment_ready

truncate -s 64M "$scratch/disk"
loop_make "$scratch/disk"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
head -c 9M /dev/urandom >"$scratch/mnt/file"
sync
agent_start
whole parent "$loop"

hostile() {
	expect_fail 1 "ed: " tool parent capture --hostile "$1" "${@:2}" "$loop" "$scratch/parent.zst" "$scratch/delta"
	say "$1: $(cat "$scratch/expect.out")"
	# nobody waits for it
	timeout 5 touch "$scratch/mnt/alive" || fail "the file system stands still"
}
for how in garbage short long hangup manifest page; do
	hostile "$how" --no-track
	[[ $(jq -r .state "$scratch/expect.out") == failed ]] || fail "$how: $(cat "$scratch/expect.out")"
	[[ $(jq -r .error "$scratch/expect.out") == *parent* ]] || fail "$how: $(cat "$scratch/expect.out")"
done
for how in silence slow; do
	began=$SECONDS
	hostile "$how" --no-track --cancel 1500
	[[ $(jq -r .state "$scratch/expect.out") == canceled ]] || fail "$how: $(cat "$scratch/expect.out")"
	((SECONDS - began < 30)) || fail "$how: took $((SECONDS - began)) s"
done

# the client that keeps silent is gone: so is its job
"$O/tests/lib/tool-parent" capture --hostile silence "$loop" "$scratch/parent.zst" "$scratch/delta" &>/dev/null &
pid=$!
running() { [[ $(agent_call get-property Jobs) == "u $1" ]]; }
wait_for 20 running 1 || fail "no job"
kill -9 $pid
wait $pid || :
wait_for 20 running 0 || fail "the job stays"

# lies that make sense are its own business
increment well "$loop" parent compared --no-track
umount_at "$scratch/mnt"
e2fsck -fn "$loop" >&2
