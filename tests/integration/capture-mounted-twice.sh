#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# One file system that is seen in many places (mounted twice, bind-mounted, read-only in one of them, also in
# another mount namespace) is frozen once, and the image is consistent.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require unshare jq

truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make ext4 "$source"
mount_at "$source" "$scratch/one"
mkdir "$scratch/one/inside"
mount_at "$source" "$scratch/two"
mount_at "$scratch/one/inside" "$scratch/bound" --bind
mount_at "$scratch/one" "$scratch/nested" --bind
mount_at "$scratch/two" "$scratch/nested/inside" --bind
mount_at "$scratch/one" "$scratch/read-only" --bind
mount -o remount,bind,ro "$scratch/read-only"
# shellcheck disable=SC2016 # they are the inner shell's
unshare -m --propagation private sh -c 'umount "$1" && touch "$2" && exec sleep 600' - \
	"$scratch/bound" "$scratch/ready" &
cleanup _stop_quietly $!
wait_for 10 test -e "$scratch/ready" || fail "no mount namespace"
witness_start writer "$scratch/bound" --rate 100

agent_start
for name in "$source" "$scratch/two"; do
	rm -f "$scratch/image.zst"
	ambroctl capture "$name" -o "$scratch/image.zst"
done
[[ $(manifest "$scratch/image.zst" .guarantee) == filesystem-consistent ]] || fail "promises too little"
witness_stop writer
ambroctl restore "$scratch/image.zst" "$scratch/restored" --yes
loop_make "$scratch/restored"
fs_check ext4 "$loop"
mount_at "$loop" "$scratch/copy" -o ro
witness_check writer "$scratch/copy/inside" "$scratch/image.zst"
