#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What a writer feels of the module and of a snapshot, by fio: samples as lines of JSON in $state, of which
# tests/bench/origin.sh makes tables. Two disks that are alike: one with a snapshot of ours, one with LVM's own.
# vm-by-hand: a benchmark
# vm-disks: 192M 192M 64M
# vm-modules: dm-snapshot
# vm-memory: 768
# vm-timeout: 3000
. "$(dirname "$0")/../lib.sh"
. "$top/tests/vm/kmod.sh"
. "$top/tests/vm/capture.sh"

require fio jq lvm
rounds=${1:-3} captures=${2:-20}
disk=${disks[0]} lvm_disk=${disks[1]} fs_disk=${disks[2]}
# MiB: what is written, and where the store begins; the first is what LVM's volume has too
room=88 store_at=96
# shellcheck disable=SC2034 # stack_on's: its proof is not wanted here, and takes half a minute
stack_range="0 8"
export LVM_SYSTEM_DIR=$scratch/lvm LVM_SUPPRESS_FD_WARNINGS=1
mkdir -p "$LVM_SYSTEM_DIR"
cat >"$LVM_SYSTEM_DIR/lvm.conf" <<-EOT
	activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
	devices { use_devicesfile = 0 obtain_device_list_from_udev = 0 external_device_info_source = "none" }
	backup { backup = 0 archive = 0 }
EOT

# sample ROUND WHAT DEVICE: four ways to write, each to a part of its own: three once over, and few places of many.
sample() {
	fio --filename="$3" --direct=1 --ioengine=libaio --percentile_list=50:99:99.9 --lat_percentiles=1 --clat_percentiles=0 \
		--output-format=json --randseed="$1" --output="$scratch/fio.json" \
		--name=rand-qd1 --rw=randwrite --bs=4k --iodepth=1 --offset=0 --size=10M \
		--name=rand-qd8 --stonewall --rw=randwrite --bs=4k --iodepth=8 --offset=12M --size=16M \
		--name=seq --stonewall --rw=write --bs=128k --iodepth=1 --offset=28M --size=20M \
		--name=sparse --stonewall --rw=randwrite --bs=4k --iodepth=1 --offset=48M --size=40M --io_size=2M >/dev/null ||
		fail "fio on $3"
	jq -c --arg what "$2" --argjson round "$1" '.jobs[] | {what: $what, round: $round, job: .jobname,
		kib_s: .write.bw, p50: .write.lat_ns.percentile["50.000000"], p99: .write.lat_ns.percentile["99.000000"],
		p999: .write.lat_ns.percentile["99.900000"]}' "$scratch/fio.json" >>"$state/samples"
}
# first_and_again ROUND WHAT DEVICE
first_and_again() {
	sample "$1" "$2, first write" "$3"
	sample "$1" "$2, again" "$3"
}

ours() {
	local chunk=$2
	stack_attach "$disk"
	[[ $chunk != 16 ]] || sample "$1" "attached, off" "$disk"
	dm_make "store$id" <<<"0 $(((192 - store_at) * 2048)) linear $back $((store_at * 2048))"
	stack_prepare "/dev/mapper/store$id" "$chunk"
	stack_on
	first_and_again "$1" "snapshot, chunks of $((chunk / 2)) KiB" "$disk"
	check_equal "chunks of $chunk: errors" 0 "$(query errors)"
	stack_off
	stack_remove
	dm_remove "store$id"
	stack_detach
}
lvms() {
	sample "$1" "LVM, no snapshot" /dev/mapper/vg-data
	lvcreate -q -s -n snap -L "$((store_at - 8))M" vg/data &>"$scratch/lvcreate" || fail "$(cat "$scratch/lvcreate")"
	[[ $1 != 1 ]] || say "LVM's: $(dmsetup table | grep -m1 'snapshot ')"
	first_and_again "$1" "LVM, lvcreate -s" /dev/mapper/vg-data
	lvremove -qq -y vg/snap &>/dev/null || fail "lvremove"
}

# freezes N: of the agent's, idle and under load.
freezes() {
	local i began load
	fs_make ext4 "$fs_disk"
	mount_at "$fs_disk" "$scratch/fs"
	made_files "$scratch/fs/files" 4
	for load in idle busy; do
		[[ $load == idle ]] || fio_start noise --directory="$scratch/fs" --size=4M --rw=randwrite --bs=16k \
			--ioengine=psync --fsync=16 --rate=2m --time_based --runtime=2000
		for ((i = 0; i < $1; i++)); do
			began=$(date +%s%N)
			ambroctl capture "$fs_disk" -o "$scratch/f.img" --force --strategy kmod --cow-size 8M --json \
				>"$scratch/f.json"
			jq -c --arg load "$load" --argjson began "$began" --argjson at "$(manifest "$scratch/f.img" .instant_ns)" \
				'{load: $load, freeze_us, until_instant_us: (($at - $began) / 1000 | floor)}' \
				"$scratch/f.json" >>"$state/freezes"
		done
	done
	fio_stop noise
	umount_at "$scratch/fs"
}

rm -f "$state"/{samples,freezes}
vgcreate -q vg "$lvm_disk" >/dev/null || fail "vgcreate"
cleanup vgchange -qq -an vg
lvcreate -q -Wn -n data -L ${room}M vg >/dev/null || fail "lvcreate"
for d in "$disk" /dev/mapper/vg-data; do
	random_onto "$d" $room
done
for ((round = 1; round <= rounds; round++)); do
	say "round $round of $rounds"
	sample "$round" "nothing loaded" "$disk"
	insmod "$module" || fail "insmod"
	sample "$round" "module loaded" "$disk"
	agent_start
	ambroctl capture "$disk" -o /dev/null --strategy precopy >/dev/null
	sample "$round" "agent running, disk tracked" "$disk"
	agent_call call Untrack s "$disk" >/dev/null
	agent_stop
	owner_start
	for chunk in 8 16 64; do
		ours "$round" "$chunk"
	done
	owner_stop
	rmmod ambro
	lvms "$round"
done
module_load
agent_start
freezes "$captures"
agent_stop
