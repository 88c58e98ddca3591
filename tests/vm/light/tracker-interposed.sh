#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The tracker of a disk that is captured through the module: every write to it is marked, once it is on its way
# below the hook; of what is copied to the COW store nothing, but where the store lies on the disk itself.
# vm-disks: 128M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"
. "$(dirname "$0")/../../lib/tracker.sh"

module_load
tracker_ready
disk=${disks[0]} dir=$scratch/dir
disk_layout "$disk" <<'EOT'
label: gpt
start=1MiB, size=64MiB
start=72MiB, size=32MiB
EOT
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$(part "$disk" 1)"
mount_at "$(part "$disk" 1)" "$dir" -o noatime
raw=$(part "$disk" 2)
granule=$((128 << 10))

# put BLOCK COUNT: of 4 KiB, to the raw partition.
put() { dd if=/dev/urandom of="$raw" bs=4k seek="$1" count="$2" oflag=direct conv=nocreat status=none; }
# what four writes to it must mark, as "START LENGTH" lines
wanted="$((72 << 20)) $granule
$((73 << 20)) $((2 * granule))
$((80 << 20)) $((8 * granule))"

# marks STORE: of these writes, while a capture with that store stands with the module on; in $scratch/marks, and the
# store's own extents in $scratch/extents ("START LENGTH", bytes of the disk).
marks() {
	local era
	rm -f "$scratch/go"
	agent_log=$scratch/agent.$1
	agent_start AMBRO_TEST_PAUSE=mapped:300000 AMBRO_TEST_GO="$scratch/go"
	ambroctl capture "$disk" -o "$scratch/o.img" --force --strategy kmod --cow "$1" --cow-size 16M &>"$scratch/said" &
	local capture=$!
	wait_for 60 grep -q "^pause: mapped" "$agent_log" || fail "the agent never came to mapped"
	era=$(tracker era "$disk")
	put 0 1
	put $((256 + 31)) 2
	put 2048 256
	tracker scan "$disk" "$era" >"$scratch/marks"
	check_equal "$1: tracking is beyond doubt" none "$(tracker doubt "$disk")"
	dmsetup table ambro-"${disk##*/}"-cow | awk '{ print $5 * 512, $2 * 512 }' >"$scratch/extents"
	touch "$scratch/go"
	wait "$capture" || fail "the capture: $(cat "$scratch/said")"
	agent_stop
	nothing_left "$dir"
}

marks ram
check_equal "a store in memory: what was written, and nothing else" "$wanted" "$(cat "$scratch/marks")"
marks file
# every write is there, and whatever else there is touches the store
python3 - "$granule" "$scratch/marks" "$scratch/extents" <<-'EOT' || fail "marks: $(cat "$scratch/marks"); store: $(cat "$scratch/extents")"
	import sys
	g = int(sys.argv[1])
	def cells(path):
	    out = set()
	    for line in open(path):
	        a, n = map(int, line.split())
	        out |= set(range(a // g, (a + n - 1) // g + 1))
	    return out
	marks, store = cells(sys.argv[2]), cells(sys.argv[3])
	written = {(72 << 20) // g, (73 << 20) // g, (73 << 20) // g + 1} | set(range((80 << 20) // g, (81 << 20) // g))
	sys.exit(not (written <= marks and marks - written <= store and marks & store))
EOT
ok "a store on the disk: what was written, and the store's own blocks"
umount_at "$dir"
fs_check ext4 "$(part "$disk" 1)"
