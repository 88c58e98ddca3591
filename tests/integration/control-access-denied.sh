#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Who is neither root nor in the group gets AccessDenied for everything, and the agent goes on for others.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl setpriv python3
chmod 755 "$scratch"
agent_start

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
denied() {
	# busctl has words of its own for this error
	expect_fail any "Access denied" as_nobody \
		busctl --address="unix:path=$AMBRO_SOCKET" "$@"
}

denied call org.ambrotype.Agent1 "$agent_object" org.ambrotype.Agent1 ListDisks
denied call org.ambrotype.Agent1 "$agent_object" org.ambrotype.Agent1 ListJobs
denied call org.ambrotype.Agent1 "$agent_object" org.ambrotype.Agent1 CaptureToFile 'sa{sv}s' "" 0 /tmp/x
denied call org.ambrotype.Agent1 "$agent_object" org.ambrotype.Agent1 NoSuchMethod
denied call org.ambrotype.Agent1 /no/such/object no.such.Interface Method
denied get-property org.ambrotype.Agent1 "$agent_object" org.ambrotype.Agent1 Version
denied introspect org.ambrotype.Agent1 "$agent_object"

cp "$O/ambroctl" "$scratch/ambroctl" # the build tree may not be nobody's to read
expect_fail 7 "only root" as_nobody "$scratch/ambroctl" status
expect_fail 7 "only root" as_nobody "$scratch/ambroctl" devices
expect_fail 7 "only root" as_nobody "$scratch/ambroctl" capture -o /dev/null

# many of them do not keep root out
python3 -c 'import os, socket, sys, time
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
crowd = [socket.socket(socket.AF_UNIX) for _ in range(50)]
for s in crowd:
    s.connect(sys.argv[1])
print("here", flush=True)
time.sleep(600)' "$AMBRO_SOCKET" >"$scratch/crowd" &
cleanup _stop_quietly $!
wait_for 10 grep -q here "$scratch/crowd" || fail "nobody came"
[[ $(agent_call get-property Jobs) == "u 0" ]] || fail "root is kept out"
