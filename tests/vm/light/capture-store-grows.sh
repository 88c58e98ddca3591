#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A COW store whose size was the agent's to choose grows when it is filled to 40 %, in the file system and in memory;
# the image still shows the instant.
# vm-disks: 360M
# vm-modules: dm-snapshot
# vm-memory: 640
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

module_load
disk=${disks[0]} dir=$scratch/dir
fs_make ext4 "$disk"
mount_at "$disk" "$dir"
dd if=/dev/urandom of="$dir/old" bs=1M count=70 status=none
sync -f "$dir"

for store in file ram; do
	rm -f "$scratch/go"
	agent_log=$scratch/agent.$store
	agent_start AMBRO_TEST_PAUSE=mapped:300000 AMBRO_TEST_GO="$scratch/go"
	was=$(md5sum <"$dir/old")
	ambroctl capture "$disk" -o "$scratch/$store.img" --strategy kmod --cow "$store" --json >"$scratch/job.json" &
	capture=$!
	wait_for 60 grep -q "^pause: mapped" "$agent_log" || fail "the agent never came to mapped"
	dd if=/dev/urandom of="$dir/old" bs=1M count=70 conv=notrunc,fsync status=none
	wait_for 60 grep -q "the COW store grew by" "$agent_log" || fail "it does not grow"
	touch "$scratch/go"
	wait "$capture" || fail "the capture failed"
	check "$store: more than the 100 to 140 MiB of the beginning" test "$(jq .store_size "$scratch/job.json")" -gt 155000000
	agent_stop
	nothing_left "$dir"
	rm -f "$scratch/back"
	ambroctl restore "$scratch/$store.img" "$scratch/back" --yes >/dev/null 2>&1
	loop_make "$scratch/back"
	fs_check ext4 "$loop"
	mount_at "$loop" "$scratch/b" -o ro
	check_equal "$store: the image shows what was there" "$was" "$(md5sum <"$scratch/b/old")"
	umount_at "$scratch/b"
	_loop_free "$loop" || :
	rm -f "$scratch/back" "$scratch/$store.img"
done
umount_at "$dir"
fs_check ext4 "$disk"
