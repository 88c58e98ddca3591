#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The device that holds the COW store fails in the middle, for writes or altogether: the capture fails and says so, or goes on as
# precopy if it was asked to; the disk's own I/O does not notice, and nothing is left.
# vm-disks: 64M 64M
# vm-modules: dm-snapshot dm-flakey
# vm-timeout: 600
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"
. "$top/tests/lib/faults.sh"

module_load
disk=${disks[0]} dir=$scratch/dir store=/dev/mapper/store sectors=$(sectors_of "${disks[1]}")
# of what lies on $scratch nobody can tell which disk it is on, and precopy must know
image=/dev/shm/f.img
fs_make ext4 "$disk"
mount_at "$disk" "$dir"
made_files "$dir/files" 6
(cd "$dir" && find files -type f -print0 | xargs -0 sha256sum) >"$scratch/sums"
dd if=/dev/urandom of="$dir/old" bs=1M count=8 status=none
sync -f "$dir"
dm_make store <<<"0 $sectors linear ${disks[1]} 0"

# store_becomes TABLE: now. What is under way is waited for, and fails if it must.
store_becomes() {
	dmsetup load store --table "$1"
	dmsetup suspend --noflush --nolockfs store
	dmsetup resume store
}

# failing TABLE CAPTURE-OPTION…: $client_status
failing() {
	store_becomes "0 $sectors linear ${disks[1]} 0"
	dd if=/dev/zero of="$store" bs=1M count=1 oflag=direct status=none
	agent_log=$scratch/agent.$RANDOM
	agent_start_pausing mapped
	capture_start "$disk" "$image" --force --strategy kmod --cow "$store" "${@:2}"
	agent_comes_to mapped
	store_becomes "$1"
	dd if=/dev/urandom of="$dir/old" bs=1M count=8 conv=notrunc,fsync status=none || fail "a write failed"
	agent_goes_on
	capture_ends
	agent_stop
	nothing_left "$dir"
	goes_on "$dir"
}

error="0 $sectors error" flakey="0 $sectors flakey ${disks[1]} 0 0 1000 1 error_writes"
for how in "$error" "$flakey"; do
	failing "$how"
	check "the capture fails: $(tail -n 1 "$image.log")" test "$client_status" != 0
	check "and says why" grep -q 'COW store .* is full, or failed' "$image.log"
	check "no image" test ! -e "$image"
done
mkdir "$dir/w"
witness_start w "$dir/w" --rate 40 --size 4096
failing "$error" --on-overflow precopy
witness_stop w
check_equal "going on as precopy: $(tail -n 1 "$image.log")" 0 "$client_status"
check_equal "the image says so" precopy "$(manifest "$image" .strategy)"
image_restores "$image" w "$scratch/sums" ext4
umount_at "$dir"
fs_check ext4 "$disk"
