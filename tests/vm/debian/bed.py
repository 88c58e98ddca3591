# SPDX-License-Identifier: GPL-2.0-or-later
"""bed.py - what the system tests share: a guest's image, our programs on the host, the end of a test."""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import vm

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent.parent
BUILT = TOP / os.environ.get('O', 'build/rel')
SCRATCH_MIB = 6144


class Fail(Exception):
    """What the test is about is not so."""


def expect(so, *words):
    if not so:
        raise Fail(' '.join(str(w) for w in words))


def host(*command, check=True, text=None):
    """Run a command on the host; its output."""
    done = subprocess.run([str(c) for c in command], text=True, input=text,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if check and done.returncode:
        raise Fail(f'{command[0]}: exit {done.returncode}\n{done.stdout[-3000:]}')
    return done.stdout


def ambroctl(*arguments):
    return host(BUILT / 'ambroctl', *arguments)


def free_mib(path):
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize >> 20


@contextlib.contextmanager
def scratch():
    """A directory with room for some sparse disks, in memory if there is enough. KEEP=1 leaves it."""
    parent = next((p for p in ('/dev/shm', '/var/tmp') if free_mib(p) >= SCRATCH_MIB), None)
    if not parent:
        raise Fail(f'no {SCRATCH_MIB} MiB free in /dev/shm or /var/tmp')
    where = tempfile.mkdtemp(prefix='ambro-debian-', dir=parent)
    try:
        yield pathlib.Path(where)
    finally:
        if os.environ.get('KEEP'):
            vm.say('left:', where)
        else:
            shutil.rmtree(where)


def image(where, kernel, fs, size=1536):
    """A bootable disk of a new guest, where/guest.img."""
    root, out = where / 'root', where / 'guest.img'
    vm.say(f'image: {kernel}, {fs}')
    host(HERE / 'root.sh', root, kernel)
    host(HERE / 'image.py', root, out, '--fs', fs, '--size', size)
    shutil.rmtree(root)
    return out


def partitions(disk):
    """{number: (first byte, bytes)} of a disk in a file."""
    table = json.loads(host('sfdisk', '--json', disk))['partitiontable']
    return {n: (p['start'] * 512, p['size'] * 512) for n, p in enumerate(table['partitions'], 1)}


def arguments(description, **more):
    """The command line that all tests have, and options of one's own: name=(default, help)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--kernel', default=os.environ.get('VM_KERNEL', '6.1'))
    parser.add_argument('--fs', choices=('ext4', 'xfs', 'lvm'), default='ext4')
    for name, (default, words) in more.items():
        parser.add_argument(f'--{name}', default=default, help=words)
    return parser.parse_args()


def test(function):
    """Run a test to its exit status: 0, or 1 with the reason."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    missing = [c for c in ('qemu-system-x86_64', 'mmdebstrap', 'grub-mkimage', 'mcopy', 'qemu-img')
               if not shutil.which(c)]
    if missing:
        print('skipped:', ', '.join(missing), 'not installed')
        sys.exit(77)
    try:
        function()
    except (Fail, vm.Error) as e:
        sys.exit(f'FAIL: {e}')
    vm.say('PASS')
