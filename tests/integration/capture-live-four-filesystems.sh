#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Four file systems on one live disk, all written to all the time: the image is one instant of them all.
# Every checker is content, every file acknowledged before the instant is there, and none that is newer.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx fio jq python3 mkfs.xfs mkfs.btrfs mkfs.vfat

disk_make "$scratch/source" 1200M <<'TABLE'
label: gpt
size=96M, type=uefi
size=300M
size=320M
size=300M
size=64M, type=swap
TABLE
source=$loop
types=(vfat ext4 xfs btrfs) live=()
for i in "${!types[@]}"; do
	t=${types[i]}
	fs_make "$t" "${source}p$((i + 1))"
	fs_known "$t" || {
		say "note: this kernel cannot mount $t"
		continue
	}
	live+=("$t")
	mount_at "${source}p$((i + 1))" "$scratch/$t"
	some_files "$scratch/$t/static" 24
	mkdir "$scratch/$t/acked"
done
fs_known vfat || vfat_fill "${source}p1"
fs_make swap "${source}p5" SWAP
sync

agent_start
for t in "${live[@]}"; do
	sums "$scratch/$t/static" >"$scratch/$t.sums"
	witness_start "$t" "$scratch/$t/acked" --rate 60 --size 8192
done
for t in "${live[@]}"; do
	[[ $t == vfat ]] || noise_start "$scratch/$t" 3
done
sleep 1

ambroctl capture "$source" -o "$scratch/image.zst"
for t in "${live[@]}"; do
	wait_for 20 _has_lines "$scratch/$t.ack" $(($(wc -l <"$scratch/$t.ack") + 5)) ||
		fail "$t: no write goes through after the capture"
	witness_stop "$t"
	say "$t writer: $(cat "$scratch/$t.json")"
done
say "capture: $(manifest "$scratch/image.zst" '.capture | tojson')"
ambroctl verify "$scratch/image.zst"
[[ $(manifest "$scratch/image.zst" .strategy) == precopy ]] || fail "not taken live"

# two btrfs of one id cannot be mounted at a time
while read -r pid; do kill "$pid" 2>/dev/null || :; done < <(jobs -p | grep -vx "$agent_pid")
for t in "${live[@]}"; do umount_at "$scratch/$t"; done
btrfs device scan --forget "${source}p4" 2>/dev/null || :

truncate -s 1400M "$scratch/target"
loop_make "$scratch/target"
ambroctl restore "$scratch/image.zst" "$loop" --yes
partitions_add "$loop"
sfdisk -V "$loop" >&2
for i in "${!types[@]}"; do
	t=${types[i]}
	fs_check "$t" "${loop}p$((i + 1))"
	[[ " ${live[*]} " == *" $t "* ]] || {
		same "${source}p$((i + 1))" "${loop}p$((i + 1))"
		continue
	}
	mount_at "${loop}p$((i + 1))" "$scratch/restored-$t" -o ro
	sums "$scratch/restored-$t/static" | cmp - "$scratch/$t.sums" || fail "$t: static files differ"
	witness_check "$t" "$scratch/restored-$t/acked" "$scratch/image.zst"
done
[[ $(blkid -p -o value -s LABEL "${loop}p5") == SWAP ]] || fail "no swap header"
