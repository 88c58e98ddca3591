#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Disks with nothing on them, or hardly any disk at all: one without size is refused with the reason; all
# zeros, less than a chunk, one sector, sizes that are no multiple of anything come back byte for byte.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require jq zstd

agent_start
: >"$scratch/nothing"
expect_fail 1 "is empty" ambroctl capture "$scratch/nothing" -o "$scratch/nothing.zst"
losetup_nothing() { losetup --find --show "$scratch/nothing" 2>/dev/null; }
if loop=$(losetup_nothing); then
	_loops[$loop]=$scratch/nothing
	cleanup _loop_free "$loop"
	expect_fail 1 "is empty" ambroctl capture "$loop" -o "$scratch/nothing.zst"
fi

# comes_back NAME: $scratch/NAME as a disk and as a file
comes_back() {
	local from image=$scratch/$1.zst
	loop_make "$scratch/$1"
	for from in "$loop" "$scratch/$1"; do
		[[ $from == /dev/* ]] || _loop_free "$loop" || :
		ambroctl capture "$from" -o "$image" --quiet
		ambroctl verify "$image" 2>/dev/null
		ambroctl restore "$image" "$scratch/restored" --yes 2>/dev/null
		cmp "$scratch/$1" "$scratch/restored" || fail "$1 from $from differs"
		zstd -qdc "$image" | cmp - "$scratch/$1" || fail "$1 from $from differs, by plain zstd"
		rm "$image" "$scratch/restored"
	done
}
for size in 512 65536 $((1049 * 512)) $((20001 * 512)); do
	truncate -s "$size" "$scratch/zeros$size"
	comes_back "zeros$size"
	head -c "$size" /dev/urandom >"$scratch/noise$size"
	comes_back "noise$size"
done
# of a file also what ends inside a sector
for size in 1 513 $(((1 << 20) + 1)); do
	head -c "$size" /dev/urandom >"$scratch/file$size"
	ambroctl capture "$scratch/file$size" -o "$scratch/file.zst" --quiet
	ambroctl restore "$scratch/file.zst" "$scratch/restored" --yes 2>/dev/null
	cmp "$scratch/file$size" "$scratch/restored" || fail "a file of $size bytes differs"
	rm "$scratch/file.zst" "$scratch/restored"
done
