#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tracker knows is not used when it may be wrong: after an agent's upgrade that changes the map, and after each event of which
# the programs in the kernel cannot tell what it wrote. The next increment compares everything, finds also what has no mark, says why;
# and the one after it is tracked again. The events are entered here as those programs enter them: a loop device has no such commands.
# tests/vm/light/tracker-doubts.sh sends real ones.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/increment.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
require jq
increment_ready
tracker_ready

head -c 6M /dev/urandom >"$scratch/raw"
truncate -s 24M "$scratch/raw"
loop_make "$scratch/raw"
disk=$loop
agent_start
whole parent "$disk"
[[ $(manifest "$scratch/parent.zst" .track) == 2:* ]] || skip "this kernel cannot track"

# changes: one that the tracker sees, one behind its back; together they are a sixth of what is in use.
changes() {
	head -c 400000 /dev/urandom | dd of="$disk" bs=4096 seek=$((RANDOM % 500)) oflag=direct iflag=fullblock conv=nocreat status=none
	head -c 600000 /dev/urandom | dd of="$scratch/raw" bs=4096 seek=$((600 + RANDOM % 500)) conv=nocreat,notrunc status=none
}

# compared_now NAME: the increment is that, and the disk.
compared_now() {
	increment "$1" "$disk" parent compared
	[[ $(increment_told "$1" .reason) == *"began anew"* ]] || fail "$1: $(increment_told "$1" .reason)"
	cmp "$scratch/raw" "$scratch/$1.raw" >&2 || fail "$1: not the disk"
	(($(increment_told "$1" .read) >= 6 << 20)) || fail "$1: not all was read"
}
# tracked_again: once an image of the disk is there that was made since.
tracked_again() {
	whole parent "$disk"
	head -c 4096 /dev/urandom | dd of="$disk" bs=4096 seek=77 oflag=direct conv=nocreat status=none
	increment fine "$disk" parent tracked
	cmp "$scratch/raw" "$scratch/fine.raw" >&2 || fail "not the disk"
}

# without any of this it is tracked
tracked_again

changes
tracker version "$disk"
compared_now upgraded
tracked_again

# an upgrade while no agent runs, as packages do it
agent_leave
changes
tracker version "$disk"
agent_start
compared_now restarted
tracked_again

# event REASON WORDS: of enum track_reason, and what the agent says of it.
event() {
	changes
	tracker report "$disk" "$1"
	[[ $(tracker doubt "$disk") == *"$2"* ]] || fail "$1: $(tracker doubt "$disk")"
	compared_now "event$1"
	finds "$2.*; it is started anew" <"$agent_log" || fail "the agent does not say: $2"
	tracked_again
}
event 0 "behind the end"
event 1 "passthrough command"
event 2 "zone command or an operation that this version does not know"
event 3 "too many writes were in flight"
event 4 "completion of a write was not seen"
event 5 "more ranges than can be followed"
event 6 "could not be marked"
