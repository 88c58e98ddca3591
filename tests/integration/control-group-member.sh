#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A member of the group ambro may capture, to descriptors of its own only, and leaves root's jobs alone.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl setpriv unshare

# a group that only the agent knows: in a mount namespace of its own
cp /etc/group "$scratch/group"
grep -q '^ambro:' "$scratch/group" || echo 'ambro:x:64999:' >>"$scratch/group"
gid=$(sed -n 's/^ambro:[^:]*:\([0-9]*\):.*/\1/p' "$scratch/group")
chmod 755 "$scratch"
chmod 644 "$scratch/group"
unshare -m true 2>/dev/null || skip "no mount namespace of its own is to be had here (a chroot?)"
# shellcheck disable=SC2016 # for the inner shell
agent_start unshare -m sh -c 'mount --bind "$0" /etc/group && exec "$@"' "$scratch/group"

cp "$O/ambroctl" "$scratch/ambroctl"
as_member() { setpriv --reuid=65534 --regid=65534 --groups="$gid" "$@"; }
as_member_call() {
	as_member busctl --address="unix:path=$AMBRO_SOCKET" call org.ambrotype.Agent1 "$agent_object" \
		org.ambrotype.Agent1 "$@"
}

head -c 8M /dev/urandom >"$scratch/source"
mkdir "$scratch/out"
chown 65534 "$scratch/out"
as_member "$scratch/ambroctl" capture "$scratch/source" -o "$scratch/out/image.zst"
[[ $(stat -c '%u %a' "$scratch/out/image.zst") == "65534 600" ]] || fail "$(stat -c '%u %a' "$scratch/out/image.zst")"
expect_fail 6 "exists already" as_member "$scratch/ambroctl" capture "$scratch/source" -o "$scratch/out/image.zst"

# no file with root's rights
expect_fail any "Access denied" as_member_call CaptureToFile 'sa{sv}s' "$scratch/source" 0 "$scratch/out/x"
[[ ! -e $scratch/out/x ]] || fail "a file was made"

# root's job can be seen while it runs, and not be cancelled
mkfifo "$scratch/pipe"
exec 9<>"$scratch/pipe"
"$O/ambroctl" capture "$scratch/source" -o "$scratch/pipe" 2>/dev/null &
job=$!
cleanup _stop_quietly $job
is_there() { as_member_call ListJobs | finds /job/2; }
wait_for 10 is_there || fail "a running job is not to be seen"
expect_fail any "Access denied" as_member_call Cancel o "$agent_object/job/2"
kill "$job"
wait "$job" || :
[[ $(as_member_call ListJobs) == "ao 1 \"$agent_object/job/1\"" ]] || fail "root's ended job is to be seen"
[[ $(agent_call call ListJobs) == "ao 2 "* ]] || fail "root does not see both"
