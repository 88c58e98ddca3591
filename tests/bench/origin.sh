#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# origin.sh - what capturing by kmod costs the server: latency and throughput of writes to a disk without the module, with it,
# and with a snapshot below it, beside LVM's own snapshot; and for how long file systems stand still. Prints Markdown.
#
# It runs in the light guest (tests/vm/light/bench-origin.sh): without KVM the absolute numbers are the emulator's. What they say is
# in the ratios, which are of one round each, and of these the median is shown.
#
# BENCH_KERNELS ("6.1 6.12"), BENCH_ROUNDS (5), BENCH_CAPTURES (20).
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"

for kernel in ${BENCH_KERNELS:-6.1 6.12}; do
	tests/vm/run --kernel "$kernel" bench-origin "${BENCH_ROUNDS:-5}" "${BENCH_CAPTURES:-20}" >&2
	printf '\n### Linux %s\n' "$kernel"
	python3 - "build/vm/results/bench-origin-$kernel/state" <<'PYTHON'
import json, statistics, sys

def lines(name):
    with open(f'{sys.argv[1]}/{name}', encoding='ascii') as f:
        return [json.loads(line) for line in f]

def base(what):
    return 'LVM, no snapshot' if what.startswith('LVM') else 'nothing loaded'

samples = lines('samples')
whats = list(dict.fromkeys(s['what'] for s in samples))
found = {(s['what'], s['job'], s['round']): s for s in samples}
rounds = sorted({s['round'] for s in samples})
jobs = {'rand-qd1': '4 KiB random, one at a time', 'rand-qd8': '4 KiB random, eight at a time',
        'seq': '128 KiB sequential', 'sparse': '4 KiB random, one at a time, few of many chunks'}
for job, title in jobs.items():
    print(f'\n{title}: median of {len(rounds)} rounds, and how it relates to the same disk without anything\n')
    print('| | MiB/s | × | p50 ms | × | p99 ms | × | p99.9 ms | × |')
    print('|---|--:|--:|--:|--:|--:|--:|--:|--:|')
    for what in whats:
        row = []
        for key, unit in (('kib_s', 1024), ('p50', 1e6), ('p99', 1e6), ('p999', 1e6)):
            mine = [found[what, job, r][key] for r in rounds]
            ratio = statistics.median(m / found[base(what), job, r][key] for m, r in zip(mine, rounds))
            row += [f'{statistics.median(mine) / unit:.2f}', f'{ratio:.2f}']
        print(f'| {what} | ' + ' | '.join(row) + ' |')

def rank(n, share):
    """Nearest rank, from 0."""
    return min(n - 1, max(0, -(-n * share // 100) - 1))

print('\nCaptures by the agent: frozen, and from the order to the instant, ms\n')
print('| | captures | p50 | p90 | max |')
print('|---|--:|--:|--:|--:|')
freezes = lines('freezes')
for load in 'idle', 'busy':
    for key, title in (('freeze_us', 'frozen'), ('until_instant_us', 'until the instant')):
        us = sorted(f[key] for f in freezes if f['load'] == load)
        row = [f'{us[rank(len(us), s)] / 1000:.1f}' for s in (50, 90, 100)]
        print(f'| {title}, {load} | {len(us)} | ' + ' | '.join(row) + ' |')
PYTHON
done
