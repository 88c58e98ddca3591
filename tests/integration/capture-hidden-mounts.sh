#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What cannot be frozen is not promised: a file system that is mounted in another mount namespace makes the
# image crash-consistent; one that is covered by another mount is refused, and the other one is left alone.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx unshare jq

disk_make "$scratch/source" 300M <<'TABLE'
label: gpt
size=100M
size=100M
size=20M, type=swap
TABLE
source=$loop
fs_make ext4 "${source}p1"
fs_make ext4 "${source}p2"
fs_make swap "${source}p3"
mount_at "${source}p1" "$scratch/mnt"
agent_start

ambroctl capture "$source" -o "$scratch/image.zst"
[[ $(manifest "$scratch/image.zst" .guarantee) == filesystem-consistent ]] || fail "nothing is hidden yet"

mkdir "$scratch/theirs"
# shellcheck disable=SC2016 # they are the inner shell's
unshare -m --propagation private sh -c \
	'mount "$1" "$2" && touch "$2/up" "$3" && exec sleep 600' - "${source}p2" "$scratch/theirs" "$scratch/ready" &
cleanup _stop_quietly $!
wait_for 10 test -e "$scratch/ready" || fail "no mount in a namespace"
ambroctl capture "$source" -o "$scratch/hidden.zst"
[[ $(manifest "$scratch/hidden.zst" .guarantee) == crash-consistent ]] || fail "promises too much"

mount_at none "$scratch/mnt" -t tmpfs
expect_fail any "another one is mounted over it" "$O/ambroctl" capture "${source}p1" -o "$scratch/covered.zst"
umount "$scratch/mnt"
