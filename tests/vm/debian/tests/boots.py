#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The full guest boots by BIOS and by UEFI, all its units are well, and the agent starts for a client,
ends and starts again under systemd."""
import pathlib
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import bed  # noqa: E402
import vm  # noqa: E402

asked = bed.arguments(__doc__)


def check(guest, firmware):
    guest.wait_boot()
    efi = guest.run('test -d /sys/firmware/efi', check=False)[0] == 0
    bed.expect(efi == (firmware == 'uefi'), 'booted by the wrong firmware')
    source = guest.text('findmnt -no SOURCE,FSTYPE /')
    wanted = {'ext4': '/dev/vda3 ext4', 'xfs': '/dev/vda3 xfs', 'lvm': '/dev/mapper/guest-root ext4'}
    bed.expect(source.split() == wanted[asked.fs].split(), 'root is', source)
    bed.expect(guest.run('systemctl is-active ambrod.service', check=False)[0],
               'the agent runs before anybody asked for it')
    status = guest.text('ambroctl status')
    bed.expect('tracking available' in status, status)
    bed.expect(guest.text('systemctl is-active ambrod.service') == 'active', 'no agent')


def check_units(guest):
    """The units of ours, in the hands of a real systemd."""
    complaints = guest.text('systemd-analyze verify --man=no ambrod.service ambrod.socket')
    bed.expect(not complaints, complaints)
    # read through the unit's sandbox
    guest.run('set -o pipefail; ambroctl capture /dev/vda1 -o - -q | zstd -dcq | cmp - /dev/vda1')
    guest.run('systemctl stop ambrod.service')
    bed.expect(guest.run('pgrep -x ambrod', check=False)[0] == 1, 'an agent is left')
    guest.run('ambroctl status')
    pid = guest.text('systemctl show -P MainPID ambrod.service')
    guest.run(f'kill -KILL {pid}')
    guest.run('until [[ $(systemctl show -P MainPID ambrod.service) != @(0|%s) ]]; do sleep .2; done'
              % pid, limit=300)
    guest.run('ambroctl status')
    check_callers(guest)
    # SIGKILL is what somebody else did
    journal = guest.text('journalctl -b -q --no-pager -o cat -p warning -u ambrod.service -u ambrod.socket')
    said = [line for line in journal.splitlines()
            if 'status=9/KILL' not in line and "result 'signal'" not in line]
    bed.expect(not said, 'the journal has:', *said)
    guest.run('systemctl is-system-running')


def check_callers(guest):
    """Who may call is told by the group that our sysusers file makes."""
    guest.run('setpriv --reuid nobody --regid nogroup --groups ambro ambroctl status')
    status, output = guest.run('setpriv --reuid nobody --regid nogroup --clear-groups ambroctl status',
                               check=False)
    bed.expect(status == 7, 'nobody may ask: exit', status, output.decode())


def main():
    with bed.scratch() as where:
        image = bed.image(where, asked.kernel, asked.fs)
        for firmware in ('bios', 'uefi'):
            disk = vm.overlay(image, where / f'{firmware}.qcow2')
            with vm.Guest(where / firmware, [disk], firmware) as guest:
                guest.start()
                check(guest, firmware)
                if firmware == 'bios':
                    check_units(guest)
                guest.check_kernel()
                guest.power_off()
                guest.check_kernel()


bed.test(main)
