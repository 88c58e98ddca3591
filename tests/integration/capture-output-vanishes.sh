#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Who reads the image goes away in the middle of the capture: it ends at once and says why, the disk is let go, and the agent
# goes on. A directory that is removed meanwhile leaves no image and an error.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl

truncate -s 300M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
head -c 80M /dev/urandom >"$scratch/mnt/random"
sync
agent_start
one_job() { [[ $(agent_call get-property Jobs) == "u 1" ]]; }
no_job() { [[ $(agent_call get-property Jobs) == "u 0" ]]; }

# a pipe to a program, and a FIFO by its name
status=0
timeout 120 "$O/ambroctl" capture -q "$loop" -o - 2>"$scratch/err" | head -c 1000000 >/dev/null || status=${PIPESTATUS[0]}
((status == 1)) || fail "exit code $status: $(cat "$scratch/err")"
grep -qi 'broken pipe' "$scratch/err" || fail "it does not say why: $(cat "$scratch/err")"
one_line "$scratch/err"
wait_for 20 no_job || fail "the job goes on without a reader"
mkfifo "$scratch/fifo"
head -c 1000000 "$scratch/fifo" >/dev/null &
expect_fail 1 "broken pipe" timeout 120 "$O/ambroctl" capture "$loop" -o "$scratch/fifo"
wait_for 20 no_job || fail "the job goes on without a reader"
timeout 120 touch "$scratch/mnt/after" || fail "the file system stands still"

# the directory goes while the image has no name yet
mkdir "$scratch/dir"
"$O/ambroctl" capture "$loop" -o "$scratch/dir/image.zst" >"$scratch/out" 2>"$scratch/err" &
client=$!
wait_for 20 one_job || fail "no job: $(cat "$scratch/err")"
rm -r "$scratch/dir" || fail "the directory is not empty while the image is being written"
status=0
wait "$client" || status=$?
((status == 1)) || fail "exit code $status: $(cat "$scratch/err")"
grep -q 'image.zst' "$scratch/err" || fail "it does not say what: $(cat "$scratch/err")"
wait_for 20 no_job || fail "the job goes on"

ambroctl capture "$loop" -o "$scratch/image.zst"
ambroctl verify "$scratch/image.zst"
