#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The power fails at every step of a capture through the module: the file system replays its journal and is sound,
# every write that was acknowledged is there, and the next agent removes the store's file.
# vm-disks: 96M
# vm-modules: dm-snapshot
# vm-timeout: 1800
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

disk=${disks[0]} dir=$scratch/dir
read -ra step <<<"${*:-$steps}" # some of them can be named
last=$((VM_BOOT - 2)) # which step the power was cut at

# cut_at STEP: of a capture with the store on the disk, while one writes acknowledged files and another overwrites.
cut_at() {
	agent_log=$scratch/agent.log
	mkdir "$dir/$1"
	# on the host, past every cache of ours; from one thread, because two would append at one place there
	ln -s "$state/$1.ack" "$scratch/$1.ack"
	witness_start "$1" "$dir/$1" --rate 40 --size 4096 --threads 1
	fio_start noise --filename="$dir/noise" --size=6M --rw=randwrite --bs=16k --ioengine=psync --fsync=16 \
		--rate=2m --time_based --runtime=280
	agent_start AMBRO_TEST_PAUSE="$1:1000000"
	ambroctl capture "$disk" -o "$scratch/cut.img" --strategy kmod --cow file --cow-size 16M \
		--max-freeze 60000 &>/dev/null &
	wait_for 120 grep -q "^pause: $1" "$agent_log" || fail "the agent never came to $1: $(cat "$agent_log")"
	case $1 in
	frozen | resumed | on) ;; # nobody writes
	*) wait_for 60 _has_lines "$state/$1.ack" $(($(wc -l <"$state/$1.ack") + 20)) || fail "the writer stands still" ;;
	esac
	say "cut at $1, after $(wc -l <"$state/$1.ack") acknowledgements"
	vm_power_cut
}

# survived STEP
survived() {
	local left
	mount_at "$disk" "$dir"
	left=$(find "$dir" -maxdepth 1 -name ".ambrotype*")
	case $1 in
	claimed | below) check_equal "$1: there was no store yet" "" "$left" ;;
	*) check "$1: the store's file outlived it" test -n "$left" ;;
	esac
	tool ackwriter check "$dir/$1" "$state/$1.ack" --instant "$(date +%s%N)" >"$scratch/check" ||
		fail "$1: acknowledged files: $(cat "$scratch/check")"
	jq -e '.acked >= 10' "$scratch/check" >/dev/null || fail "$1: the writer did too little: $(cat "$scratch/check")"
	umount_at "$dir"
	check "$1: sound after the journal's replay" e2fsck -fn "$disk"
	mount_at "$disk" "$dir"
	next_agent_cleans "$dir"
	rm -r "${dir:?}/$1"
	ok "$1: $(cat "$scratch/check")"
}

if ((last < 0)); then
	fs_make ext4 "$disk"
	mount_at "$disk" "$dir"
	dd if=/dev/urandom of="$dir/noise" bs=1M count=6 conv=fsync status=none
else
	survived "${step[last]}"
fi
module_load
if ((last + 1 < ${#step[@]})); then
	cut_at "${step[last + 1]}"
fi
agent_start
ambroctl capture "$disk" -o "$scratch/whole.img" --strategy kmod >/dev/null
agent_stop
nothing_left "$dir"
umount_at "$dir"
check "sound in the end" e2fsck -fn "$disk"
