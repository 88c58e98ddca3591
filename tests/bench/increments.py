#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""increments.py SCRATCH LOOP AGENT_PID ROUNDS ROWS WHO SHIFTS MIB - the measuring half of increments.sh.

Two kinds of change, each of a share of the bytes of all files:

server     40 % are package upgrades (neighbouring files, 2 MiB of them, written under a new name, which then takes the old
           one's place), 30 % are files rewritten in place (half of them one by one anywhere, half neighbours), 20 %
           are appended to a log, and 10 % a database's: half of it pages of 8 KiB in a file of an eighth of all bytes
           (every other one at its end, the others anywhere), half its write-ahead log, written over in turn. A file that
           is larger than what is left of a part's share is passed over, so that 1 % is 1 %.
scattered  writes of 4 KiB anywhere in files that are so large, and nothing else: what no tracker and no chunk size likes.

Measured: wall seconds; bytes that the disk gave (its counters, so of every contestant alike; what the page cache knew
is dropped before); bytes by which the repository grew. 'changed' are the bytes written to files.
"""
import json, os, random, resource, shutil, statistics, subprocess, sys, time

scratch, loop, agent_pid, rounds, rows, who, shifts, mib = sys.argv[1:]
rounds, mib, ctl = int(rounds), int(mib), os.environ['CTL']
shifts = [int(s) for s in shifts.split()]
mnt, results = f'{scratch}/mnt', []
env = dict(os.environ, BORG_BASE_DIR=f'{scratch}/borg.base', BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK='yes',
           BORG_RELOCATED_REPO_ACCESS_IS_OK='yes', RESTIC_PASSWORD='bench')

# ---- the changes -------------------------------------------------------------------------------------------

database, wal, log = f'{mnt}/srv/db/table', f'{mnt}/srv/db/wal', f'{mnt}/var/log'
db_bytes, wal_segment = mib * 2**20 // 8, 16 << 20
state = {'wal': 0, 'seed': 0}


def text(rng, size):
    """Bytes that compress about as rows and log lines do, and that are never the same again."""
    words = b''.join(rng.randbytes(3).hex().encode() + b' status=ok user=' for _ in range(size // 22 + 1))
    return words[:size]


def tree():
    files = []
    for top, _, names in os.walk(f'{mnt}/system'):
        for name in names:
            path = os.path.join(top, name)
            if not os.path.islink(path):
                files.append((path, os.path.getsize(path)))
    return sorted(files)


def make_files():
    for d in (f'{mnt}/srv/db', log):
        os.makedirs(d)
    rng = random.Random(1)
    with open(database, 'wb') as f:
        for _ in range(db_bytes >> 20):
            f.write(text(rng, 1 << 20))
    with open(wal, 'wb') as f:
        f.write(bytes(wal_segment))


def permuted(data, rng):
    """As compressible as before, and nothing in it as it was: a new build of the same program."""
    odd, add = 2 * rng.randrange(1, 128) + 1, rng.randrange(256)
    table = bytes((b * odd + add) & 255 for b in range(256))
    return data.translate(table)


def upgrade(files, rng, budget):
    """Packages are neighbours in the order of names. Some 2 MiB each."""
    done, missed = 0, 0
    while done < budget and missed < 100:
        at, package, missed = rng.randrange(len(files)), 0, missed + 1
        for path, size in files[at:at + 1000]:
            if package >= 2 << 20 or size > budget - done:
                break
            with open(path, 'rb') as f:
                data = permuted(f.read(), rng)
            with open(path + '.dpkg-new', 'wb') as f:
                f.write(data)
            os.rename(path + '.dpkg-new', path)
            done, package, missed = done + size, package + size, 0
    return done


def rewrite(files, rng, budget):
    """In place; half of it files here and there, half neighbours, some 1 MiB of them, as a deployment does."""
    done, at, left, missed = 0, 0, 0, 0
    while done < budget and missed < 100:
        if done < budget // 2:
            path, size = rng.choice(files)
        else:
            if left <= 0 or missed:
                at, left = rng.randrange(len(files)), 1 << 20
            (path, size), at = files[at % len(files)], at + 1
        missed = missed + 1 if size > budget - done else 0
        if missed:
            continue
        with open(path, 'r+b') as f:
            data = permuted(f.read(), rng)
            f.seek(0)
            f.write(data)
        done, left = done + size, left - size
    return done


def append(rng, budget):
    with open(f'{log}/syslog', 'ab') as f:
        f.write(text(rng, budget))
    return budget


def pages(rng, n, size, at_end):
    with open(database, 'r+b') as f:
        last = db_bytes // size
        for i in range(n):
            f.seek((last - 1 - i % last if i < at_end else rng.randrange(last)) * size)
            f.write(text(rng, size))
    return n * size


def scatter(files, rng, n):
    files = [(path, size >> 12) for path, size in files if size >> 12] + [(database, db_bytes >> 12)]
    for path, blocks in rng.choices(files, weights=[blocks for _, blocks in files], k=n):
        with open(path, 'r+b') as f:
            f.seek(rng.randrange(blocks) << 12)
            f.write(text(rng, 4096))
    return n << 12


def write_ahead(rng, budget):
    with open(wal, 'r+b') as f:
        done = 0
        while done < budget:
            size = min(budget - done, wal_segment - state['wal'])
            f.seek(state['wal'])
            f.write(text(rng, size))
            state['wal'] = (state['wal'] + size) % wal_segment
            done += size
    return budget


def change(kind, percent):
    state['seed'] += 1
    rng = random.Random(state['seed'])
    budget = int(mib * 2**20 * percent / 100)
    files = tree()
    if kind == 'scattered':
        return scatter(files, rng, budget >> 12)
    done = upgrade(files, rng, budget * 4 // 10) + rewrite(files, rng, budget * 3 // 10)
    done += append(rng, budget * 2 // 10)
    n = max(2, budget // 20 >> 13)
    return done + pages(rng, n, 8192, n // 2) + write_ahead(rng, n * 8192)


# ---- the contestants -----------------------------------------------------------------------------------------


def ours(shift, name):
    repo = f'{scratch}/{name}'
    return {'prepare': f'{ctl} repo init --repo {repo} --chunk-size {(1 << shift) >> 10}K', 'out': repo,
            'run': f'{ctl} capture {loop} --repo {repo} --host h --disk d --full-speed --json'}


contestants, titles = {}, {}
for s in shifts:
    size = f'{(1 << s) >> 10} KiB'
    contestants[f'tracked{s}'] = ours(s, f'tracked{s}')
    titles[f'tracked{s}'] = f'**ambrotype, tracked** ({size})'
contestants['compared'] = ours(shifts[0], 'compared')
titles['compared'] = '**ambrotype, compared**'
contestants.update({
    'restic': {'prepare': 'restic init -q -r $OUT', 'out': f'{scratch}/restic', 'cache': 'RESTIC_CACHE_DIR',
               'run': f'restic backup -q -r $OUT --stdin --stdin-filename disk <{loop}'},
    'borg': {'prepare': 'borg init -e none $OUT', 'out': f'{scratch}/borg',
             'run': f'borg create -C zstd,1 --chunker-params fixed,4194304 $OUT::$N - <{loop}'},
    'casync': {'prepare': 'mkdir $OUT', 'out': f'{scratch}/casync',
               'run': f'casync make --compression=zstd --store=$OUT $OUT/$N.caibx {loop}'},
    'restic-files': {'prepare': 'restic init -q -r $OUT', 'out': f'{scratch}/restic-files', 'cache': 'RESTIC_CACHE_DIR',
                     'run': f'cd {mnt} && restic backup -q -r $OUT .'},
    'borg-files': {'prepare': 'borg init -e none $OUT', 'out': f'{scratch}/borg-files',
                   'run': f'cd {mnt} && borg create -C zstd,1 $OUT::$N .'},
    'casync-files': {'prepare': 'mkdir $OUT', 'out': f'{scratch}/casync-files',
                     'run': f'casync make --compression=zstd --cache={scratch}/casync.cache --store=$OUT $OUT/$N.caidx {mnt}'},
})
titles.update({
    'restic': '`restic backup --stdin` of the device', 'borg': '`borg create`, fixed 4 MiB, of the device',
    'casync': '`casync make` of the device', 'restic-files': '`restic backup` of the files (with its parent)',
    'borg-files': '`borg create` of the files (with its cache)', 'casync-files': '`casync make --cache` of the files',
})
if who != 'all':
    contestants = {k: v for k, v in contestants.items() if k.rstrip('0123456789') in who.split()}


def sh(command, **more):
    done = subprocess.run(['bash', '-o', 'pipefail', '-c', command], capture_output=True, env=dict(env, **more))
    if done.returncode:
        sys.exit(f'{command}: {done.stderr.decode(errors="replace")[-600:]}')
    return done.stdout


def disk_read():
    with open(f'/sys/block/{os.path.basename(loop)}/stat') as f:
        return int(f.read().split()[2]) * 512


def cpu():
    """Seconds of the agent and of all our children that have ended."""
    with open(f'/proc/{agent_pid}/stat', encoding='ascii') as f:
        agent = sum(int(x) for x in f.read().rsplit(')', 1)[1].split()[11:15]) / os.sysconf('SC_CLK_TCK')
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return agent + own.ru_utime + own.ru_stime


def repo_size(path):
    total = 0
    for top, _, names in os.walk(path):
        total += sum(os.lstat(os.path.join(top, n)).st_size for n in names)
    return total


def forget_pages():
    """What is cached of files and of the device is dropped: of this disk only, others use this machine."""
    sh(f'sync -f {mnt}')
    for top, _, names in os.walk(mnt):
        for name in names:
            path = os.path.join(top, name)
            if not os.path.islink(path):
                fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)
    sh(f'sync -f {mnt}; blockdev --flushbufs {loop}')


def untrack():
    sh(f'busctl --address=unix:path=$AMBRO_SOCKET call org.ambrotype.Agent1 /org/ambrotype/Agent1 org.ambrotype.Agent1 Untrack s {loop}')


def capture(name, row, number):
    c = contestants[name]
    forget_pages()
    if name == 'compared' and number:
        untrack()
    more = {'OUT': c['out'], 'N': f'n{number}', 'RESTIC_CACHE_DIR': f'{scratch}/{name}.cache'}
    size, read, used, began = repo_size(c['out']), disk_read(), cpu(), time.monotonic()
    try:
        told = sh(c['run'], **more)
    except SystemExit as why:
        if name.startswith(('tracked', 'compared')):
            raise
        # casync 2 of Debian 12 fails an assertion now and then
        print(f'note: {name} is left out of all tables, because it failed: {str(why).strip()[-200:]}', file=sys.stderr)
        del contestants[name]
        return None
    wall = time.monotonic() - began
    time.sleep(0.05)
    r = {'who': name, 'row': row, 'number': number, 'wall': wall, 'cpu': cpu() - used, 'read': disk_read() - read,
         'stored': repo_size(c['out']) - size, 'total': repo_size(c['out']), 'load': os.getloadavg()[0]}
    if name.startswith(('tracked', 'compared')):
        job = json.loads(told)
        r.update(increment=job['increment'], freeze_us=job['freeze_us'], told=job)
        want = 'full' if not number else name.rstrip('0123456789')
        if job['increment'] != want:
            sys.exit(f'{name}: this is {job["increment"]}, not {want}: {job}')
    results.append(r)
    return r


def step(row, number, changed):
    """Compared comes last, because it ends tracking; one more of each tracked one, which is not counted, begins it anew."""
    names = [n for n in contestants if n != 'compared']
    names = names[number % len(names):] + names[:number % len(names)]
    for name in names + ['compared'] * ('compared' in contestants):
        r = capture(name, row, number)
        if not r:
            continue
        r['changed'] = changed
        print(f'{row}: {name}: {r["wall"]:.2f} s, {r["cpu"]:.2f} s CPU, read {r["read"] >> 10} KiB, stored {r["stored"] >> 10} KiB, '
              f'load {r["load"]:.1f}', file=sys.stderr)
    if 'compared' in contestants:
        for name in contestants:
            if name.startswith('tracked'):
                sh(contestants[name]['run'])


# ---- the run -------------------------------------------------------------------------------------------------

make_files()
for name, c in contestants.items():
    sh(c['prepare'], OUT=c['out'], RESTIC_CACHE_DIR=f'{scratch}/{name}.cache')
step('full', 0, 0)
rows, number, sizes = rows.split(), 0, {}
for _ in range(rounds):
    for row in rows:
        kind, percent = row.split(':')
        number += 1
        step(row, number, change(kind, float(percent)))

# what is there is what the disk holds
for name in [n for n in contestants if n.startswith(('tracked', 'compared'))]:
    sh(f'{ctl} restore --repo {contestants[name]["out"]} latest {scratch}/back.img --yes')
    sh(f'mkdir -p {scratch}/back; mount -o ro,loop {scratch}/back.img {scratch}/back')
    try:
        sh(f'diff -r --no-dereference {mnt} {scratch}/back')
    finally:
        sh(f'umount {scratch}/back; rm {scratch}/back.img')

with open(os.environ.get('INCREMENTS_RAW', f'{scratch}/raw.json'), 'w', encoding='utf-8') as f:
    json.dump(results, f)

if 'INCREMENTS_KEEP' in os.environ:
    shutil.copytree(contestants[f'tracked{shifts[0]}']['out'], os.environ['INCREMENTS_KEEP'])

# ---- the tables ----------------------------------------------------------------------------------------------


def median(name, row, key):
    return statistics.median(r[key] for r in results if r['who'] == name and r['row'] == row)


def mean(name, row, key):
    return statistics.mean(r[key] for r in results if r['who'] == name and r['row'] == row)


best = next(n for n in contestants if n.startswith('tracked'))
space = os.statvfs(mnt)
print(f'{time.strftime("%F", time.gmtime())}, {os.cpu_count()} CPUs, Linux {os.uname().release}; a mounted ext4 of '
      f'{int(open(f"/sys/block/{os.path.basename(loop)}/size").read()) >> 11} MiB, '
      f'{(space.f_blocks - space.f_bfree) * space.f_frsize >> 20} MiB of it in use; {rounds} rounds, medians; '
      f'load {min(r["load"] for r in results):.1f} to {max(r["load"] for r in results):.1f}')
print('\n**First capture**\n\n| | s | CPU s | read, MiB | stored, MiB |\n|---|--:|--:|--:|--:|')
for name in contestants:
    print(f'| {titles[name]} | {median(name, "full", "wall"):.2f} | {median(name, "full", "cpu"):.2f} | {median(name, "full", "read") / 2**20:.0f} | '
          f'{median(name, "full", "stored") / 2**20:.1f} |')
for row in rows:
    kind, percent = row.split(':')
    changed = statistics.mean(r['changed'] for r in results if r['row'] == row)
    print(f'\n**{percent} % changed, {"as servers change" if kind == "server" else "4 KiB writes, scattered"}** '
          f'({changed / 2**20:.1f} MiB)\n')
    print('| | s | × tracked | CPU s | × tracked | own first capture, × s | read, MiB | per byte changed | stored, MiB | '
          'per byte changed |')
    print('|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|')
    for name in contestants:
        wall, read, stored = median(name, row, 'wall'), mean(name, row, 'read'), mean(name, row, 'stored')
        used = median(name, row, 'cpu')
        print(f'| {titles[name]} | {wall:.2f} | {wall / median(best, row, "wall"):.1f} | {used:.2f} | '
              f'{used / median(best, row, "cpu"):.1f} | {median(name, "full", "wall") / wall:.1f} | {read / 2**20:.1f} | {read / changed:.2f} | '
              f'{stored / 2**20:.2f} | {stored / changed:.2f} |')
at = 10 if number >= 10 else number
print(f'\n**Repository after the first capture and {at} increments** (all rows above in turn)\n')
print('| | MiB | first capture, MiB |\n|---|--:|--:|')
for name in contestants:
    total = next(r['total'] for r in results if r['who'] == name and r['number'] == at)
    print(f'| {titles[name]} | {total / 2**20:.1f} | {median(name, "full", "total") / 2**20:.1f} |')
