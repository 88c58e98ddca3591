#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The COW store runs full: the capture fails and says why, or goes on as precopy if it was asked to; the disk's own
# I/O does not notice.
# vm-disks: 96M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

module_load
disk=${disks[0]} dir=$scratch/dir
# of what lies on $scratch nobody can tell which disk it is on, and precopy must know
image=/dev/shm/o.img
fs_make ext4 "$disk"
mount_at "$disk" "$dir"
made_files "$dir/files" 16
(cd "$dir" && find files -type f -print0 | xargs -0 sha256sum) >"$scratch/sums"
dd if=/dev/urandom of="$dir/old" bs=1M count=24 status=none
sync -f "$dir"

# overflow: what is there is overwritten, more than the store holds, while the agent waits at "mapped".
overflow() {
	wait_for 60 grep -q "^pause: mapped" "$agent_log" || fail "the agent never came to mapped"
	dd if=/dev/urandom of="$dir/old" bs=1M count=24 conv=notrunc,fsync status=none || fail "a write failed"
	touch "$scratch/go"
}

# captured OPTION…: while that happens.
captured() {
	local status=0
	rm -f "$scratch/go"
	agent_log=$scratch/agent.$RANDOM
	agent_start AMBRO_TEST_PAUSE=mapped:300000 AMBRO_TEST_GO="$scratch/go"
	overflow &
	ambroctl capture "$disk" -o "$image" --force --strategy kmod --cow-size 8M --json "$@" \
		>"$scratch/job.json" 2>"$scratch/said" || status=$?
	wait $! || fail "the writer"
	agent_stop
	nothing_left "$dir"
	return "$status"
}

check_fails "a full store ends the capture" captured
check "it says why" grep -q "COW store .* is full" "$scratch/said"
check_equal "no image" "" "$(ls "$image" 2>/dev/null)"

mkdir "$dir/w"
witness_start w "$dir/w" --rate 40 --size 4096 --threads 2
check "going on as precopy" captured --on-overflow precopy
witness_stop w
check_equal "the image says so" precopy "$(manifest "$image" .strategy)"
check_equal "nothing was unreadable" 0 "$(jq .bad "$scratch/job.json")"
image_restores "$image" w "$scratch/sums" ext4
umount_at "$dir"
fs_check ext4 "$disk"
