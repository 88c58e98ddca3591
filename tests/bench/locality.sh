#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# locality.sh - the first and the last image of a chain, restored from a store that is as slow as a disk with one head
# (tests/bench/slow-disk.c); then the same after a prune. Prints Markdown. The chain is made by increments.sh: each day 1 %
# changes, as servers change.
#
# LOCALITY_IMAGES (30), LOCALITY_MIB (of files: 400), LOCALITY_ROUNDS (3: medians).
. "$(dirname "$0")/../lib/functions.sh"

require_root
require jq python3
images=${LOCALITY_IMAGES:-30}
rounds=${LOCALITY_ROUNDS:-3}
slow=$O/tests/bench/slow-disk.so
[[ -e $slow ]] || skip "$slow is not built"
repo=$scratch/repo

say "$images images"
INCREMENTS_KEEP=$repo INCREMENTS_MIB=${LOCALITY_MIB:-400} INCREMENTS_WHO=tracked INCREMENTS_ROWS=server:1 \
	INCREMENTS_ROUNDS=$((images - 1)) "$top/tests/bench/increments.sh" >"$scratch/chain.out" 2>"$scratch/chain.err" ||
	fail "the chain: $(tail -n 3 "$scratch/chain.err")"
# two of one second have one name
mapfile -t hashes < <(ambroctl list --repo "$repo" --json | jq -r 'sort_by(.time_ns // .time) | .[].hash')
((${#hashes[@]} == images)) || fail "${#hashes[@]} images, not $images"

# restored N ROUND: image N of the chain; one line of $scratch/costs
restored() {
	local began
	rm -f "$scratch/back"
	began=$EPOCHREALTIME
	SLOW_DISK=$repo SLOW_DISK_REPORT=$scratch/report LD_PRELOAD=$slow \
		"$O/ambroctl" restore --repo "$repo" "${hashes[$1 - 1]}" "$scratch/back" --yes >/dev/null 2>"$scratch/restore.err" ||
		fail "restore: $(cat "$scratch/restore.err")"
	echo "$1 $(bc <<<"$EPOCHREALTIME - $began") $(cat "$scratch/report")" >>"$scratch/costs"
}
# table TITLE: all that were chosen, each so often
table() {
	: >"$scratch/costs"
	for ((i = 0; i < rounds; i++)); do
		for n in 1 2 $((images / 2)) "$images"; do
			restored "$n"
		done
	done
	python3 - "$scratch/costs" "$1, $images images, $(du -sm "$repo" | cut -f 1) MiB of repository" <<'PYTHON'
import os, statistics, sys
rows = [[float(x) for x in line.split()] for line in open(sys.argv[1])]
print(f'{sys.argv[2]}; 8 ms for each seek and each file that was not read before, 150 MB/s; load {os.getloadavg()[0]:.1f}\n')
print('| image | s | reads | seeks | packs and other files | read, MiB | these cost, s |\n|--:|--:|--:|--:|--:|--:|--:|')
for n in sorted({r[0] for r in rows}):
    mine = [r for r in rows if r[0] == n]
    s, reads, seeks, files, got = (statistics.median(r[i] for r in mine) for i in range(1, 6))
    cost = (seeks + files) * 0.008 + got / 150e6
    print(f'| {n:.0f} | {s:.2f} | {reads:.0f} | {seeks:.0f} | {files:.0f} | {got / 2**20:.0f} | {cost:.2f} |')
print()
PYTHON
}
table "A chain as it was captured"
ambroctl prune --repo "$repo" --grace 0 >"$scratch/prune.out" 2>&1 || fail "prune: $(tail -n 3 "$scratch/prune.out")"
table "The same after a prune"
