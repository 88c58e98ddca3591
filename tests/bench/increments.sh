#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# increments.sh - what a second capture costs, ours and the peers', of one mounted disk in one run. Prints Markdown.
#
# A disk with files of this system is captured whole by each; then it is changed, step by step, and after each step
# captured by each again: tests/bench/increments.py says how it is changed and what is measured. Everything is in
# memory, so this measures programs, not disks.
#
# INCREMENTS_MIB (of files: 1600; the disk is 2.5 times as large), INCREMENTS_ROUNDS (2: each step so often; medians),
# INCREMENTS_ROWS ("server:0.1 server:1 server:10 scattered:0.1 scattered:1": kind and percent of the files' bytes),
# INCREMENTS_WHO (all), INCREMENTS_SHIFTS (17: a repository of ours for each chunk size, 2 to that power),
# INCREMENTS_KEEP (a directory that is not there: our repository is copied to it), INCREMENTS_RAW (a file for all figures).
. "$(dirname "$0")/../lib/functions.sh"

require_root
require jq python3 mkfs.ext4 busctl borg restic casync
mib=${INCREMENTS_MIB:-1600}
[[ $scratch == /dev/shm/* ]] || say "note: not in memory; disk speeds will be in the figures"
# the disk, and some seven repositories of it
(($(free_mib "$scratch") > mib * 6)) || skip "$mib MiB of files need $((mib * 6)) MiB of space in $scratch"

# fill DIR MIB: files of this system, in order
fill() {
	find /usr /etc /opt -xdev -type f -size -16M -printf '%s %p\n' 2>/dev/null | sort -k2 >"$scratch/list"
	awk -v most=$(($2 << 20)) '{ n += $1; if (n > most) exit; sub(/^[0-9]+ /, ""); print }' "$scratch/list" |
		tar -cf - --no-recursion -T - 2>/dev/null | tar -xf - -C "$1"
}

truncate -s "$((mib * 5 / 2))M" "$scratch/disk"
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$scratch/disk"
loop_make "$scratch/disk"
mount_at "$loop" "$scratch/mnt"
mkdir "$scratch/mnt/system"
fill "$scratch/mnt/system" $((mib * 7 / 8))
agent_start
CTL=$O/ambroctl "$top/tests/bench/increments.py" "$scratch" "$loop" "$agent_pid" \
	"${INCREMENTS_ROUNDS:-2}" "${INCREMENTS_ROWS:-server:0.1 server:1 server:10 scattered:0.1 scattered:1}" \
	"${INCREMENTS_WHO:-all}" "${INCREMENTS_SHIFTS:-17}" "$mib"
