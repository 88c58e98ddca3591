#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every write that reaches the disk is logged by device-mapper's log-writes, while the disk is captured through the module under
# load: the image is, block for block, a state that the disk really had, and the one between freeze and thaw.
# vm-disks: 64M 384M
# vm-modules: dm-snapshot dm-log-writes
# vm-memory: 768
# vm-timeout: 900
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

dir=$scratch/dir disk=/dev/mapper/logged
mark() { dmsetup message logged 0 mark "$1"; }

# captured STORE: the log has the marks before-STORE, frozen-STORE, after-STORE.
captured() {
	local go=$scratch/go.$1 client
	agent_log=$scratch/agent-$1.log
	agent_start AMBRO_TEST_PAUSE=frozen:200000 AMBRO_TEST_GO="$go"
	mkdir "$dir/$1"
	witness_start "$1" "$dir/$1" --rate 40 --size 4096
	fio_start "$1-noise" --directory="$dir" --size=4M --rw=randwrite --bs=16k --ioengine=psync --fsync=16 \
		--rate=1m --time_based --runtime=280
	mark "before-$1"
	ambroctl capture "$disk" -o "$scratch/$1.img" --strategy kmod --cow "$1" --cow-size 16M --max-freeze 60000 \
		--json >"$scratch/$1.job" &
	client=$!
	wait_for 120 grep -q '^pause: frozen' "$agent_log" || fail "it never froze"
	mark "frozen-$1"
	touch "$go"
	wait "$client" || fail "the capture with $1"
	mark "after-$1"
	busy_stop "$1"
	agent_stop
	nothing_left "$dir"
	check_equal "$1: frozen once" 1 "$(grep -c '^pause: frozen' "$agent_log")"
	check "$1: something was kept" test "$(jq .store_used "$scratch/$1.job")" -gt 0
}

# held RAW: the blocks in use, but for the store's own, which the image shows as zeros.
held() {
	debugfs -R "blocks /.ambrotype-cow-$kernel_name" "$1" 2>/dev/null >"$scratch/store"
	dumpe2fs "$1" 2>/dev/null | sed -n 's/^  Free blocks: *//p' >"$scratch/free"
	python3 - "$(sectors_of "${disks[0]}")" "$scratch/free" "$scratch/store" <<-'EOT'
		import re, sys
		used = set(range(int(sys.argv[1]) // 8))
		for name in sys.argv[2:]:
		    for first, last in re.findall(r'(\d+)(?:-(\d+))?', open(name).read()):
		        used -= set(range(int(first), int(last or first) + 1))
		print(*sorted(used))
	EOT
}

# is_a_state STORE
# shellcheck disable=SC2016 # jq's variables
is_a_state() {
	local raw=$scratch/raw out=$scratch/replay.json
	rm -f "$raw"
	ambroctl restore "$scratch/$1.img" "$raw" --yes >/dev/null
	held "$raw" >"$scratch/held"
	[[ $1 != file || -s $scratch/store ]] || fail "the store's file is not in the image"
	"$top/tests/vm/replay-log.py" "${disks[1]}" "$raw" "$scratch/held" "before-$1" "after-$1" >"$out" ||
		fail "replay: $(cat "$out")"
	say "$1: $(jq -c '{states, equal: (.equal | length), differs, held, wrong}' "$out")"
	check "$1: the image is the disk as it was while frozen" \
		jq -e --arg m "frozen-$1" '.marks[$m] as $at | .equal | index($at) != null' "$out"
	# or the comparison would prove nothing
	check "$1: and not as it was before and after" jq -e --arg b "before-$1" --arg a "after-$1" \
		'.differs[$b] > 0 and .differs[$a] > 0 and (.equal | length) < .states' "$out"
}

module_load
dm_make logged <<<"0 $(sectors_of "${disks[0]}") log-writes ${disks[0]} ${disks[1]}"
kernel_name=dm-$(dmsetup info -c --noheadings -o minor logged)
mkfs.ext4 -q -b 4096 -E lazy_itable_init=0,lazy_journal_init=0 "$disk"
mount_at "$disk" "$dir"
made_files "$dir/files" 4
(cd "$dir" && find files -type f -print0 | xargs -0 sha256sum) >"$scratch/sums"
for store in ram file; do
	captured "$store"
done
umount_at "$dir"
check "the disk is sound" e2fsck -fn "$disk"
dmsetup remove --retry logged # its log is complete now
for store in ram file; do
	is_a_state "$store"
	image_restores "$scratch/$store.img" "$store" "$scratch/sums" ext4
done
