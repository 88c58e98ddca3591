#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Several disks at one instant take device-mapper: where there is none the set is refused with the reason, and
# what is asked wrongly by name.
. "$(dirname "$0")/../lib/functions.sh"
require_root
! grep -qw device-mapper /proc/misc || skip "this kernel has device-mapper: tests/vm/light/capture-set.sh does more"

for i in a b; do
	truncate -s 32M "$scratch/$i.raw"
	loop_make "$scratch/$i.raw"
	fs_make ext4 "$loop"
	mount_at "$loop" "$scratch/$i"
	declare "dev_$i=$loop"
done
agent_start
# shellcheck disable=SC2154 # declared above
set_of() { ambroctl capture "$dev_a" "$dev_b" -o "$scratch/1" -o "$scratch/2" "$@"; }

expect_fail any "device-mapper" set_of
expect_fail any "device-mapper snapshots" set_of --strategy precopy
expect_fail 2 "give -o once for each" ambroctl capture "$dev_a" "$dev_b" -o "$scratch/1"
expect_fail 2 "more than 4" ambroctl capture a b c d e -o "$scratch/1"
[[ ! -e $scratch/1 && ! -e $scratch/2 ]] || fail "half a set is left"

expect_fail any "go with one another" \
	agent_call call CaptureToFile 'sa{sv}s' "$dev_a" 1 together s x "$scratch/3"
expect_fail any "not within" \
	agent_call call CaptureToFile 'sa{sv}s' "$dev_a" 2 together s x together_count u 99 "$scratch/3"
expect_fail any "not fail or precopy" \
	agent_call call CaptureToFile 'sa{sv}s' "$dev_a" 1 on_overflow s ignore "$scratch/3"
expect_fail any "cow_size" agent_call call CaptureToFile 'sa{sv}s' "$dev_a" 1 cow_size t 5 "$scratch/3"
expect_fail 2 "not fail or precopy" ambroctl capture "$dev_a" -o "$scratch/1" --on-overflow ignore
expect_fail 2 "not a size" ambroctl capture "$dev_a" -o "$scratch/1" --cow-size 5x
expect_fail any "not loaded" ambroctl capture "$dev_a" -o "$scratch/1" --strategy kmod
expect_fail any "not a device-mapper device" ambroctl capture "$dev_a" -o "$scratch/1" --strategy dm

# and one alone goes on as ever, and says why it was done so
ambroctl capture "$dev_a" -o "$scratch/1" --json >"$scratch/job"
[[ $(jq -r .strategy "$scratch/job") == precopy ]] || fail "$(cat "$scratch/job")"
jq -r .strategy_reason "$scratch/job" | finds "not dm: .*not kmod: " || fail "$(cat "$scratch/job")"
[[ $(ambroctl status --repair --json | jq .repaired) == 0 ]] || fail "something was repaired"
