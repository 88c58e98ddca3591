# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# tracker.sh - what the tests of the tracker share; sourced after functions.sh.

tracker() { "$O/tests/unit/test-tracker" "$1" "$2" "${@:3}"; }

tracker_ready() {
	[[ -x $O/tests/unit/test-tracker ]] || skip "$O/tests/unit/test-tracker is not built"
	[[ -r /sys/kernel/btf/vmlinux ]] || skip "the kernel has no BTF"
}

# tracker_new DISK: begin tracking; it ends with the test.
tracker_new() {
	local word status=0
	cleanup tracker remove "$1"
	word=$(tracker open "$1") || status=$?
	((status != 77)) || skip "this kernel cannot track"
	[[ $status == 0 && $word == new ]] || fail "tracker open $1: $word"
}

# zram_make SIZE: a zram disk; $zram is its path. False where there is none to be had.
zram=
zram_make() {
	local n
	[[ -r /sys/class/zram-control/hot_add ]] || return 1
	n=$(cat /sys/class/zram-control/hot_add) || return 1
	zram=/dev/zram$n
	cleanup zram_free "$n"
	[[ -b $zram ]] || mknod "$zram" b "$(cut -d: -f1 "/sys/block/zram$n/dev")" "$(cut -d: -f2 "/sys/block/zram$n/dev")"
	echo "$1" >"/sys/block/zram$n/disksize"
}
zram_free() {
	echo 1 >"/sys/block/zram$1/reset" && echo "$1" >/sys/class/zram-control/hot_remove
}

# no_medium DISK
no_medium() { (($(cat "/sys/block/${1##*/}/size") == 0)); }
