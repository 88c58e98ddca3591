#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Whatever ends a capture between the hooks' freeze and their thaw, each is thawed, once: a cancellation, also of a hook that hangs; SIGKILL
# of the agent while a hook runs, while hooks are frozen, while file systems are; of the keeper; of both. A thaw that is itself killed with
# whoever waits for it is begun again.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
. "$(dirname "$0")/../lib/hooks.sh"
require_root
require jq

truncate -s 100M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make ext4 "$source"
mount_at "$source" "$scratch/mnt"
some_files "$scratch/mnt" 5
image=$scratch/image.zst

# an agent with hooks that pauses at a step
hooked_agent() {
	: >"$agent_log"
	rm -f "$scratch/go"
	agent_start "${hooks_env[@]}" "AMBRO_TEST_PAUSE=$1:60000" "AMBRO_TEST_GO=$scratch/go"
}
keeper() { pgrep -f "^ambrod --hook-keeper $hooks " | head -n 1; }
# The agent is killed, and the keeper, which lives, has called "2 thaw".
keeper_thaws() {
	hooked_agent hooked
	capture_start "$source" "$image"
	agent_comes_to hooked
	kill -KILL "$agent_pid"
	wait "$agent_pid" 2>/dev/null || :
	agent_pid=
	wait_for 20 hook_called "2 thaw" || fail "the keeper does not thaw"
}
both=("1 freeze" "2 freeze" "2 thaw" "1 thaw")
thawed() { (($(grep -c thaw "$calls") == ${1:-2})); }
none_left() { [[ ! $(hooks_left) ]]; }
end_well() {
	wait_for 20 none_left || fail "$1: left: $(hooks_left)"
	hooks_were "${both[@]}"
	writes_go_on "$scratch/mnt"
	[[ ! -e $image ]] || fail "$1: an image was left"
	say "$1: thawed once"
}

# ---- cancelled between, and while a hook hangs ----
hooks_clear
hook_make 1
hook_make 2
for step in hooked frozen; do
	: >"$calls"
	hooked_agent "$step"
	capture_start "$source" "$image" --max-freeze 30000
	agent_comes_to "$step"
	kill -INT "$client"
	agent_goes_on
	capture_ends
	((client_status == 130)) || fail "$step: exit code $client_status"
	end_well "cancelled at $step"
	agent_ends
done
: >"$calls"
# shellcheck disable=SC2016 # the hook's own
hook_make 2 'test "$1" = thaw || sleep 4712'
agent_start "${hooks_env[@]}"
capture_start "$source" "$image"
wait_for 30 hook_called "2 freeze" || fail "it never came to the hook"
kill -INT "$client"
began=$SECONDS
capture_ends
((client_status == 130 && SECONDS - began < 20)) || fail "exit code $client_status after $((SECONDS - began)) s"
end_well "cancelled in a hook"

# ---- the agent is killed while a hook runs ----
: >"$calls"
capture_start "$source" "$image"
wait_for 30 hook_called "2 freeze" || fail "it never came to the hook"
agent_dies
capture_ends
end_well "agent killed in a hook"

# ---- the agent is killed while all is frozen ----
hook_make 2
for step in hooked frozen; do
	: >"$calls"
	hooked_agent "$step"
	capture_start "$source" "$image" --max-freeze 30000
	agent_comes_to "$step"
	agent_dies
	capture_ends
	end_well "agent killed at $step"
done

# ---- the keeper is killed: the agent thaws, and the instant counts, for they were frozen then ----
: >"$calls"
hooked_agent frozen
capture_start "$source" "$image" --max-freeze 30000
agent_comes_to frozen
kill -KILL "$(keeper)"
agent_goes_on
capture_ends
((client_status == 0)) || fail "$(cat "$image.log")"
rm "$image"
end_well "keeper killed"
agent_ends

# ---- both are killed: the next start thaws, and one after it has nothing to do ----
: >"$calls"
hooked_agent hooked
capture_start "$source" "$image"
agent_comes_to hooked
# the keeper first: it would begin to thaw as soon as the agent is gone
kill -KILL "$(keeper)" "$agent_pid"
wait "$agent_pid" 2>/dev/null || :
agent_pid=
capture_ends
hooks_were "1 freeze" "2 freeze"
[[ $(hooks_left) ]] || fail "nothing tells what is frozen"
"$O/ambrod" --recover
end_well "both killed"
"$O/ambrod" --recover
hooks_were "${both[@]}"

# ---- the keeper is killed while a thaw runs: that one is not begun again, the others are ----
: >"$calls"
# shellcheck disable=SC2016 # the hook's own
hook_make 2 'test "$1" = freeze || sleep 2'
keeper_thaws
kill -KILL "$(keeper)"
capture_ends
"$O/ambrod" --recover
end_well "keeper killed in a thaw"

# ---- and when the hook is killed with it, as all of a unit is: it may not have come to do anything, and is begun again ----
: >"$calls"
keeper_thaws
running=$(pgrep -P "$(keeper)")
kill -KILL -- "$(keeper)" "-$running"
gone() { ! pgrep -g "$running" >/dev/null; }
wait_for 20 gone
capture_ends
"$O/ambrod" --recover
hooks_were "1 freeze" "2 freeze" "2 thaw" "2 thaw" "1 thaw"
[[ ! $(hooks_left) ]] || fail "left: $(hooks_left)"
say "a thaw that was killed: begun again"

# ---- the agent hangs: the hooks are thawed when their time is over, and no image comes of it ----
: >"$calls"
hook_make 2
hooked_agent hooked
capture_start "$source" "$image" --hook-timeout 2
agent_comes_to hooked
kill -STOP "$agent_pid"
wait_for 20 thawed || fail "they stay frozen"
kill -CONT "$agent_pid"
hooks_were "${both[@]}"
: >"$calls"
agent_goes_on
capture_ends
# a vain attempt is repeated: its hooks were frozen in time
((client_status == 0)) || fail "$(cat "$image.log")"
rm "$image"
end_well "agent hung"
