#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""peak.py PID... -- COMMAND...: run COMMAND and say, as JSON on stdout's last line, what it and the processes
PID used, with all their children, while it ran: the peak of their memory together (anonymous and shared pages, not
mapped files: the tracker's map is one), wall seconds, and CPU seconds. Exits as COMMAND does."""
import json, os, resource, subprocess, sys, time

INTERVAL = 0.003


def status(pid):
    with open(f'/proc/{pid}/status') as f:
        fields = dict(line.split(':', 1) for line in f if ':' in line)
    return {k: int(v.split()[0]) for k, v in fields.items() if k in ('PPid', 'RssAnon', 'RssShmem')}


def together(roots):
    """KiB of the trees below roots. A process that ends meanwhile counts as nothing."""
    seen = {}
    for name in os.listdir('/proc'):
        if name.isdigit():
            try:
                seen[int(name)] = status(name)
            except (OSError, ValueError):
                pass
    inside, size = set(roots), 0
    while len(inside) != size:
        size = len(inside)
        inside |= {p for p, s in seen.items() if s['PPid'] in inside}
    return sum(s.get('RssAnon', 0) + s.get('RssShmem', 0) for p, s in seen.items() if p in inside)


def cpu(pids):
    ticks = 0
    for pid in pids:
        with open(f'/proc/{pid}/stat') as f:
            ticks += sum(int(x) for x in f.read().rsplit(')', 1)[1].split()[11:15])
    return ticks / os.sysconf('SC_CLK_TCK')


at = sys.argv.index('--')
pids, command = [int(x) for x in sys.argv[1:at]], sys.argv[at + 1:]
before, began, peak = cpu(pids), time.monotonic(), 0
child = subprocess.Popen(command, stdout=sys.stderr)
while child.poll() is None:
    peak = max(peak, together(pids + [child.pid]))
    time.sleep(INTERVAL)
wall = time.monotonic() - began
time.sleep(0.05)
own = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({'peak_mib': peak // 1024, 'wall': round(wall, 3),
                  'cpu': round(cpu(pids) - before + own.ru_utime + own.ru_stime, 3)}))
sys.exit(child.returncode)
