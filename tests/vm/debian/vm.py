#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vm.py DISK... [--boot bios|uefi|direct] [--share DIR] [--run COMMAND]...

Boot a full Debian guest (image.py) from copies-on-write of DISKs, run the commands, and say what
the kernel complained about. As a module: class Guest.

Emulation without KVM: a boot takes half a minute on a quiet machine, several on a busy one. So every
wait is for an event, and its limit is there for what will never happen.
"""
import argparse
import base64
import json
import os
import pathlib
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time

BOOT_LIMIT = 900
OVMF = pathlib.Path('/usr/share/OVMF')

# What no kernel may say while one of our tests runs; here nobody makes a disk fail either.
COMMON = pathlib.Path(__file__).resolve().parent.parent / 'complaints'
BAD_LINE = re.compile('|'.join(
    [line for line in COMMON.read_text().splitlines() if not line.startswith('#')]
    + ['I/O error', 'EXT4-fs error', 'XFS .*(Corruption|corrupt)']))
# An emulated timer that came too late on a busy machine, before anything of ours runs.
UNLUCKY = 'IO-APIC + timer'


class Error(Exception):
    """The guest or its QEMU did not do what it must; the test has failed."""


def say(*words):
    print(time.strftime('%H:%M:%S'), *words, file=sys.stderr, flush=True)


def bad_lines(log):
    return [line for line in log.splitlines() if BAD_LINE.search(line)]


def overlay(base, path):
    """A new disk at path that begins as base, which is not written to. Returns path."""
    fmt = 'qcow2' if str(base).endswith('.qcow2') else 'raw'
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', fmt, '-b',
                    os.path.abspath(base), str(path)], check=True)
    return path


def blank(path, mib):
    """A new empty disk at path. Returns path."""
    pathlib.Path(path).unlink(missing_ok=True)
    with open(path, 'wb') as f:
        f.truncate(mib << 20)
    return path


class Guest:
    """A virtual machine.

    work    directory for sockets and logs
    disks   raw files, or qcow2 files named so; vda, vdb, ... in the guest
    boot    'bios', 'uefi', or the directory .boot that image.py makes, to boot without a loader
    share   directory that becomes /host in the guest after mount_share()
    ports   names: what the guest writes to /dev/virtio-ports/NAME goes to work/NAME.port
    """

    def __init__(self, work, disks, boot='bios', share=None, ports=(), memory=1024, cpus=2, extra=()):
        self.work = pathlib.Path(work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.disks, self.boot, self.share, self.ports = disks, boot, share, ports
        self.memory, self.cpus, self.extra = memory, cpus, list(extra)
        self.serial = self.work / 'serial.log'
        self.qemu = self.channel = None
        self.complaints = []
        self.rest, self.answers, self.last_id = b'', {}, 0

    # ---- life ------------------------------------------------------------------------------------

    def arguments(self):
        a = ['qemu-system-x86_64', '-machine', 'q35', '-accel', 'tcg,thread=multi,tb-size=512',
             '-cpu', 'max,la57=off', '-smp', self.cpus, '-m', self.memory, '-nodefaults', '-no-reboot',
             '-display', 'none', '-device', 'virtio-rng-pci',
             '-chardev', f'file,id=serial,path={self.serial}', '-serial', 'chardev:serial',
             '-device', 'virtio-serial-pci',
             '-chardev', f'socket,id=agent,path={self.work}/agent.sock,server=on,wait=off',
             '-device', 'virtserialport,chardev=agent,name=agent']
        for name in self.ports:
            a += ['-chardev', f'file,id={name},path={self.work}/{name}.port,append=on',
                  '-device', f'virtserialport,chardev={name},name={name}']
        for i, disk in enumerate(self.disks):
            fmt = 'qcow2' if str(disk).endswith('.qcow2') else 'raw'
            a += ['-drive', f'if=none,id=disk{i},file={disk},format={fmt},discard=unmap',
                  '-device', f'virtio-blk-pci,drive=disk{i},serial=disk{i}']
        if self.share:
            a += ['-virtfs', f'local,path={self.share},mount_tag=host,security_model=none']
        return [str(x) for x in a + self.boot_arguments() + self.extra]

    def boot_arguments(self):
        if self.boot == 'bios':
            return []
        if self.boot == 'uefi':
            shutil.copy(OVMF / 'OVMF_VARS_4M.fd', self.work / 'vars.fd')
            return ['-drive', f'if=pflash,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.fd',
                    '-drive', f'if=pflash,format=raw,file={self.work}/vars.fd']
        files = pathlib.Path(self.boot)
        return ['-kernel', files / 'vmlinuz', '-initrd', files / 'initrd',
                '-append', (files / 'cmdline').read_text()]

    def start(self, limit=BOOT_LIMIT):
        """Boot until the guest takes commands; what the emulation spoils is tried once more."""
        began = time.monotonic()
        for last in (False, True):
            try:
                self.launch()
                self.run('true', limit=limit)
                say(f'{self.work.name}: up after {time.monotonic() - began:.0f} s')
                return self
            except Error as e:
                self.kill()
                log = self.serial.read_text(errors='replace')
                bad = [line for line in bad_lines(log) if UNLUCKY not in line]
                if last or (bad and UNLUCKY not in log):
                    raise Error(f'{self.work.name} does not boot: {e}\n{log[-3000:]}') from e
                say(f'{self.work.name}: {e}; booted once more')

    def launch(self):
        sock = self.work / 'agent.sock'
        sock.unlink(missing_ok=True)
        self.serial.write_text('')
        with open(self.work / 'qemu.log', 'ab') as log:
            self.qemu = subprocess.Popen(self.arguments(), stdin=subprocess.DEVNULL, stderr=log)
        while True:
            self.channel = socket.socket(socket.AF_UNIX)
            try:
                self.channel.connect(str(sock))
                break
            except OSError:
                self.channel.close()
                self.still_there()
                time.sleep(.05)
        self.rest, self.answers = b'', {}

    def still_there(self):
        if self.qemu.poll() is not None:
            raise Error(f'QEMU ended with {self.qemu.returncode}: '
                        + (self.work / 'qemu.log').read_text(errors='replace')[-1000:])

    def kill(self):
        """A power cut; start() may follow."""
        if self.qemu:
            self.qemu.kill()
            self.qemu.wait()
            self.note_complaints(self.serial.read_text(errors='replace'))
        if self.channel:
            self.channel.close()
        self.qemu = self.channel = None

    def power_off(self, limit=BOOT_LIMIT):
        """An orderly end. What the kernel has said until now is looked at first."""
        self.note_complaints(self.run('dmesg').decode(errors='replace'))
        self.send('systemctl --no-block poweroff', limit, b'')
        try:
            self.qemu.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Error(f'{self.work.name} does not power off') from None
        self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    # ---- commands --------------------------------------------------------------------------------

    def send(self, command, limit, given):
        self.last_id += 1
        line = {'id': self.last_id, 'run': command, 'limit': limit,
                'input': base64.b64encode(given).decode()}
        self.channel.sendall(json.dumps(line).encode() + b'\n')
        return self.last_id

    def begin(self, command, limit=600, given=b''):
        """Run a command beside others; finish() has its end."""
        return self.send(command, limit, given), command, limit

    def ended(self, begun):
        """Has its answer come, while others were waited for?"""
        return begun[0] in self.answers

    def finish(self, begun, check=True):
        """The output of a command; with check=False its exit status and output."""
        number, command, limit = begun
        end = time.monotonic() + limit + 60
        while number not in self.answers:
            self.receive(end, command)
        status, output = self.answers.pop(number)
        if not check:
            return status, output
        if status:
            raise Error(f'exit {status} in the guest: {command}\n'
                        + output.decode(errors='replace')[-3000:])
        return output

    def run(self, command, limit=600, given=b'', check=True):
        return self.finish(self.begin(command, limit, given), check)

    def text(self, command, **how):
        return self.run(command, **how).decode(errors='replace').strip()

    def receive(self, end, command):
        readable = select.select([self.channel], [], [], max(0, end - time.monotonic()))[0]
        if not readable:
            raise Error(f'{self.work.name}: no end of: {command}')
        got = self.channel.recv(1 << 16)
        if not got:
            self.qemu.wait(30)
            self.still_there()
        *lines, self.rest = (self.rest + got).split(b'\n')
        for line in map(json.loads, lines):
            self.answers[line['id']] = line['status'], base64.b64decode(line['output'])

    def put(self, path, data, mode=0o644):
        self.run(f'umask 077; cat >{path} && chmod {mode:o} {path}', given=data)

    def get(self, path):
        return self.run(f'cat {path}')

    def mount_share(self):
        self.run('modprobe 9pnet_virtio && mkdir -p /host && mount -t 9p -o '
                 'trans=virtio,version=9p2000.L,msize=262144 host /host')

    def wait_boot(self):
        """Until systemd has done all it had to; returns what it says of itself."""
        status, output = self.run('systemctl is-system-running --wait', limit=BOOT_LIMIT, check=False)
        state = output.decode().strip()
        if status:
            raise Error(f'{self.work.name} is {state}:\n' + self.text('systemctl --failed --no-legend; '
                        'journalctl -b -p warning --no-pager | tail -n 40'))
        return state

    # ---- the kernel's word -------------------------------------------------------------------------

    def note_complaints(self, log):
        self.complaints += [line for line in bad_lines(log) if line not in self.complaints]

    def check_kernel(self):
        """The kernel must not have complained, now or before a kill()."""
        if self.qemu:
            self.note_complaints(self.run('dmesg').decode(errors='replace'))
            self.note_complaints(self.serial.read_text(errors='replace'))
        if self.complaints:
            raise Error(f'{self.work.name}: the kernel says\n' + '\n'.join(self.complaints))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[1])
    parser.add_argument('disks', nargs='+', metavar='DISK')
    parser.add_argument('--boot', choices=('bios', 'uefi', 'direct'), default='direct')
    parser.add_argument('--share', metavar='DIR', help='becomes /host')
    parser.add_argument('--run', action='append', default=[], metavar='COMMAND')
    parser.add_argument('--memory', type=int, default=1024, help='MiB')
    a = parser.parse_args()
    boot = f'{a.disks[0]}.boot' if a.boot == 'direct' else a.boot
    with tempfile.TemporaryDirectory(prefix='vm-') as work:
        disks = [overlay(d, f'{work}/{i}.qcow2') for i, d in enumerate(a.disks)]
        with Guest(f'{work}/guest', disks, boot, a.share, memory=a.memory) as guest:
            guest.start()
            if a.share:
                guest.mount_share()
            worst = 0
            for command in a.run or ['systemctl is-system-running --wait; uname -r']:
                status, output = guest.run(command, check=False)
                sys.stdout.buffer.write(output)
                sys.stdout.flush()
                worst = worst or status
            guest.check_kernel()
    return worst


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Error as error:
        sys.exit(f'vm.py: {error}')
