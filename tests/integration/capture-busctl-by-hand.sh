#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The control interface can be used with busctl alone, as docs/CONTROL.md shows.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl jq

truncate -s 100M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
agent_start

bus=(busctl "--address=unix:path=$AMBRO_SOCKET")
"${bus[@]}" tree org.ambrotype.Agent1 | finds /org/ambrotype/Agent1 || fail "tree"
"${bus[@]}" introspect org.ambrotype.Agent1 "$agent_object" >"$scratch/introspect"
for member in ListDisks Capture Cancel ListJobs Untrack Version Jobs MaxJobs Capabilities; do
	grep -q "^\.$member " "$scratch/introspect" || fail "introspect has no $member"
done
agent_call call ListDisks | finds -F "$loop" || fail "ListDisks without $loop"
[[ $(agent_call get-property Jobs) == "u 0" ]] || fail "Jobs"

"${bus[@]}" call org.ambrotype.Agent1 "$agent_object" org.ambrotype.Agent1 \
	CaptureToFile 'sa{sv}s' "$loop" 0 "$scratch/image.zst" >"$scratch/job"
number=$(sed -n 's,.*/job/\([0-9]*\)".*,\1,p' "$scratch/job")
[[ $number ]] || fail "no job: $(cat "$scratch/job")"
is_done() { [[ $(job_property "$number" State) != 's "running"' ]]; }
wait_for 60 is_done || fail "it does not end"
[[ $(job_property "$number" State) == 's "done"' ]] || fail "$(job_property "$number" Error)"
ambroctl verify "$scratch/image.zst"

# not a second time into the same file
expect_fail any "exist" "${bus[@]}" call org.ambrotype.Agent1 "$agent_object" org.ambrotype.Agent1 \
	CaptureToFile 'sa{sv}s' "$loop" 0 "$scratch/image.zst"
