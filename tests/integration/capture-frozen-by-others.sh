#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Freezes of somebody else. A file system that he keeps frozen: the capture waits a while, fails, says so, and
# never thaws it. One that he thaws again soon is waited for. And when he thaws in the middle of our freeze, that
# reading counts for nothing, and the next one makes the image.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
require_root
require fsfreeze jq

truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make ext4 "$source"
mount_at "$source" "$scratch/mnt"
some_files "$scratch/mnt" 20

# is_frozen: a write that does not come back before we say so
is_frozen() {
	touch "$scratch/mnt/probe" &
	local probe=$! frozen=0
	sleep 0.3
	[[ -e /proc/$probe ]] && frozen=1
	((frozen == 0)) || cleanup _stop_quietly $probe
	((frozen))
}

agent_start
fsfreeze -f "$scratch/mnt"
expect_fail 6 "already frozen by somebody else" timeout 120 "$O/ambroctl" capture "$source" -o "$scratch/no.zst"
is_frozen || fail "his freeze was ended by us"
[[ ! -e $scratch/no.zst ]] || fail "an image was left"

capture_start "$source" "$scratch/soon.zst"
sleep 1
is_frozen || fail "his freeze was ended by us"
fsfreeze -u "$scratch/mnt"
capture_ends
((client_status == 0)) || fail "it did not wait: $(cat "$scratch/soon.zst.log")"
ambroctl verify "$scratch/soon.zst"
agent_stop

agent_start_pausing frozen
witness_start writer "$scratch/mnt" --rate 100
capture_start "$source" "$scratch/thawed.zst"
agent_comes_to frozen
fsfreeze -u "$scratch/mnt" || fail "it was not frozen"
writes_go_on "$scratch/mnt"
agent_goes_on
capture_ends
((client_status == 0)) || fail "it gave up at once: $(cat "$scratch/thawed.zst.log")"
(($(grep -cx 'pause: frozen' "$agent_log") >= 2)) || fail "it believed in a freeze that was none"
ambroctl restore "$scratch/thawed.zst" "$scratch/restored" --yes
loop_make "$scratch/restored"
fs_check ext4 "$loop"
mount_at "$loop" "$scratch/copy" -o ro
witness_stop writer
witness_check writer "$scratch/copy" "$scratch/thawed.zst"
