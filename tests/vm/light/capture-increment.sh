#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Increments of a volume by dm and of a disk by kmod, while they are written to: little is read, and what comes of delta
# and parent is one instant.
# vm-disks: 128M 160M
# vm-memory: 1024
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"
. "$top/tests/lib/increment.sh"

increment_ready
module_load
volume_make vol "${disks[0]}"
disk=${disks[1]}
disk_layout "$disk" <<'EOT'
label: gpt
size=120M
EOT
fs_make ext4 /dev/mapper/vol
fs_make ext4 "$(part "$disk" 1)"
mount_at /dev/mapper/vol "$scratch/dm"
mount_at "$(part "$disk" 1)" "$scratch/kmod"
agent_start

# increments STRATEGY SOURCE [PARTITION]: its file system is mounted on $scratch/STRATEGY.
increments() {
	local n dir=$scratch/$1 dev instant read
	made_files "$dir/files" 48
	mkdir "$dir/acked"
	(cd "$dir" && find files -type f -print0 | xargs -0 sha256sum) >"$scratch/sums"
	sync -f "$dir"
	whole "$1-parent" "$2" --strategy "$1"
	check "$1: a token" test "$(manifest "$scratch/$1-parent.zst" .track)" != null
	read=$(manifest "$scratch/$1-parent.zst" .capture.read_bytes)
	head -c 2M /dev/urandom >"$dir/new"
	sync -f "$dir"
	sha256sum <"$dir/new" >"$scratch/new"
	witness_start "$1" "$dir/acked" --rate 20 --size 4096 --threads 2
	for n in 1 2; do
		increment "$1-$n" "$2" "$1-parent" tracked --strategy "$1"
		say "$1-$n: read $(increment_told "$1-$n" .read) of $read"
		check "$1-$n: little was read" test "$(increment_told "$1-$n" .read)" -lt $((read * 3 / 4))
	done
	witness_stop "$1"
	for n in 1 2; do
		loop_make "$scratch/$1-$n.raw"
		dev=$loop
		[[ ! ${3:-} ]] || { partitions_add "$loop" && dev=${loop}p$3; }
		fs_check ext4 "$dev"
		mount_at "$dev" "$scratch/back"
		(cd "$scratch/back" && sha256sum --quiet -c "$scratch/sums") || fail "$1-$n: files differ"
		check_equal "$1-$n: what came since" "$(cat "$scratch/new")" "$(sha256sum <"$scratch/back/new")"
		instant=$(increment_manifest "$1-$n" .instant_ns)
		tool ackwriter check "$scratch/back/acked" "$scratch/$1.ack" --instant "$instant" >"$scratch/check" ||
			fail "$1-$n: $(cat "$scratch/check")"
		ok "$1-$n: $(cat "$scratch/check")"
		umount_at "$scratch/back"
		_loop_free "$loop" || :
		# it lies in memory
		rm "$scratch/$1-$n.raw"
	done
	nothing_left "$dir"
}
increments dm /dev/mapper/vol
increments kmod "$disk" 1
agent_stop
umount_at "$scratch/dm"
umount_at "$scratch/kmod"
fs_check ext4 /dev/mapper/vol
fs_check ext4 "$(part "$disk" 1)"
