# SPDX-License-Identifier: GPL-2.0-or-later
"""below.py - of a capture by dm or kmod in a guest with udev and LVM: the agent stops while its snapshot stands, and
everything that looks for disks must see what it saw before."""
import re

from bed import expect

UNIT = '/run/systemd/system/ambrod.service.d'
GO = '/run/ambro-test-go'
# what udev made of a disk; and who answers when a file system is wanted by name. Loop devices come and go.
LINKS = ('find /dev/disk /dev/mapper /dev/guest -type l ! -name "ambro-*" ! -lname "*/loop*" -printf "%p %l\\n" '
         '2>/dev/null | sort; '
         'for u in $(lsblk -rno UUID | sort -u); do echo "$u $(findfs UUID=$u)"; done')
LVM = ('lvs --noheadings -o lv_name,vg_name,lv_active,lv_uuid; pvs --noheadings -o pv_name,vg_name,pv_uuid; '
       'vgs --noheadings -o vg_name,pv_count,lv_count')
TABLES = 'dmsetup table'


def stop_at(guest, step):
    """The agent that starts next stops there, in its unit as it is shipped, until goes_on()."""
    guest.run(f'mkdir -p {UNIT}')
    guest.put(f'{UNIT}/test.conf', f'[Service]\nEnvironment=AMBRO_TEST_PAUSE={step}:3000000 AMBRO_TEST_GO={GO}\n'
              .encode())
    guest.run('systemctl daemon-reload')


def wait_stopped(guest, step, capture):
    """Until the agent stands at that step; False: the capture has ended before."""
    said = f'journalctl -b -q -o cat --no-pager -u ambrod | grep -q "^pause: {step}$"'
    while guest.run(said, check=False)[0]:
        if guest.ended(capture):
            return False
        guest.run('sleep 1')
    return True


def goes_on(guest):
    guest.run(f'touch {GO}')


class Seen:
    """What disks there are, for everybody but us."""

    def __init__(self, guest):
        # every rule once more, for what is there now (a hidden disk never answers trigger --settle)
        guest.run('udevadm trigger --subsystem-match=block && udevadm settle', limit=300)
        self.links = guest.text(LINKS).splitlines()
        self.lvm = guest.text('{ ' + LVM + '; } 2>/run/lvm-said').splitlines()
        self.lvm_said = guest.text('cat /run/lvm-said').splitlines()
        self.tables = guest.text(TABLES)
        rows = guest.text('lsblk -rno UUID,NAME').splitlines()
        self.names = {}
        for row in rows:
            uuid, _, name = row.partition(' ')
            if uuid and name:
                self.names.setdefault(uuid, set()).add(name)

    def check_as(self, before, when, lvm_may_say='^$'):
        gone = [line for line in before.links if line not in self.links]
        new = [line for line in self.links if line not in before.links]
        expect(not gone and not new, when, 'links are gone:', gone, 'and new:', new)
        twice = {u: n for u, n in self.names.items() if len(n) > 1}
        expect(not twice, when, 'several devices have one UUID:', twice)
        expect(self.lvm == before.lvm, when, 'LVM says', self.lvm, 'and said', before.lvm)
        said = [line for line in self.lvm_said if not re.search(lvm_may_say, line) and line not in before.lvm_said]
        expect(not said, when, 'LVM complains:', said)


def store_files(guest):
    return guest.text('find / -xdev -maxdepth 1 -name ".ambrotype-cow-*" -printf "%f %s %b\\n"')


def check_nothing_left(guest, before, when):
    seen = Seen(guest)
    seen.check_as(before, when)
    expect(seen.tables == before.tables, when, 'tables', seen.tables, 'and before', before.tables)
    expect(not store_files(guest), when, 'a store is left:', store_files(guest))
