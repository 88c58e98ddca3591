#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# busctl sees the objects, and what is asked wrongly is refused by name.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl
agent_start

bus() { busctl --address="unix:path=$AMBRO_SOCKET" "$@"; }
to_file() {
	agent_call call CaptureToFile 'sa{sv}s' "$@"
}
is_ended() { [[ $(job_property "$1" State) != 's "running"' ]]; }

bus tree org.ambrotype.Agent1 | finds /org/ambrotype/Agent1/job || fail "tree"
[[ $(agent_call get-property MaxJobs) == "u 4" ]] || fail "MaxJobs"
agent_call get-property Version | finds '^s "[0-9]' || fail "Version"
agent_call get-property Capabilities | finds '"tracker" b ' || fail "Capabilities"
agent_call call ListDisks | finds '^aa{sv} ' || fail "ListDisks"
[[ $(agent_call call ListJobs) == "ao 0" ]] || fail "ListJobs"
expect_fail any "not writable" agent_call set-property Jobs u 3

# options and outputs
expect_fail any "option colour is unknown" to_file "" 1 colour s red "$scratch/x"
expect_fail any "twice" to_file "" 2 level i 1 level i 2 "$scratch/x"
expect_fail any "of type s, not i" to_file "" 1 level s 3 "$scratch/x"
expect_fail any "not within -7" to_file "" 1 level i 20 "$scratch/x"
expect_fail any "not within" to_file "" 1 max_freeze_ms u 0 "$scratch/x"
expect_fail any "strategy magic is unknown" to_file "" 1 strategy s magic "$scratch/x"
expect_fail any "not an absolute path" to_file sda 0 "$scratch/x"
expect_fail any "not an absolute path" to_file "" 0 x
expect_fail any "no job" agent_call call Cancel o /org/ambrotype/Agent1/job/77
[[ ! -e $scratch/x ]] || fail "a refused capture left a file"

# a capture that fails leaves its job and no file
to_file "$scratch/nothing-here" 0 "$scratch/x" >"$scratch/job"
[[ $(<"$scratch/job") == 'o "/org/ambrotype/Agent1/job/1"' ]] || fail "$(<"$scratch/job")"
wait_for 10 is_ended 1 || fail "it does not end"
[[ $(job_property 1 State) == 's "failed"' ]] || fail "$(job_property 1 State)"
[[ $(job_property 1 ErrorCode) == "i -2" ]] || fail "$(job_property 1 ErrorCode)"
[[ $(job_property 1 Error) != 's ""' ]] || fail "no words"
[[ ! -e $scratch/x ]] || fail "a failed capture left a file"
bus tree org.ambrotype.Agent1 | finds /org/ambrotype/Agent1/job/1 || fail "tree without the job"
bus introspect org.ambrotype.Agent1 /org/ambrotype/Agent1/job/1 | finds '^\.BytesTotal ' || fail "introspect"
