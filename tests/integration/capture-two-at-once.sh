#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Captures of one disk, of a partition of it, and of another disk, all at the same time: none is in the way
# of another's freeze.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx fio

disk_make "$scratch/source" 200M <<'TABLE'
label: dos
start=63, size=150001
start=200001, size=150001
TABLE
one=$loop
truncate -s 150M "$scratch/source2"
loop_make "$scratch/source2"
two=$loop
for d in "${one}p1" "${one}p2" "$two"; do
	fs_make ext4 "$d"
	mount_at "$d" "$scratch/mnt.${d##*/}"
	some_files "$scratch/mnt.${d##*/}" 10
done
noise_start "$scratch/mnt.${one##*/}p2"
noise_start "$scratch/mnt.${two##*/}"
agent_start

for round in 1 2 3; do
	clients=()
	for d in "$one" "$one" "${one}p2" "$two"; do
		image=$scratch/${#clients[@]}.zst
		rm -f "$image"
		ambroctl capture "$d" -o "$image" --max-freeze 5000 &>"$image.log" &
		clients+=($!)
	done
	for i in "${!clients[@]}"; do
		wait "${clients[i]}" || fail "round $round: $(cat "$scratch/$i.zst.log")"
		ambroctl verify "$scratch/$i.zst"
	done
done
