#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# freeze.sh - for how long file systems stand still while their disk is captured, and what a writer feels of it.
# Prints Markdown. Disks are in memory, so this measures programs and the kernel, not disks.
#
# Idle: nothing is written. Busy: random writes past the page cache and through it, each of the latter made
# durable, and files that come and go. The writer's latency is taken in turns: with captures one after the other,
# and for as long without.
#
# FREEZE_IDLE (100), FREEZE_BUSY (30): captures of each file system. FREEZE_TYPES ("ext4 xfs").
. "$(dirname "$0")/../lib/functions.sh"

require_root
require jq fio python3
idle=${FREEZE_IDLE:-100}
busy=${FREEZE_BUSY:-30}
turns=5
read -ra types <<<"${FREEZE_TYPES:-ext4 xfs}"
[[ $scratch == /dev/shm/* ]] || say "note: not in memory; the disk's speed will be in the figures"

# captures N DEVICE FILE: so many, one after the other; what each stood still, microseconds, into FILE.
captures() {
	local i
	for ((i = 0; i < $1; i++)); do
		ambroctl capture "$2" -o /dev/null --json 2>"$scratch/capture.err" | tail -n1 |
			jq -e .freeze_us >>"$3" || fail "capture: $(cat "$scratch/capture.err")"
	done
}

# small_churn DIR: small files come and go until it is killed.
small_churn() {
	local i=0
	while :; do
		mkdir -p "$1/churn/$((++i % 20))"
		head -c 5000 /dev/zero >"$1/churn/$((i % 20))/$i"
		((i % 10)) || rm -rf "$1/churn/$(((i + 10) % 20))"
		sleep 0.01
	done
}

# load_start DIR REPORT: the writer and the small files; load_stop ends them, and the writer reports.
load_start() {
	fio --directory="$1" --size=64M --bs=4k --rw=randwrite --time_based --runtime=3600 \
		--fallocate=none --output-format=json+ --output="$2" \
		--name=direct --ioengine=psync --direct=1 --rate_iops=500 \
		--name=durable --ioengine=psync --direct=0 --fsync=1 --rate_iops=100 &>/dev/null &
	load=$!
	cleanup _stop_quietly $load
	small_churn "$1" &
	churning=$!
	cleanup _stop_quietly $churning
	sleep 1
}
load_stop() {
	_stop_quietly "$churning" || :
	kill -INT "$load"
	wait "$load" || :
}

# turn TYPE with|without SECONDS N: N captures, or as many seconds without, under load.
turn() {
	local dir=$scratch/$1 report=$scratch/$1.$2.$4.json began=$SECONDS
	load_start "$dir" "$report"
	if [[ $2 == with ]]; then
		captures "$(((busy + turns - 1) / turns))" "${device[$1]}" "$scratch/$1.busy"
		took=$((SECONDS - began))
	else
		sleep "$3"
	fi
	load_stop
	[[ -s $report ]] || fail "fio reported nothing"
}

declare -A device=()
agent_start
for t in "${types[@]}"; do
	truncate -s 1G "$scratch/$t.disk"
	loop_make "$scratch/$t.disk"
	device[$t]=$loop
	fs_make "$t" "$loop"
	mount_at "$loop" "$scratch/$t"
	some_files "$scratch/$t/static" 40
	sync -f "$scratch/$t"
done

for t in "${types[@]}"; do
	say "$t, idle: $idle captures"
	captures "$idle" "${device[$t]}" "$scratch/$t.idle"
done
for t in "${types[@]}"; do
	took=5
	for ((i = 1; i <= turns; i++)); do
		say "$t, busy: turn $i of $turns"
		((i % 2)) || turn "$t" without "$took" "$i"
		turn "$t" with - "$i"
		((i % 2)) && turn "$t" without "$took" "$i"
	done
done

python3 - "$scratch" "${types[@]}" <<'PYTHON'
import glob, json, sys
scratch, *types = sys.argv[1:]

def rank(n, share):
    """Nearest rank, from 0."""
    return min(n - 1, max(0, -(-n * share // 1000) - 1))

print('Frozen time of a capture, ms (from before the first FIFREEZE until after the last FITHAW; the longer of the two'
      ' freezes of a capture)\n')
print('| file system | load | captures | p50 | p90 | p99 | max |')
print('|---|---|--:|--:|--:|--:|--:|')
for t in types:
    for load in 'idle', 'busy':
        us = sorted(int(x) for x in open(f'{scratch}/{t}.{load}'))
        row = [f'{us[rank(len(us), s)] / 1000:.1f}' for s in (500, 900, 990, 1000)]
        print(f'| {t} | {load} | {len(us)} | ' + ' | '.join(row) + ' |')

def bins(t, which, job):
    """Of all turns together: {nanoseconds: how often}, and the longest."""
    all, longest = {}, 0
    for name in glob.glob(f'{scratch}/{t}.{which}.*.json'):
        text = open(name).read()
        for j in json.loads(text[text.index('{'):])['jobs']:
            if j['jobname'] != job:
                continue
            lat = j['sync']['lat_ns'] if job == 'durable' else j['write']['clat_ns']
            longest = max(longest, lat['max'])
            for ns, count in lat.get('bins', {}).items():
                all[int(ns)] = all.get(int(ns), 0) + count
    return all, longest

print('\nA writer\'s latency, ms, with captures one after the other and without (all turns together)\n')
print('| file system | 4 KiB, random | captures | writes | p50 | p99 | p99.9 | max |')
print('|---|---|---|--:|--:|--:|--:|--:|')
words = {'direct': 'write, O_DIRECT', 'durable': 'fsync after a buffered write'}
for t in types:
    for job in words:
        for which in 'without', 'with':
            all, longest = bins(t, which, job)
            n, row = sum(all.values()), []
            for share in 500, 990, 999:
                left = rank(n, share)
                for ns in sorted(all):
                    left -= all[ns]
                    if left < 0:
                        break
                row.append(f'{ns / 1e6:.2f}')
            row.append(f'{longest / 1e6:.2f}')
            print(f'| {t} | {words[job]} | {which} | {n} | ' + ' | '.join(row) + ' |')
PYTHON
