#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Two disks are captured at one instant, while one writer writes to both by turns: whatever is on the second is not
# newer than what is on the first.
# vm-disks: 64M 64M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

module_load
for i in 0 1; do
	fs_make ext4 "${disks[i]}"
	mount_at "${disks[i]}" "$scratch/$i"
done
agent_start

# n.txt is written to the first disk, then to the second; each once it is on its medium.
turns() {
	local n=0
	while :; do
		n=$((n + 1))
		echo "$n" >"$scratch/0/n.new" && sync "$scratch/0/n.new" && mv "$scratch/0/n.new" "$scratch/0/n"
		sync -f "$scratch/0"
		echo "$n" >"$scratch/1/n.new" && sync "$scratch/1/n.new" && mv "$scratch/1/n.new" "$scratch/1/n"
		sync -f "$scratch/1"
	done
}
turns &
cleanup _stop_quietly $!
wait_for 60 test -s "$scratch/1/n" || fail "nothing is written"

# number IMAGE: in it
number() {
	rm -f "$scratch/back"
	ambroctl restore "$1" "$scratch/back" --yes >/dev/null 2>&1
	loop_make "$scratch/back"
	fs_check ext4 "$loop"
	mount_at "$loop" "$scratch/b"
	n=$(<"$scratch/b/n")
	umount_at "$scratch/b"
	_loop_free "$loop" || :
}
for round in 1 2 3; do
	ambroctl capture "${disks[0]}" "${disks[1]}" -o "$scratch/0.img" -o "$scratch/1.img" --force --json >"$scratch/jobs"
	check_equal "$round: one instant" "$(manifest "$scratch/0.img" .instant_ns)" "$(manifest "$scratch/1.img" .instant_ns)"
	check_equal "$round: two jobs" 2 "$(jq length "$scratch/jobs")"
	number "$scratch/0.img"
	first=$n
	number "$scratch/1.img"
	((first == n || first == n + 1)) || fail "the first disk is at $first, the second at $n"
	ok "$round: the first at $first, the second at $n"
	nothing_left "$scratch/0" "$scratch/1"
done

# what one of them cannot, none does
expect_fail 1 "nothing-here" ambroctl capture "${disks[0]}" "$scratch/nothing-here" -o "$scratch/a.img" -o "$scratch/b.img"
[[ ! -e $scratch/a.img && ! -e $scratch/b.img ]] || fail "half a set is left"
nothing_left "$scratch/0" "$scratch/1"
expect_fail 2 "give -o once for each" ambroctl capture "${disks[0]}" "${disks[1]}" -o "$scratch/a.img"
ok "all or nothing"
