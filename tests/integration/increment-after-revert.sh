#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A virtual machine is reverted to a snapshot with its memory: boot, tracker, marks and eras are what they were, and go on
# from there. An image of the time that was taken back has blocks that no mark tells of: it is compared. One of before
# and one of after are as good as ever.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/increment.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
require python3 blockdev
increment_ready
tracker_ready

# all of it is in use
head -c 120M /dev/urandom >"$scratch/source"
loop_make "$scratch/source"
put() { head -c 8192 /dev/urandom | dd of="$loop" bs=8192 seek="$1" oflag=direct conv=nocreat,notrunc status=none; }
# past the tracker, as a hypervisor does it
disk_revert() {
	dd if="$scratch/source.snapshot" of="$scratch/source" bs=1M conv=notrunc status=none
	blockdev --flushbufs "$loop"
	cmp "$scratch/source.snapshot" "$loop" >&2 || fail "the disk is not what it was"
}
is_the_disk() {
	sync
	cmp "$scratch/source" "$scratch/$1.raw" >&2 || fail "$1 is not the disk"
}
gone_back() {
	[[ $(increment_told "$1" .reason) == *"gone back in time"* ]] || fail "$1: $(increment_told "$1" .reason)"
	is_the_disk "$1"
}
era_of() { manifest "$scratch/$1.zst" .track | cut -d: -f4; }

agent_start
whole before "$loop"
[[ $(manifest "$scratch/before.zst" .track) == 2:* ]] || skip "this kernel cannot track"
put 100
sync
cp "$scratch/source" "$scratch/source.snapshot"
tracker save "$loop" "$scratch/memory"

# what will be taken back: 16 chunks, any of which would be missing
for n in {0..15}; do put $((1000 + n * 64)); done
whole lost "$loop"
whole lost2 "$loop"

disk_revert
tracker load "$loop" "$scratch/memory"
(($(tracker era "$loop") < $(era_of lost2))) || fail "the memory was not taken back"
increment early "$loop" lost2 compared
gone_back early

put 5000
while (($(tracker era "$loop") <= $(era_of lost2))); do :; done
whole after "$loop"
put 6000
for parent in lost lost2; do
	increment "of-$parent" "$loop" "$parent" compared
	gone_back "of-$parent"
done
for parent in before after; do
	increment "of-$parent" "$loop" "$parent" tracked
	is_the_disk "of-$parent"
done

# to the middle of a capture: its era was open by then, and the image shows what was written after that
agent_leave
agent_start AMBRO_TEST_PAUSE=mapped:60000 AMBRO_TEST_GO="$scratch/go"
tool parent capture --chunk-shift 18 "$loop" - "$scratch/middle.zst" >"$scratch/middle.json" &
client=$!
wait_for 20 grep -q "pause: mapped" "$agent_log" || fail "it does not begin"
cp "$scratch/source" "$scratch/source.snapshot"
tracker save "$loop" "$scratch/middle"
put 7000
touch "$scratch/go"
wait "$client" || fail "$(cat "$scratch/middle.json")"
disk_revert
tracker load "$loop" "$scratch/middle"
(($(tracker era "$loop") > $(era_of middle))) || fail "its era was not open yet"
increment of-middle "$loop" middle compared
gone_back of-middle
