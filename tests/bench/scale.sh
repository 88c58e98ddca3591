#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# scale.sh - the same files on disks of growing size: what a live capture, an offline capture, verify and a restore
# to another sparse disk cost. Printed as Markdown. Memory is that of agent, client and all their children together,
# without the tracker's map, which is 16 MiB for each TiB.
#
# SCALE_TIB ("1 4 16"), SCALE_MIB (of files: 1024), SCALE_FS ("xfs ext4"), SCALE_ROUNDS (3: the median counts).
. "$(dirname "$0")/../lib/functions.sh"

require_root
require jq python3 mkfs.xfs mkfs.ext4
used=${SCALE_MIB:-1024}
rounds=${SCALE_ROUNDS:-3}
read -ra sizes <<<"${SCALE_TIB:-1 4 16}"
read -ra kinds <<<"${SCALE_FS:-xfs ext4}"
[[ $scratch == /dev/shm/* ]] || say "note: not in memory; disk speeds will be in the figures"
# disk, image, and what is restored from it
(($(free_mib "$scratch") > used * 7)) || skip "$used MiB of files need $((used * 7)) MiB of space in $scratch"

# disk_of TYPE TIB: $loop, not mounted, with files on it
disk_of() {
	local disk=$scratch/disk.img
	truncate -s "$2T" "$disk"
	case $1 in
	xfs) mkfs.xfs -q -f -K -l size=64m "$disk" ;;
	ext4)
		mkfs.ext4 -q -F -T largefile4 -J size=64 \
			-E nodiscard,lazy_itable_init=1,lazy_journal_init=1 "$disk"
		;;
	*) fail "SCALE_FS: $1?" ;;
	esac
	loop_make "$disk"
	mount_disk "$1"
	fill "$scratch/mnt"
	sync -f "$scratch/mnt"
	umount_at "$scratch/mnt"
}
# without the thread that would zero inode tables while we measure
mount_disk() { mount_at "$loop" "$scratch/mnt" -o "$([[ $1 == ext4 ]] && echo noinit_itable || echo defaults)"; }
fill() {
	[[ -s $scratch/list ]] ||
		find /usr -xdev -type f -size -64M -printf '%s %p\n' 2>/dev/null | sort -k2 >"$scratch/list"
	awk -v most=$((used << 20)) '{ n += $1; if (n > most) exit; sub(/^[0-9]+ /, ""); print }' "$scratch/list" |
		tar -cf - --no-recursion -T - 2>/dev/null | tar -xf - -C "$1"
}

# cost ROW NAME COMMAND…: one line of $scratch/costs
cost() {
	"$top/tests/lib/peak.py" "$agent_pid" -- "${@:3}" >"$scratch/peak" 2>"$scratch/cost.out" || {
		cat "$scratch/cost.out" >&2
		fail "$1: $2"
	}
	jq -r --arg row "$1" --arg name "$2" '[$row, $name, .wall, .cpu, .peak_mib] | @tsv' "$scratch/peak" >>"$scratch/costs"
	say "$1: $2: $(cat "$scratch/peak")"
}

# round TYPE TIB
round() {
	local row="$1 $2" image=$scratch/image.zst
	mount_disk "$1"
	cost "$row" live "$O/ambroctl" capture "$loop" -o "$image"
	manifest "$image" .capture.freeze_us | sed "s/^/$row\t/" >>"$scratch/freezes"
	umount_at "$scratch/mnt"
	rm "$image"
	cost "$row" offline "$O/ambroctl" capture "$loop" -o "$image"
	cost "$row" verify "$O/ambroctl" verify "$image"
	cost "$row" restore "$O/ambroctl" restore "$image" "$scratch/back.img" --yes
	rm "$image" "$scratch/back.img"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
# of ROW NAME COLUMN
of() { awk -F '\t' -v r="$1" -v n="$2" -v c="$3" '$1 == r && $2 == n { print $c }' "$scratch/costs" | median; }
frozen() { awk -F '\t' -v r="$1" '$1 == r { print $2 / 1000 }' "$scratch/freezes" | median; }

print_table() {
	local kind size name row
	printf '\nThe same %s MiB of files on sparse disks; %s rounds, medians. Each cell: wall seconds / CPU seconds / peak MiB.\n\n' \
		"$used" "$rounds"
	printf '| file system | disk | live capture | frozen | offline capture | verify | restore |\n|---|--:|--:|--:|--:|--:|--:|\n'
	for kind in "${kinds[@]}"; do
		for size in "${sizes[@]}"; do
			row="$kind $size"
			printf '| %s | %s TiB ' "$kind" "$size"
			for name in live offline verify restore; do
				printf '| %.1f / %.1f / %d ' "$(of "$row" "$name" 3)" "$(of "$row" "$name" 4)" "$(of "$row" "$name" 5)"
				[[ $name != live ]] || printf '| %.1f ms ' "$(frozen "$row")"
			done
			printf '|\n'
		done
	done
}

agent_start
for kind in "${kinds[@]}"; do
	for size in "${sizes[@]}"; do
		disk_of "$kind" "$size"
		for ((i = 0; i < rounds; i++)); do
			round "$kind" "$size"
		done
		agent_call call Untrack s "$loop" >/dev/null
		losetup -d "$loop"
		rm "$scratch/disk.img"
	done
done
print_table
