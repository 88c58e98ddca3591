#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Where a policy denies io_uring, `status` says so, and live captures, offline ones and restores are as right as
# with it.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require jq fio

deny=$O/tests/lib/tool-deny
[[ -x $deny ]] || skip "$deny is not built"
truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make ext4 "$source"
mount_at "$source" "$scratch/mnt"
some_files "$scratch/mnt" 20
agent_start "$deny" io_uring
ambroctl status | finds "io_uring.*not available" || fail "status does not say it: $(ambroctl status)"
ambroctl status --json | jq -e '.io_uring == false' >/dev/null || fail "$(ambroctl status --json)"

witness_start writer "$scratch/mnt" --rate 100
noise_start "$scratch/mnt"
ambroctl capture "$source" -o "$scratch/live.zst"
witness_stop writer
ambroctl verify "$scratch/live.zst"
"$deny" io_uring "$O/ambroctl" restore "$scratch/live.zst" "$scratch/restored" --yes
loop_make "$scratch/restored"
fs_check ext4 "$loop"
mount_at "$loop" "$scratch/copy" -o ro
witness_check writer "$scratch/copy" "$scratch/live.zst"

head -c 20000001 /dev/urandom >"$scratch/file" # ends inside a sector
ambroctl capture "$scratch/file" -o "$scratch/file.zst"
ambroctl restore "$scratch/file.zst" "$scratch/file.restored" --yes
cmp "$scratch/file" "$scratch/file.restored"
