#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""image.py ROOT OUT.img [--fs ext4|xfs|lvm] [--size MiB]

Make a disk of the root tree ROOT (root.sh) that boots by BIOS and by UEFI. It has a GPT:

    1  biosboot   GRUB's core image
    2  esp        FAT with GRUB as the removable medium's loader
    3  root       ext4, xfs, or an LVM volume group "guest" with the ext4 volume "root" and free space
    4  swap

OUT.img.boot/ gets vmlinuz, initrd and cmdline, to boot it without a boot loader.

Nothing here needs device-mapper or the kernel's partition tables: every part is written at its offset
in the file. xfs needs a loop device and a mount (there is no mkfs.xfs -d), LVM a loop device, because
its tools take no files.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

MIB = 1 << 20
SECTOR = 512
BIOS, ESP, ROOT = 1 * MIB, 2 * MIB, 18 * MIB    # where partitions begin
SWAP_SIZE, TAIL, VG_FREE = 64 * MIB, MIB, 256 * MIB
ROOT_UUID = '5a17f1e5-0000-4000-8000-00000000000f'
SWAP_UUID = '5a17f1e5-0000-4000-8000-000000000005'
ESP_ID = '5A17F1E5'
PARAMETERS = ('ro console=ttyS0,115200 loglevel=5 net.ifnames=0 no_timer_check mitigations=off '
              'audit=0 apparmor=0 panic=-1 rcupdate.rcu_cpu_stall_timeout=300')
GRUB = pathlib.Path('/usr/lib/grub')
GRUB_MODULES = ('part_gpt ext2 xfs lvm fat search search_fs_uuid normal configfile linux serial '
                'terminal echo test boot').split()


def run(*command, text=None, env=None):
    """Its output; what it says on standard error is told when it fails only."""
    done = subprocess.run([str(c) for c in command], input=text, text=True, env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f'{command[0]}: exit {done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout


def write_at(path, offset, data):
    with open(path, 'r+b') as f:
        f.seek(offset)
        f.write(data)


@contextlib.contextmanager
def loop(path, offset, size):
    dev = run('losetup', '--find', '--show', '--offset', offset, '--sizelimit', size, path).strip()
    try:
        yield dev
    finally:
        run('losetup', '--detach', dev)


@contextlib.contextmanager
def mounted(dev):
    with tempfile.TemporaryDirectory() as where:
        run('mount', dev, where)
        try:
            yield where
        finally:
            run('umount', where)


class Image:
    def __init__(self, root, out, fs, size):
        self.root, self.out, self.fs, self.size = pathlib.Path(root), pathlib.Path(out), fs, size
        self.root_size = size - ROOT - SWAP_SIZE - TAIL
        self.swap = ROOT + self.root_size
        self.source = '/dev/mapper/guest-root' if fs == 'lvm' else f'UUID={ROOT_UUID}'
        self.release = max(p.name[8:] for p in (self.root / 'boot').glob('vmlinuz-*'))
        self.cmdline = f'root={self.source} {PARAMETERS}'

    def make(self):
        self.write_config()
        self.out.unlink(missing_ok=True)
        with open(self.out, 'wb') as f:
            f.truncate(self.size)
        self.partition()
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            self.make_bios(scratch)
            self.make_esp(scratch)
            self.make_swap(scratch)
        {'ext4': self.make_ext4, 'xfs': self.make_xfs, 'lvm': self.make_lvm}[self.fs]()
        self.write_boot_files()

    def write_config(self):
        """What in the tree depends on the disk."""
        fstype = 'xfs defaults' if self.fs == 'xfs' else 'ext4 errors=remount-ro'
        (self.root / 'etc/fstab').write_text(
            f'{self.source} / {fstype} 0 {0 if self.fs == "xfs" else 1}\n'
            f'UUID={SWAP_UUID} none swap sw 0 0\n'
            f'UUID={ESP_ID[:4]}-{ESP_ID[4:]} /boot/efi vfat umask=0077 0 2\n')
        grub = self.root / 'boot/grub'
        grub.mkdir(exist_ok=True)
        (grub / 'grub.cfg').write_text(
            'serial --unit=0 --speed=115200\n'
            'terminal_input serial\nterminal_output serial\n'
            'set timeout=0\n'
            'menuentry Debian {\n'
            f'\tlinux /boot/vmlinuz-{self.release} {self.cmdline}\n'
            f'\tinitrd /boot/initrd.img-{self.release}\n'
            '}\n')

    def partition(self):
        linux, lvm = '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709', 'E6D6D379-F507-44C2-A23C-238F2A3DF928'
        rows = [(BIOS, ESP, '21686148-6449-6E6F-744E-656564454649', 'biosboot'),
                (ESP, ROOT, 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B', 'esp'),
                (ROOT, self.swap, lvm if self.fs == 'lvm' else linux, 'root'),
                (self.swap, self.swap + SWAP_SIZE, '0657FD6D-A4AB-43C4-84E5-0933C84B4F4F', 'swap')]
        table = 'label: gpt\nunit: sectors\n' + ''.join(
            f'start={a // SECTOR}, size={(b - a) // SECTOR}, type={t}, name={n}\n'
            for a, b, t, n in rows)
        run('sfdisk', '-q', self.out, text=table)

    def grub_image(self, target, scratch, modules):
        """GRUB that looks for our root file system, and the configuration there."""
        early, image = scratch / 'early.cfg', scratch / target
        early.write_text(f'search.fs_uuid {ROOT_UUID} root\n'
                         'set prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n')
        run('grub-mkimage', '-O', target, '-d', GRUB / target, '-c', early, '-p', '/boot/grub',
            '-o', image, *modules)
        return image

    def make_bios(self, scratch):
        """What grub-install does on a GPT, without a device to ask: the first sector names the core
        image's first sector, which names the rest by one run of sectors."""
        core = bytearray(self.grub_image('i386-pc', scratch, GRUB_MODULES + ['biosdisk']).read_bytes())
        core += bytes(-len(core) % SECTOR)
        if len(core) > ESP - BIOS:
            raise SystemExit(f'GRUB takes {len(core)} bytes and has {ESP - BIOS}')
        first = BIOS // SECTOR
        struct.pack_into('<QHH', core, SECTOR - 12, first + 1, len(core) // SECTOR - 1, 0x820)
        boot = bytearray((GRUB / 'i386-pc/boot.img').read_bytes())
        struct.pack_into('<Q', boot, 0x5c, first)
        boot[0x66:0x68] = b'\x90\x90'       # do not take the drive's number from a floppy
        write_at(self.out, 0, bytes(boot[:440]))
        write_at(self.out, BIOS, bytes(core))

    def make_esp(self, scratch):
        loader = self.grub_image('x86_64-efi', scratch, GRUB_MODULES + ['efi_gop', 'all_video'])
        run('mkfs.vfat', '-F', '16', '-i', ESP_ID, '-n', 'ESP', '--offset', ESP // SECTOR, self.out,
            (ROOT - ESP) // 1024)
        esp = f'{self.out}@@{ESP}'
        run('mmd', '-i', esp, '::EFI', '::EFI/BOOT')
        run('mcopy', '-i', esp, loader, '::EFI/BOOT/BOOTX64.EFI')

    def make_swap(self, scratch):
        space = scratch / 'swap'
        with open(space, 'wb') as f:
            f.truncate(SWAP_SIZE)
        run('mkswap', '-U', SWAP_UUID, space)
        with open(space, 'rb') as f:
            write_at(self.out, self.swap, f.read(4096))

    def fill_ext4(self, offset, size):
        # GRUB 2.06 knows no checksum seed
        run('mkfs.ext4', '-q', '-F', '-U', ROOT_UUID, '-L', 'root', '-d', self.root, '-J', 'size=32',
            '-O', '^metadata_csum_seed', '-E', f'offset={offset},lazy_itable_init=0,nodiscard',
            self.out, f'{size // 1024}k')

    def make_ext4(self):
        self.fill_ext4(ROOT, self.root_size)

    def make_xfs(self):
        with loop(self.out, ROOT, self.root_size) as dev:
            run('mkfs.xfs', '-q', '-K', '-m', f'uuid={ROOT_UUID}', '-L', 'root', dev)
            with mounted(dev) as where:
                run('cp', '-a', f'{self.root}/.', where)

    def make_lvm(self):
        with loop(self.out, ROOT, self.root_size) as dev, tempfile.TemporaryDirectory() as system:
            lvm = Lvm(dev, system)
            lvm.run('pvcreate', '-ff', '-y', dev)
            lvm.run('vgcreate', 'guest', dev)
            lvm.run('lvcreate', '-n', 'root', '-L', f'{(self.root_size - VG_FREE) // MIB}m',
                    '-an', '-Zn', '-Wn', '-y', 'guest')
            offset, size = lvm.place('guest/root')
        self.fill_ext4(ROOT + offset, size)

    def write_boot_files(self):
        where = pathlib.Path(f'{self.out}.boot')
        where.mkdir(exist_ok=True)
        shutil.copy(self.root / f'boot/vmlinuz-{self.release}', where / 'vmlinuz')
        shutil.copy(self.root / f'boot/initrd.img-{self.release}', where / 'initrd')
        (where / 'cmdline').write_text(self.cmdline)


class Lvm:
    """LVM's tools on one device and with no configuration of this machine; no volume is active, so
    they need no device-mapper."""
    CONFIG = ('devices {{ dir="/dev" use_devicesfile=0 filter=["a|^{dev}$|","r|.*|"] }} '
              'backup {{ backup=0 archive=0 }} activation {{ udev_sync=0 udev_rules=0 monitoring=0 }}')

    def __init__(self, dev, system):
        self.config = self.CONFIG.format(dev=dev)
        self.env = dict(os.environ, LVM_SYSTEM_DIR=system, LVM_SUPPRESS_FD_WARNINGS='1')

    def run(self, command, *arguments):
        return run('lvm', command, '--config', self.config, '--driverloaded', 'n', *arguments,
                   env=self.env)

    def place(self, volume):
        """(offset, size) of a volume of one segment, on the device."""
        report = json.loads(self.run('lvs', '--segments', '--units', 'b', '--nosuffix', '--reportformat',
                                     'json', '-o', 'seg_size,seg_pe_ranges,vg_extent_size', volume))
        seg, = report['report'][0]['seg']
        first = int(seg['seg_pe_ranges'].rsplit(':', 1)[1].split('-')[0])
        report = json.loads(self.run('pvs', '--units', 'b', '--nosuffix', '--reportformat', 'json',
                                     '-o', 'pe_start'))
        start = int(report['report'][0]['pv'][0]['pe_start'])
        return start + first * int(seg['vg_extent_size']), int(seg['seg_size'])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[1])
    parser.add_argument('root')
    parser.add_argument('out')
    parser.add_argument('--fs', choices=('ext4', 'xfs', 'lvm'), default='ext4')
    parser.add_argument('--size', type=int, default=1536, help='MiB')
    a = parser.parse_args()
    Image(a.root, a.out, a.fs, a.size * MIB).make()


if __name__ == '__main__':
    main()
