#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A second agent does not take a living one's socket, but does take a dead one's.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl setpriv
agent_start

expect_fail 1 "another ambrod is running" timeout 120 "$O/ambrod" --socket "$AMBRO_SOCKET"
agent_answers || fail "the first one no longer answers"

kill -KILL "$agent_pid"
wait "$agent_pid" 2>/dev/null || :
agent_pid=
[[ -S $AMBRO_SOCKET ]] || fail "what is to be tested is a dead socket"
"$O/ambrod" --socket "$AMBRO_SOCKET" >>"$agent_log" 2>&1 &
agent_pid=$!
wait_for 10 agent_answers || fail "the second one does not answer"
agent_stop
[[ ! -e $AMBRO_SOCKET ]] || fail "the socket is still there"

# what is no socket is left alone
echo precious >"$scratch/file"
expect_fail 1 "is not a socket" timeout 120 "$O/ambrod" --socket "$scratch/file"
[[ $(<"$scratch/file") == precious ]] || fail "a file was lost"
expect_fail 1 "absolute" timeout 120 "$O/ambrod" --socket relative
expect_fail 2 "unexpected argument" timeout 120 "$O/ambrod" now

cp "$O/ambrod" "$scratch/ambrod"
chmod 755 "$scratch"
expect_fail 1 "must run as root" timeout 120 setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/ambrod"
