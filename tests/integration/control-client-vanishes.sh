#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A job ends with the connection that started it; others' jobs, and those without a connection, go on.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl mkfifo

truncate -s 64M "$scratch/source"
# not compressible, so that a pipe nobody reads holds the capture
head -c 48M /dev/urandom | dd of="$scratch/source" conv=notrunc status=none
agent_start

is_state() { [[ $(job_property "$1" State) == "s \"$2\"" ]]; }
is_reading() { [[ $(job_property "$1" BytesRead 2>/dev/null) =~ ^"t "[1-9] ]]; }
mkfifo "$scratch/a" "$scratch/b" "$scratch/c"
exec 7<>"$scratch/a" 8<>"$scratch/b" 9<>"$scratch/c"

"$O/ambroctl" capture "$scratch/source" -o "$scratch/a" 2>/dev/null &
first=$!
cleanup _stop_quietly $first
wait_for 10 is_reading 1 || fail "the first does not begin"
"$O/ambroctl" capture "$scratch/source" -o "$scratch/b" 2>/dev/null &
second=$!
cleanup _stop_quietly $second
wait_for 10 is_reading 2 || fail "the second does not begin"

kill -KILL "$first"
wait_for 10 is_state 1 canceled || fail "the first goes on without its client: $(job_property 1 State)"
is_state 2 running || fail "the second ended with the first: $(job_property 2 State)"

# by hand: Cancel from another connection, and the client says that it was interrupted
agent_call call Cancel o "$agent_object/job/2" >/dev/null
status=0
wait "$second" || status=$?
((status == 130)) || fail "exit code $status of a client whose job was cancelled"
is_state 2 canceled || fail "$(job_property 2 State)"

# busctl is gone as soon as it has its answer
agent_call call CaptureToFile 'sa{sv}s' "$scratch/source" 0 "$scratch/image.zst" >/dev/null
wait_for 30 is_state 3 "done" || fail "$(job_property 3 Error)"
[[ -s $scratch/image.zst ]] || fail "no image"

# and the agent ends in good order while a job runs
"$O/ambroctl" capture "$scratch/source" -o "$scratch/c" 2>"$scratch/last.err" &
last=$!
cleanup _stop_quietly $last
wait_for 10 is_reading 4 || fail "the last does not begin"
kill "$agent_pid"
status=0
wait "$agent_pid" || status=$?
agent_pid=
((status == 0)) || fail "exit code $status after SIGTERM"
[[ ! -e $AMBRO_SOCKET ]] || fail "the socket is still there"
status=0
wait "$last" || status=$?
((status == 130 || status == 5)) || fail "exit code $status of a client whose agent stopped"
