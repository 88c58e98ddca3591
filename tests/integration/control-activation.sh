#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The agent takes the socket that systemd passes, and starts with the first connection.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl systemd-socket-activate
[[ -x $O/ambrod ]] || skip "$O/ambrod is not built"

export AMBRO_SOCKET=$scratch/sock
# it passes on what it is told to, and nothing else
systemd-socket-activate "${sanitizer_variables[@]/#/--setenv=}" --listen="$AMBRO_SOCKET" "$O/ambrod" 2>"$agent_log" &
agent_pid=$!
cleanup agent_stop
wait_for 10 test -S "$AMBRO_SOCKET" || fail "no socket"
grep -q 'is ready' "$agent_log" && fail "it started before anybody came"

# the connection that starts it is answered too
[[ $(agent_call get-property Jobs) == "u 0" ]] || fail "no answer"
ambroctl status >"$scratch/status"
grep -q '^agent .*ambrod' "$scratch/status" || fail "$(<"$scratch/status")"

kill "$agent_pid"
status=0
wait "$agent_pid" || status=$?
agent_pid=
((status == 0)) || fail "exit code $status after SIGTERM"
# systemd's socket is systemd's to remove
[[ -S $AMBRO_SOCKET ]] || fail "it removed a socket that it did not make"
