#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A disk of 16 TiB with little on it costs what is on it: captured live and offline, and restored, in less than
# 256 MiB of memory beyond the tracker's map, and what comes back is what was there.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
require_root
require mkfs.ext4 mkfs.xfs python3 jq
fs_known xfs || skip "this kernel has no xfs"
agent_start

limit_mib=256
used_mib=96
sanitized=
! sanitizer_build "$O/ambrod" || sanitized=1

# light WHAT COMMAND…: it and the agent, with their children, stay below the limit.
light() {
	local what=$1 peak
	shift
	"$top/tests/lib/peak.py" "$agent_pid" -- "$@" >"$scratch/peak" 2>"$scratch/light.out" || {
		cat "$scratch/light.out" >&2
		fail "$what"
	}
	say "$what: $(cat "$scratch/peak")"
	peak=$(jq .peak_mib "$scratch/peak")
	[[ $sanitized ]] || ((peak < limit_mib)) || fail "$what: $peak MiB of memory"
}
# little IMAGE: no more was read than a few times what is used
little() {
	local read
	read=$(manifest "$1" .capture.read_bytes)
	((read < 5 * used_mib << 20)) || fail "$((read >> 20)) MiB were read for $used_mib MiB of files"
}

# back IMAGE TYPE: restored to a new disk, mounted, all files are there
back() {
	light "$2: restore" "$O/ambroctl" restore "$1" "$scratch/back.img" --yes
	[[ $(stat -c %s "$scratch/back.img") == $((16 << 40)) ]] || fail "it came back in another size"
	mount_at "$scratch/back.img" "$scratch/back" -o loop,ro"$([[ $2 == xfs ]] && echo ,norecovery)"
	(sums "$scratch/back") | cmp - "$scratch/sums" || fail "files differ after the restore"
	umount "$scratch/back"
	rm "$scratch/back.img" "$1"
}

# whole TYPE MKFS…
whole() {
	local type=$1 disk=$scratch/disk.img image=$scratch/image.zst
	shift
	truncate -s 16T "$disk"
	"$@" "$disk" >/dev/null 2>&1 || fail "$*"
	loop_make "$disk"
	mount_at "$loop" "$scratch/mnt" -o "$([[ $type == ext4 ]] && echo noinit_itable || echo defaults)"
	some_files "$scratch/mnt" "$used_mib"
	sync -f "$scratch/mnt"
	sums "$scratch/mnt" >"$scratch/sums"
	light "$type: live capture" "$O/ambroctl" capture "$loop" -o "$image"
	little "$image"
	light "$type: verify" "$O/ambroctl" verify "$image"
	[[ $type == xfs ]] || back "$image" "$type"
	rm -f "$image"
	umount "$scratch/mnt"
	light "$type: offline capture" "$O/ambroctl" capture "$loop" -o "$image"
	little "$image"
	[[ $type == ext4 ]] || back "$image" "$type"
	agent_call call Untrack s "$loop" >/dev/null
	losetup -d "$loop"
	rm -f "$disk" "$image"
}

whole xfs mkfs.xfs -q -f -K -l size=64m
# few and large groups of groups: each has a bitmap that is in use
whole ext4 mkfs.ext4 -q -F -T largefile4 -J size=16 -G 512 -O sparse_super2,^resize_inode \
	-E num_backup_sb=1,nodiscard,lazy_itable_init=1,lazy_journal_init=1
