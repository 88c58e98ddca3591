# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
#
# usedmap.sh - the oracle of used-block maps: what a map calls used is copied to an empty file, and then
# the file system's own checker and the hashes of all files must find nothing missing.

usedmap_tool=$O/tests/unit/test-usedmap
[[ -x $usedmap_tool ]] || skip "$usedmap_tool is not built"

# usedmap_copy SOURCE COPY live|offline: the map's lines are then in $scratch/map.
usedmap_copy() {
	rm -f "$2"
	"$usedmap_tool" "$@" >"$scratch/map" || fail "no map of $1"
	say "$3: $(tail -n +2 "$scratch/map")"
}
# map_is REGION NAME: what the map of that region was made from.
map_is() {
	grep -q "^region=$1 .* map=$2 " "$scratch/map" || fail "region $1 is not mapped by $2"
}
# map_whole REGION [REASON]
map_whole() {
	map_is "$1" all
	grep -q "^region=$1 .* why=.*${2:-}" "$scratch/map" || fail "region $1: not \"$2\""
}
# map_saves REGION PERCENT: it leaves out at least so much, or it would prove nothing.
map_saves() {
	awk -v r="region=$1" -v p="$2" '$1 == r { split($3, l, "="); split($6, u, "=")
		exit !(u[2] < l[2] * (100 - p) / 100) }' "$scratch/map" || fail "region $1: hardly anything is left out"
}

# fs_wear DIR: files of all sizes, most of them made, moved, cut and deleted, so that what is used and
# what is free lie in pieces between each other.
fs_wear() {
	local dir=$1 i
	some_files "$dir/some" 40
	mkdir "$dir/small"
	for i in $(seq 1500); do
		head -c $((i * 7 % 9000 + 1)) /proc/self/exe >"$dir/small/$i"
	done
	sync -f "$dir"
	for i in $(seq 1 2 1500); do rm "$dir/small/$i"; done
	find "$dir/some" -type f | awk 'NR % 3 == 0' | tr '\n' '\0' | xargs -0 rm -f
	head -c 30M /dev/urandom >"$dir/large"
	truncate -s 11M "$dir/large"
	head -c 3M /dev/urandom | dd of="$dir/large" bs=1M seek=40 conv=notrunc status=none
	fallocate -l 20M "$dir/reserved" 2>/dev/null || :
	sync -f "$dir"
}

# loop_take FILE: as loop_make, but may be given back before the end by loop_drop, when its number may be
# somebody else's already.
loop_take() {
	loop=$(losetup --find --show "$1")
	cleanup loop_drop "$loop"
}
loop_drop() {
	if [[ $(losetup -nO BACK-FILE "$1" 2>/dev/null) == "$scratch"/* ]]; then losetup -d "$1"; fi
}

# usedmap_copy_is_whole TYPE COPY SUMS
usedmap_copy_is_whole() {
	loop_take "$2"
	fs_check "$1" "$loop"
	mount_at "$loop" "$scratch/mnt.copy"
	(sums "$scratch/mnt.copy") | cmp - "$3" || fail "files differ in a copy of $1"
	if [[ $1 == btrfs ]]; then
		btrfs scrub start -Br "$scratch/mnt.copy" >"$scratch/scrub" 2>&1 ||
			fail "scrub: $(cat "$scratch/scrub")"
	fi
	umount "$scratch/mnt.copy"
	loop_drop "$loop"
}

# usedmap_oracle TYPE LIVE_MAP OFFLINE_MAP MKFS…: both ways, on a file system made by MKFS FILE.
usedmap_oracle() {
	local type=$1 live=$2 offline=$3 disk=$scratch/disk.img
	shift 3
	rm -f "$disk"
	truncate -s 500M "$disk"
	"$@" "$disk" >/dev/null 2>&1 || fail "$*"
	loop_take "$disk"
	mount_at "$loop" "$scratch/mnt"
	fs_wear "$scratch/mnt"
	sums "$scratch/mnt" >"$scratch/sums"
	fsfreeze -f "$scratch/mnt"
	fsfreeze -u "$scratch/mnt"
	usedmap_copy "$loop" "$scratch/live" live
	map_is 0 "$live"
	map_saves 0 30
	umount "$scratch/mnt"
	usedmap_copy "$loop" "$scratch/offline" offline
	map_is 0 "$offline"
	map_saves 0 30
	# gone, before a copy with the same identity appears: the kernel must not take one for the other
	loop_drop "$loop"
	usedmap_copy_is_whole "$type" "$scratch/live" "$scratch/sums"
	usedmap_copy_is_whole "$type" "$scratch/offline" "$scratch/sums"
}
