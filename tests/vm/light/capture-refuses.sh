#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What dm and kmod refuse, each with its reason and leaving nothing: without the module, a second snapshot of the same disk
# (which auto makes by precopy), a store that is in use, on the disk itself, not empty, or too large for the memory.
# vm-disks: 64M 64M 32M
# vm-modules: dm-snapshot
# vm-timeout: 900
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"
. "$top/tests/lib/faults.sh"

disk=${disks[0]}
disk_layout "$disk" <<'EOT'
label: gpt
size=48M
size=12M
EOT
source=$(part "$disk" 1)
fs_make ext4 "$source"
mount_at "$source" "$scratch/one"
made_files "$scratch/one/files" 4
volume_make vol "${disks[1]}"
fs_make ext4 /dev/mapper/vol
mount_at /dev/mapper/vol "$scratch/two"
made_files "$scratch/two/files" 4

# refused TEXT CAPTURE-ARGUMENT…
refused() {
	expect_fail any "$1" "$O/ambroctl" capture "${@:2}" -o "$scratch/no.img"
	check "refused: $(tail -n 1 "$scratch/expect.err")" test ! -e "$scratch/no.img"
	nothing_left "$scratch/one" "$scratch/two"
}

agent_start
refused "ambro" "$disk" --strategy kmod
module_load
refused "is not a device-mapper device" "$disk" --strategy dm
refused "the disk that is captured" "$disk" --strategy kmod --cow "$(part "$disk" 2)"
refused "the disk that is captured" "$source" --strategy kmod --cow "$disk"
mkfs.ext4 -q "${disks[2]}"
refused "is not empty, it holds ext4" "$disk" --strategy kmod --cow "${disks[2]}"
mount_at "${disks[2]}" "$scratch/three"
refused "is in use" "$disk" --strategy kmod --cow "${disks[2]}"
refused "more than half of what is available" "$disk" --strategy kmod --cow ram --cow-size 4G
refused "no room for a COW store" "$disk" --strategy kmod --cow file --cow-size 40M
refused "name a block device or a directory" "$disk" --strategy kmod --cow /etc/hostname
refused "No such file" "$disk" --strategy kmod --cow /nowhere
refused "the disk that is captured" /dev/mapper/vol --strategy dm --cow /dev/mapper/vol
# the snapshot would be stored below its own origin
refused "" /dev/mapper/vol --strategy dm --cow "${disks[1]}"
agent_stop

# one_at_once STRATEGY SOURCE REASON
one_at_once() {
	# where precopy does not come by
	agent_start_pausing ending
	capture_start "$2" "$scratch/first.img" --strategy "$1" --force
	agent_comes_to ending
	expect_fail any "$3" "$O/ambroctl" capture "$2" -o "$scratch/no.img" --strategy "$1"
	check "$1: a second is refused: $(tail -n 1 "$scratch/expect.err")" test ! -e "$scratch/no.img"
	# not in $scratch, of which nobody can tell here which disk it is on
	ambroctl capture "$2" -o /dev/shm/second.img --force --json >"$scratch/second.json" ||
		fail "auto beside a snapshot by $1"
	check_equal "$1: auto goes on as" precopy "$(manifest /dev/shm/second.img .strategy)"
	check "$1: and says why: $(jq -r .strategy_reason "$scratch/second.json")" \
		jq -e '.strategy_reason | contains("another capture")' "$scratch/second.json"
	agent_goes_on
	capture_ends
	check_equal "$1: the first is not disturbed" 0 "$client_status"
	check "$1: its image" ambroctl verify "$scratch/first.img"
	check "$1: the other's" ambroctl verify /dev/shm/second.img
	agent_stop
	nothing_left "$scratch/one" "$scratch/two"
}
one_at_once kmod "$disk" "another capture"
one_at_once dm /dev/mapper/vol "snapshot"
check_equal "the volume has its table" "$table" "$(dmsetup table vol)"
