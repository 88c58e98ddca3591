#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An image of the running system disk, taken while PostgreSQL commits, packages are installed and free
space is trimmed. Restored to a larger disk, it boots alone by BIOS and by UEFI, and the database there
has every commit that was acknowledged before the instant of the image and none that began after it.

By dm or kmod, which the agent chooses by itself, udev, LVM and whoever looks for a file system by its
UUID see the same before, while and after the snapshot stands. The image of a logical volume goes back
to the place of that volume on a disk that has lost it.
"""
import hashlib
import json
import pathlib
import sys
import tempfile
import time
sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import bed  # noqa: E402
import below  # noqa: E402
import image  # noqa: E402
import vm  # noqa: E402

CLIENTS = 3
SIZE, LARGER = 1536, 2200

# (pause of the load between two things in seconds, bytes that one fstrim is for, more for ambroctl)
#
# precopy reads again what was written or discarded. An emulated processor reads and compresses some ten
# times slower than a real one, so the load is slower for it, and the last pass has more time.
PACE = {'precopy': (1, 16 << 20, '--max-freeze 60000')}
QUICK = 0.1, 1 << 40, ''

asked = bed.arguments(
    __doc__, strategy=('precopy', 'that must be used; dm and kmod are not asked for'),
    source=('', 'instead of no argument'), store=('file', 'where the COW store must be: file or ram'),
    more=('', 'words for ambroctl capture'))
below_disk = asked.strategy in ('dm', 'kmod')
volume = '/dev/mapper/guest-root' if asked.strategy == 'dm' else ''
module = bed.TOP / f'build/vm/kmod/{asked.kernel}/ambro.ko'

pause, window, pace = PACE.get(asked.strategy, QUICK)


# ---- the live system -------------------------------------------------------------------------------

def package(where, version):
    """A package of many small files and a script that runs as it is installed."""
    tree = where / f'deb-{version}'
    (tree / 'DEBIAN').mkdir(parents=True)
    (tree / 'DEBIAN/control').write_text(
        f'Package: many\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\n'
        'Description: files of a test\n')
    script = tree / 'DEBIAN/postinst'
    script.write_text('#!/bin/sh\nset -e\ndate >/var/lib/many.stamp\n')
    script.chmod(0o755)
    for i in range(200):
        file = tree / f'usr/share/many/{i % 10}/{i}'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'{version} {i}\n' * (i * 7 + 1))
    bed.host('dpkg-deb', '--root-owner-group', '-Zgzip', '-b', tree, where / f'many-{version}.deb')
    return where / f'many-{version}.deb'


def psql(guest, statement):
    return guest.text("su postgres -c 'psql -qAtX -d postgres -v ON_ERROR_STOP=1'",
                      given=statement.encode())


def start_load(guest, where):
    guest.mount_share()
    guest.put('/root/commits.py', (bed.HERE / 'load/commits.py').read_bytes(), 0o755)
    for name in ('packages.sh', 'trim.sh'):
        guest.put(f'/root/{name}', (bed.HERE / 'load' / name).read_bytes(), 0o755)
    debs = [package(where / 'share', version) for version in (1, 2)]
    guest.run('cp /host/*.deb /root')
    psql(guest, 'create table acknowledged '
         '(client int, seq bigint, note text, primary key (client, seq));'
         'create table mark (name text);'
         "alter system set max_wal_size = '96MB'; alter system set wal_level = 'replica';"
         'select pg_reload_conf();')
    guest.run('systemd-run -q --unit load-commits -E POSTGRES_UID=$(id -u postgres) '
              f'/root/commits.py {CLIENTS} {pause / 5}')
    guest.run(f'systemd-run -q --unit load-packages /root/packages.sh {pause} '
              + ' '.join(f'/root/{d.name}' for d in debs))
    guest.run(f'systemd-run -q --unit load-trim /root/trim.sh {pause * 5} {window}')


def load_runs(guest):
    state = guest.run('systemctl is-active load-commits load-packages load-trim', check=False)[1]
    bed.expect(state.split() == [b'active'] * 3, 'the load ended:',
               guest.text('journalctl --no-pager -n 40 -u "load-*"'))


def commits(guest):
    """{(client, seq): (began, acknowledged)} of all lines that have come."""
    lines = (guest.work / 'commits.port').read_text().splitlines(keepends=True)
    words = [list(map(int, line.split())) for line in lines if line.endswith('\n')]
    return {(c, seq): (began, acked) for c, seq, began, acked in words}


def wait_for_commits(guest, more):
    wanted = len(commits(guest)) + more
    end = time.monotonic() + 600
    while len(commits(guest)) < wanted:
        bed.expect(time.monotonic() < end, 'no commits come')
        load_runs(guest)
        time.sleep(1)


def mark(guest, name):
    psql(guest, f"insert into mark values ('{name}')")
    guest.run(f'echo {name} >/root/mark-{name} && sync -f /root')


def load_module(guest):
    """While the agent runs: it must find it all the same."""
    guest.run('mkdir -p /lib/modules/$(uname -r)/updates')
    guest.put('/lib/modules/$(uname -r)/updates/ambro.ko', module.read_bytes())
    guest.run('depmod && modprobe ambro')


def check_store(guest):
    held = below.store_files(guest).splitlines()
    vm.say('the store:', *held, guest.text('dmsetup status | grep -e -snap: -e -origin:'))
    bed.expect(bool(held) == (asked.store == 'file'), 'the store is not where it should be:', held)


def watch(guest, before, begun):
    """While the snapshot stands."""
    if below.wait_stopped(guest, 'mapped', begun):
        below.Seen(guest).check_as(before, 'while the snapshot stands:', 'Device mismatch detected for')
        check_store(guest)
        if asked.strategy == 'kmod':
            bed.expect(guest.run('rmmod ambro', check=False)[0], 'the module could be removed')
        below.goes_on(guest)


def check_refused(guest):
    """What a system disk that is a volume says to who names nothing."""
    status, output = guest.run('ambroctl capture -o /host/none.ambro', check=False)
    vm.say('without a source: exit', status, output.decode(errors='replace').strip())
    bed.expect(status and b'/dev/mapper/guest-root' in output, 'it does not say what to capture')


def check_result(result):
    bed.expect(result['strategy'] == asked.strategy, 'strategy', result['strategy'], result)
    bed.expect(result['bad'] == 0 and result['dirty'] == 0, result)
    bed.expect(bool(result['store_used']) == below_disk, 'the store:', result)
    vm.say('captured:', json.dumps({k: result[k] for k in (
        'strategy', 'strategy_reason', 'passes', 'freeze_us', 'read', 'written', 'store_used', 'store_size',
        'duration_ms')}))


def capture(guest):
    if below_disk:
        below.stop_at(guest, 'mapped')
    guest.run('ambroctl status')
    if asked.strategy == 'kmod':
        load_module(guest)
    if asked.fs == 'lvm':
        check_refused(guest)
    vm.say('capture', asked.strategy)
    words = '' if below_disk else f'--strategy {asked.strategy}'
    before = below.Seen(guest) if below_disk else None
    begun = guest.begin(f'ambroctl capture {asked.source or volume} -o /host/disk.ambro --json {words} '
                        f'{pace} {asked.more} 2>&1', limit=1800)
    if below_disk:
        watch(guest, before, begun)
    status, output = guest.finish(begun, check=False)
    bed.expect(status == 0, f'capture: exit {status}:', output.decode(errors='replace'),
               guest.text('journalctl --no-pager -n 20 -u ambrod'))
    check_result(json.loads(output.decode().strip().splitlines()[-1]))
    if below_disk:
        below.check_nothing_left(guest, before, 'after the capture:')
    if asked.strategy == 'kmod':
        guest.run('rmmod ambro')


def live(where, original):
    """Capture under load. Returns the commits, as they were told."""
    disk = vm.overlay(original, where / 'live.qcow2')
    with vm.Guest(where / 'live', [disk], f'{original}.boot', where / 'share', ['commits']) as guest:
        guest.start()
        guest.wait_boot()
        start_load(guest, where)
        wait_for_commits(guest, 100)
        mark(guest, 'before')
        capture(guest)
        mark(guest, 'after')
        wait_for_commits(guest, 100)
        load_runs(guest)
        vm.say('load:', len(commits(guest)), 'commits,', guest.text('cat /run/packages'),
               'installations,', guest.text('cat /run/trims'), 'trims')
        guest.check_kernel()
        return commits(guest)


# ---- the image ---------------------------------------------------------------------------------------

def restore_disk(archive, disk):
    """A larger disk with the image."""
    vm.blank(disk, LARGER)
    bed.ambroctl('restore', '--yes', archive, disk)
    bed.expect(disk.stat().st_size == LARGER << 20, 'the disk has another size now')
    problems = bed.host('sgdisk', '-v', disk)
    bed.expect('No problems found' in problems, problems)
    start, _ = bed.partitions(disk)[3]
    if asked.fs == 'ext4':
        bed.host('e2fsck', '-fn', f'{disk}?offset={start}')


def restore_volume(archive, original, disk):
    """The disk as it was before it ever ran, but its volume, of which every byte is wrong; then the image there."""
    bed.host('cp', '--sparse=always', original, disk)
    start, size = bed.partitions(disk)[3]
    with image.loop(disk, start, size) as dev, tempfile.TemporaryDirectory() as system:
        offset, size = image.Lvm(dev, system).place('guest/root')
    with image.loop(disk, start + offset, size) as dev:
        bed.host('shred', '--iterations=1', dev)
        bed.ambroctl('restore', '--yes', archive, dev)
        bed.host('e2fsck', '-fn', dev)


def restore(where, original):
    """A disk with the image, and the image's manifest."""
    archive, disk = where / 'share/disk.ambro', where / 'restored.img'
    bed.ambroctl('verify', archive)
    shown = json.loads(bed.ambroctl('show', '--json', archive))
    if volume:
        restore_volume(archive, original, disk)
    else:
        restore_disk(archive, disk)
    bed.expect(not below_disk or shown['guarantee'] == 'filesystem-consistent', shown['guarantee'])
    vm.say('restored:', archive.stat().st_size >> 20, 'MiB image,', shown['guarantee'])
    return disk, shown


# ---- the restored system -------------------------------------------------------------------------------

def check_commits(guest, told, instant):
    rows = psql(guest, 'select client, seq, note from acknowledged order by 1, 2').splitlines()
    held = {}
    for row in rows:
        client, seq, note = row.split('|')
        held[int(client), int(seq)] = note
    lost = [k for k, (_, acked) in told.items() if acked < instant and k not in held]
    bed.expect(not lost, len(lost), 'acknowledged commits are lost:', sorted(lost)[:10])
    early = [k for k in held if k not in told or told[k][0] > instant]
    bed.expect(not early, len(early), 'commits began after the instant:', sorted(early)[:10])
    wrong = [k for k, note in held.items()
             if note != hashlib.md5(f'{k[0]}:{k[1]}'.encode()).hexdigest() * 8]
    bed.expect(not wrong, 'rows with another content:', wrong[:10])
    under_way = sum(began <= instant <= acked for began, acked in told.values())
    vm.say(f'{len(held)} of {len(told)} commits held; {under_way} were under way at the instant')
    bed.expect(CLIENTS <= len(held) < len(told), 'the instant has commits on one side only')


def check_sweep(guest):
    """The store's file came along, empty; the agent's first start removes it."""
    came = below.store_files(guest)
    bed.expect(bool(came) == (below_disk and asked.store == 'file'), 'files of a store:', came)
    vm.say('came along:', came or 'no store')
    guest.run('ambroctl status')
    left = below.store_files(guest)
    bed.expect(not left, 'the first start of the agent left', left)


def check_system(guest, told, shown):
    guest.wait_boot()
    bed.expect(guest.text("lsblk -dno NAME") == 'vda', 'it is not alone')
    check_sweep(guest)
    bed.expect(psql(guest, 'select name from mark') == 'before', 'marks in the database')
    bed.expect(guest.text('cd /root && ls mark-*') == 'mark-before', 'marks in files')
    check_commits(guest, told, shown['instant_ns'])
    recovered = guest.text('cat /var/log/postgresql/*.log')
    bed.expect('automatic recovery in progress' in recovered, 'PostgreSQL did not recover')
    guest.run('dpkg -i /root/many-1.deb && dpkg --audit')
    changed = guest.run("dpkg --verify | grep '^..5' | grep -v ' c '", check=False)[1].decode()
    bed.expect(not changed, 'files of packages are damaged:\n' + changed)


def boots(where, disk, told, shown):
    for firmware in ('bios', 'uefi'):
        copy = vm.overlay(disk, where / f'{firmware}.qcow2')
        with vm.Guest(where / firmware, [copy], firmware) as guest:
            guest.start()
            check_system(guest, told, shown)
            guest.check_kernel()
            guest.power_off()
            guest.check_kernel()
        vm.say(f'{firmware}: all there')


def main():
    if asked.strategy == 'kmod' and not module.exists():
        print(f'skipped: {module} is not built')
        sys.exit(77)
    with bed.scratch() as where:
        (where / 'share').mkdir()
        original = bed.image(where, asked.kernel, asked.fs, SIZE)
        told = live(where, original)
        disk, shown = restore(where, original)
        boots(where, disk, told, shown)


bed.test(main)
