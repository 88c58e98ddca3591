#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The same live disk again and again: with tracking left over from the last time, and two at once.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require jq fio python3

truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
agent_start
witness_start writer "$scratch/mnt" --rate 200
noise_start "$scratch/mnt"

# proves IMAGE: it shows its instant
proves() {
	ambroctl verify "$1"
	ambroctl restore "$1" "$1.disk" --yes
	loop_make "$1.disk"
	fs_check ext4 "$loop"
	mount_at "$loop" "$1.mnt" -o ro
	witness_check writer "$1.mnt" "$1"
}

source=$loop
ambroctl capture "$source" -o "$scratch/1.zst"
ambroctl capture "$source" -o "$scratch/2.zst"
proves "$scratch/1.zst"
proves "$scratch/2.zst"
(($(manifest "$scratch/1.zst" .instant_ns) < $(manifest "$scratch/2.zst" .instant_ns))) || fail "no progress"

# At once: the second is refused, or both are right.
"$O/ambroctl" capture "$source" -o "$scratch/3.zst" 2>"$scratch/3.log" &
first=$!
second=0
ambroctl capture "$source" -o "$scratch/4.zst" 2>"$scratch/4.log" || second=$?
wait "$first" || ((second == 0)) || fail "neither worked: $(cat "$scratch"/[34].log)"
for i in 3 4; do
	[[ ! -e $scratch/$i.zst ]] || proves "$scratch/$i.zst"
done
