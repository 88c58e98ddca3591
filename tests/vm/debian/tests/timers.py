#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Periodic captures of the running system disk, by the units as they are installed: the timer fires, the socket starts
the agent, a credential opens the encrypted repository on the second disk, an image of the live root arrives. The machine is
off for three days; when it is on again the timer makes up for what was missed. Both images are whole."""
import json
import pathlib
import sys
import time
sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import bed  # noqa: E402
import vm  # noqa: E402

asked = bed.arguments(__doc__)
REPOSITORY = '/mnt/backup/ambro'
UNIT = 'ambro-capture@root'
KEY = '/etc/credstore/ambro.root.key'
# an emulated processor is slow, and the last pass has more time
CONF = f"""repository = {REPOSITORY}
tags = nightly
max_freeze_ms = 60000
keep_last = 5
""" + ('source = /dev/mapper/guest-root\n' if asked.fs == 'lvm' else '')
SERVICE = f"""[Unit]
RequiresMountsFor={REPOSITORY}
[Service]
ReadWritePaths={REPOSITORY}
"""
AT_ONCE = '[Timer]\nRandomizedDelaySec=0\n'


def settle(guest):
    """As docs/OPERATING.md tells an administrator."""
    guest.run('mkfs.ext4 -q /dev/vdb && mkdir -p /mnt/backup && '
              'echo "/dev/vdb /mnt/backup ext4 defaults,nofail 0 2" >>/etc/fstab && '
              'systemctl daemon-reload && mount /mnt/backup')
    guest.run(f'ambroctl key generate {KEY} && ambroctl repo init --repo {REPOSITORY} --encrypt --key-file {KEY}')
    guest.put('/etc/ambro/captures.d/root.conf', CONF.encode())
    guest.run(f'ambroctl run --check root && mkdir -p /etc/systemd/system/{UNIT}.service.d '
              f'/etc/systemd/system/{UNIT}.timer.d /run/systemd/system/{UNIT}.timer.d')
    guest.put(f'/etc/systemd/system/{UNIT}.service.d/place.conf', SERVICE.encode())
    guest.put(f'/etc/systemd/system/{UNIT}.timer.d/at-once.conf', AT_ONCE.encode())


def said(guest):
    return guest.text(f'journalctl -b --no-pager -o cat -u {UNIT} -u {UNIT}.timer -u ambrod')


def images(guest):
    listed = guest.run(f'ambroctl list --json --repo {REPOSITORY} --key-file {KEY}', check=False)
    bed.expect(listed[0] == 0, 'list:', listed[1].decode(errors='replace'))
    return json.loads(listed[1])


def wait_for_images(guest, wanted):
    """The unit has run since the boot, and ended well."""
    end = time.monotonic() + 2400
    state, ended = '', '0'
    while state != 'inactive success' or ended == '0':
        bed.expect(time.monotonic() < end, 'no capture has ended:', said(guest))
        time.sleep(5)
        told = dict(line.split('=', 1) for line in guest.text(
            f'systemctl show -p ActiveState,Result,ExecMainExitTimestampMonotonic {UNIT}').splitlines())
        state, ended = f"{told['ActiveState']} {told['Result']}", told['ExecMainExitTimestampMonotonic']
        bed.expect('failed' not in state, said(guest))
    there = images(guest)
    bed.expect(len(there) == wanted, len(there), 'images:', said(guest))
    return there


def first_day(guest):
    settle(guest)
    bed.expect(guest.run('systemctl is-active ambrod.service', check=False)[0],
               'the agent runs before anybody asked for it')
    guest.put(f'/run/systemd/system/{UNIT}.timer.d/soon.conf', b'[Timer]\nOnActiveSec=1s\n')
    guest.run(f'systemctl daemon-reload && systemctl enable --now {UNIT}.timer')
    image, = wait_for_images(guest, 1)
    bed.expect(image['guarantee'] == 'filesystem-consistent', image)
    journal = guest.text(f'journalctl --no-pager -o json AMBRO_IMAGE={image["name"]} '
                         'MESSAGE_ID=6f0cbb2a9e4d4c0ea2f1c40f6d5a7b21')
    entry = json.loads(journal)
    bed.expect(entry['AMBRO_INCREMENT'] == 'full' and entry['AMBRO_CAPTURE'] == 'root', journal)
    metrics = guest.text('setpriv --reuid nobody --regid nogroup --clear-groups cat /var/lib/ambro/metrics/root.prom')
    bed.expect('\nambro_capture_exit_code{' in metrics and 'kind="full"} 1' in metrics, metrics)
    verified = guest.text('systemd-analyze verify --man=no '
                          f'{UNIT}.service {UNIT}.timer ambrod.service ambrod.socket')
    bed.expect(not verified, verified)
    vm.say('first:', image['name'], entry['AMBRO_READ_BYTES'], 'read', entry['AMBRO_NEW_BYTES'], 'new')


def later_day(guest):
    guest.wait_boot()
    image = wait_for_images(guest, 2)[-1]
    bed.expect(image['increment'] == 'compared', 'after a boot nothing is known of what was written, but it is',
               image['increment'])
    vm.say('second:', image['name'], image['new_bytes'], 'new')


def check_images(where, disk, key):
    """On the host, which is quicker."""
    keyfile, mount = where / 'key', where / 'mnt'
    keyfile.write_bytes(key)
    keyfile.chmod(0o600)
    mount.mkdir()
    bed.host('mount', '-o', 'ro,loop,noload', disk, mount)
    try:
        words = '--repo', mount / 'ambro', '--key-file', keyfile
        names = [one['name'] for one in json.loads(bed.ambroctl('list', '--json', *words))]
        bed.expect(len(names) == 2, names)
        for name in names:
            bed.ambroctl('verify', *words, name)
        bed.ambroctl('repo', 'check', '--read-data', *words)
    finally:
        bed.host('umount', mount)
    vm.say('both whole')


def main():
    with bed.scratch() as where:
        disks = [vm.overlay(bed.image(where, asked.kernel, asked.fs), where / 'live.qcow2'),
                 vm.blank(where / 'backup.img', 2048)]
        for name, days, check in (('first', 0, first_day), ('later', 3, later_day)):
            clock = time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time() + days * 86400))
            with vm.Guest(where / name, disks, 'bios', extra=('-rtc', f'base={clock}')) as guest:
                guest.start()
                check(guest)
                key = guest.get(KEY)
                guest.check_kernel()
                guest.power_off()
                guest.check_kernel()
        check_images(where, disks[1], key)


bed.test(main)
