#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A disk with unreadable places: without --ignore-read-errors the capture fails and names the lowest; with it
# the image, `show`, `verify` and `restore` tell of them exactly, all else is right, and the exit code is 4.
# Errors that are gone when the place is read again are none. With io_uring and without.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
require_root
require jq python3

size=$((24 << 20))
head -c $size /dev/urandom >"$scratch/source"
fault_disk "$scratch/source"
source=$loop
sector=$((5 * 2048 * 512 + 3 * 512)) # in the sixth chunk; FUSE is asked for pages
first=$((sector / 4096 * 4096)) second=$((17 << 20))
cp "$scratch/source" "$scratch/expected"
dd if=/dev/zero of="$scratch/expected" bs=4096 seek=$((first / 4096)) count=1 conv=notrunc status=none
dd if=/dev/zero of="$scratch/expected" bs=1M seek=17 count=2 conv=notrunc status=none

for via in "" "$O/tests/lib/tool-deny io_uring"; do
	# shellcheck disable=SC2086 # words
	agent_start $via
	printf '%s\n' "$second $((2 << 20))" "$first 4096" >"$scratch/source.faults"
	image=$scratch/image.zst
	expect_fail 1 "at byte $first (sector $((first / 512)))" ambroctl capture "$source" -o "$image"
	[[ ! -e $image ]] || fail "an image was left"

	status=0
	ambroctl capture "$source" -o "$image" --ignore-read-errors &>"$scratch/capture.log" || status=$?
	((status == 4)) || fail "exit code $status: $(cat "$scratch/capture.log")"
	grep -q "could not be read" "$scratch/capture.log" || fail "it does not say so: $(cat "$scratch/capture.log")"
	told=$(manifest "$image" '[.bad[] | .offset, .length] | join(" ")')
	[[ $told == "$first 4096 $second $((2 << 20))" ]] || fail "the manifest says: $told"
	ambroctl show "$image" >"$scratch/show"
	grep -qF "$first" "$scratch/show" || fail "show says: $(cat "$scratch/show")"
	ambroctl verify "$image" &>"$scratch/verify.log" || fail "$(cat "$scratch/verify.log")"
	ambroctl restore "$image" "$scratch/restored" --yes &>"$scratch/restore.log" || fail "$(cat "$scratch/restore.log")"
	for verb in verify restore; do
		grep -q "$((4096 + (2 << 20))) bytes of the disk could not be read" "$scratch/$verb.log" ||
			fail "$verb says only: $(cat "$scratch/$verb.log")"
	done
	same "$scratch/expected" "$scratch/restored"
	rm "$image" "$scratch/restored"

	echo "$first 4096 1" >"$scratch/source.faults"
	ambroctl capture "$source" -o "$image" --quiet || fail "an error that goes away was not forgiven"
	ambroctl restore "$image" "$scratch/restored" --yes
	same "$scratch/source" "$scratch/restored"
	rm "$image" "$scratch/restored"
	agent_stop
done
