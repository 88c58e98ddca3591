#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What is known of a disk's writes ends with the kernel. After a reboot, and after a power cut in the middle of a capture, an
# increment compares all that is in use, and is right, also about what was written while nobody of ours looked; half a capture is
# not seen, and the increment after the next is tracked again.
# vm-disks: 32M 48M
# vm-timeout: 600
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"
. "$top/tests/lib/repo.sh"

disk=${disks[0]} dir=$scratch/dir
export AMBRO_REPOSITORY=$scratch/store/repo AMBRO_STATE_DIR=$scratch/store/state

# writes NAME: acknowledged files until some are there; what is noted outlives a power cut.
writes() {
	mkdir "$dir/$1"
	ln -s "$state/$1.ack" "$scratch/$1.ack"
	witness_start "$1" "$dir/$1" --rate 60 --size 4096 --threads 1
	head -c 100000 /dev/urandom >"$dir/noise.$1"
	wait_for 60 _has_lines "$state/$1.ack" 30
	[[ ${2:-} ]] || witness_stop "$1"
}

# increment_is KIND: a capture of now is that.
increment_is() {
	sync -f "$dir"
	took "a capture" taken "$disk" --host guest --disk source --strategy precopy
	say "boot $VM_BOOT, $taken: $(jq -c '[.increment, .read, .new_chunks, .known_chunks]' "$scratch/taken.json")"
	check_equal "an increment" "$1" "$(taken_says .increment)"
	ambroctl show "$taken" >"$scratch/shown"
	[[ $1 != compared ]] || finds "the machine was started since" <"$scratch/shown" || fail "why? $(cat "$scratch/shown")"
	names >"$state/names"
}

# image_is KIND: and it holds the files of now, those that were acknowledged among them.
image_is() {
	local name
	increment_is "$1"
	took "a restore" restored "$taken" "$scratch/back.raw"
	loop_make "$scratch/back.raw"
	fs_check ext4 "$loop"
	mount_at "$loop" "$scratch/back"
	sums "$dir" >"$scratch/sums.now"
	sums "$scratch/back" | cmp - "$scratch/sums.now" || fail "$taken: other files"
	for name in "$state"/*.ack; do
		name=$(basename "$name" .ack)
		tool ackwriter check "$scratch/back/$name" "$state/$name.ack" --instant "$(date +%s%N)" >"$scratch/check" ||
			fail "$taken: acknowledged files of $name: $(cat "$scratch/check")"
		jq -e '.acked >= 10' "$scratch/check" >/dev/null || fail "the writer did too little: $(cat "$scratch/check")"
	done
	ok "$taken: all files"
	umount_at "$scratch/back"
	_loop_free "$loop" || :
	rm "$scratch/back.raw"
}

# all_there: what was listed before the power went, nothing else, and all of it is whole.
all_there() {
	names | cmp - "$state/names" || fail "other images: $(names)"
	ambroctl repo check --read-data &>"$scratch/check" || fail "check: $(cat "$scratch/check")"
	ok "the images of before, $(wc -l <"$state/names"), and nothing else"
}

# cut_at CALL:PATH: a capture gets that far, while files are written, then the power goes. What has reached the disks is
# there (tests/vm/run), what the kernel had in memory is not.
cut_at() {
	writes "cut-$VM_BOOT" on
	tool crashlog -s "$1" "$scratch/log" "$scratch/store" "$O/ambroctl" capture "$disk" --host guest --disk source \
		--strategy precopy -q &
	wait_for 120 finds -s '^H' "$scratch/log" || fail "the capture never came to $1"
	say "boot $VM_BOOT: cut at $1, after $(wc -l <"$state/cut-$VM_BOOT.ack") acknowledgements"
	vm_power_cut
}

if ((VM_BOOT == 1)); then
	fs_make ext4 "$disk"
	fs_make ext4 "${disks[1]}"
fi
mount_at "$disk" "$dir"
mount_at "${disks[1]}" "$scratch/store"
# before any agent of ours: what another system on this disk would do
((VM_BOOT == 1)) || writes "strange-$VM_BOOT"
agent_start
case $VM_BOOT in
1)
	ambroctl repo init --chunk-size 64K >/dev/null
	made_files "$dir/files" 2
	increment_is full
	writes first
	image_is tracked
	agent_stop
	umount_at "$dir"
	umount_at "$scratch/store"
	sync
	# all is written and nothing is mounted: what shuts a machine down in order leaves no more than this
	vm_power_cut
	;;
2)
	all_there
	image_is compared
	# packs and index are there; without the image nobody sees anything of it
	cut_at link:repo/images/
	;;
3)
	all_there
	image_is compared
	(($(taken_says .known_chunks) > 0)) || fail "what the lost capture had sent was sent again"
	writes third
	increment_is tracked
	all_there
	;;
esac
