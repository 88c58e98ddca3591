#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The place where the repository is gets full, or the client is killed: the capture fails, the server does not notice, nothing
# half-done is seen; and what had reached the repository is not sent again.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require_root
require jq

truncate -s 700M "$scratch/disk"
loop_make "$scratch/disk"
disk=$loop
fs_make ext4 "$disk"
mount_at "$disk" "$scratch/mnt"
head -c 420M /dev/urandom >"$scratch/mnt/noise"
sync -f "$scratch/mnt"
agent_start

# full
mount_at tmpfs "$scratch/small" -t tmpfs -o size=200M
ambroctl repo init --repo "$scratch/small/repo" >/dev/null
witness_start w "$scratch/mnt"
expect_fail 1 "no room" ambroctl capture "$disk" --repo "$scratch/small/repo" -q
one_line "$scratch/expect.err"
[[ $(ambroctl list --repo "$scratch/small/repo" --json | jq length) == 0 ]] || fail "half an image is listed"
witness_stop w
stands_still "$scratch/mnt" && fail "the file system stands still"
ambroctl repo check --repo "$scratch/small/repo" --read-data >/dev/null || fail "check after a full disk"

# killed when some packs are there
repo_make
"$O/ambroctl" capture "$disk" --disk vda -q 2>/dev/null &
client=$!
some_packs() { (($(find "$AMBRO_REPOSITORY/packs" -type f 2>/dev/null | wc -l) >= 3)); }
wait_for 60 some_packs || fail "no packs"
kill -KILL "$client"
wait "$client" 2>/dev/null || :
[[ ! $(names) ]] || fail "an image is listed"
sent=$(repo_bytes)
nothing_runs() { [[ $(agent_call get-property Jobs) == "u 0" ]]; }
wait_for 20 nothing_runs || fail "the agent goes on"
ambroctl repo check >/dev/null || fail "check after a kill"

# cancelled: what was on its way is kept for the next
"$O/ambroctl" capture "$disk" --disk vda -q 2>/dev/null &
client=$!
more_packs() { (($(repo_bytes) > sent + (70 << 20))); }
wait_for 60 more_packs || fail "no more packs"
kill -TERM "$client"
wait "$client" && fail "an interrupted capture is no success"
[[ ! $(names) ]] || fail "an image is listed"

taken "$disk" --disk vda
say "$(taken_says .known_chunks) chunks were there, $(taken_says .new_chunks) were new"
(($(taken_says .known_chunks) >= 200)) || fail "what had been sent was sent again"
restored latest "$scratch/out"
mount_at "$scratch/out" "$scratch/look" -o loop
cmp "$scratch/look/noise" "$scratch/mnt/noise" || fail "another file"
umount_at "$scratch/look"

# packs of the first, that no index names, go when their time has come
ambroctl prune --grace 0 >/dev/null
ambroctl repo check --read-data >/dev/null || fail "check after prune"
used=$(repo_bytes)
((used < 480 << 20)) || fail "$used bytes for one image"
