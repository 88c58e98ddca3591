#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The place where the repository is gets full, its directory goes away in the middle, or the client is killed: the capture fails, the
# server does not notice, nothing half-done is seen; and what had reached the repository is not sent again.
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

# its directory is deleted in the middle, as by somebody who tidies up; or renamed, and then the image goes along
some_packs() { (($(find "$1/packs" -type f 2>/dev/null | wc -l) >= 3)); }
mkdir "$scratch/place"
for how in deleted renamed; do
	place=$scratch/place/$how
	ambroctl repo init --repo "$place" >/dev/null
	mkdir "$scratch/mnt/$how"
	witness_start "$how" "$scratch/mnt/$how"
	"$O/ambroctl" capture "$disk" --repo "$place" --disk vda -q --limit-write 50M 2>"$scratch/gone.err" &
	client=$!
	wait_for 60 some_packs "$place" || fail "$how: no packs"
	mv "$place" "$place.away"
	[[ $how == renamed ]] || rm -r "$place.away"
	status=0
	wait "$client" || status=$?
	[[ ! -e $place ]] || fail "$how: something was made there anew: $(find "$place")"
	witness_stop "$how"
	stands_still "$scratch/mnt" && fail "$how: the file system stands still"
	if [[ $how == deleted ]]; then
		[[ $status == 1 ]] || fail "$how: exit status $status: $(cat "$scratch/gone.err")"
		one_line "$scratch/gone.err"
		say "$how: $(cat "$scratch/gone.err")"
		finds "$place" <"$scratch/gone.err" || fail "it does not say what is gone: $(cat "$scratch/gone.err")"
	else
		[[ $status == 0 ]] || fail "$how: exit status $status: $(cat "$scratch/gone.err")"
		ambroctl repo check --repo "$place.away" --read-data >/dev/null || fail "check of what was renamed"
		[[ $(ambroctl list --repo "$place.away" --json | jq length) == 1 ]] || fail "no image in what was renamed"
		rm -r "$place.away"
	fi
done

# killed when some packs are there
repo_make
"$O/ambroctl" capture "$disk" --disk vda -q 2>/dev/null &
client=$!
wait_for 60 some_packs "$AMBRO_REPOSITORY" || fail "no packs"
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
