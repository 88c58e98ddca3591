#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""make-fs-seeds.py CORPUS [TARGET] - the first inputs of fuzz-usedext, fuzz-usedxfs and fuzz-owners (patches.h): of small
file systems only the sectors that speak of free space, or of files. Root: they are mounted and written to."""
import os
import re
import struct
import subprocess
import sys
import tempfile

SECTOR = 512
corpus = sys.argv[1]
target = sys.argv[2] if len(sys.argv) > 2 else ""
work = tempfile.TemporaryDirectory()
disk = work.name + "/disk"
mnt = work.name + "/mnt"
os.mkdir(mnt)


def run(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def save(name, how, size, blocks):
    """BLOCKS: (offset, length) on the disk. Zeros at the end of each are left out."""
    if not name.startswith(target):
        return
    out = struct.pack("<BI", how, size // SECTOR)
    with open(disk, "rb") as f:
        for at, length in sorted(set(blocks)):
            f.seek(at)
            data = f.read(length).rstrip(b"\0")
            if data:
                out += struct.pack("<IH", at // SECTOR, len(data)) + data
    os.makedirs(os.path.dirname(f"{corpus}/{name}"), exist_ok=True)
    with open(f"{corpus}/{name}", "wb") as f:
        f.write(out)
    assert len(out) < 200000, (name, len(out))


def wear():
    """Files of all sizes on the mounted disk, every other one deleted."""
    for i in range(900):
        with open(f"{mnt}/{i}", "wb") as f:
            f.write(b"x" * (i * 7 % 3000 + 1))
    os.sync()
    for i in range(0, 900, 2):
        os.remove(f"{mnt}/{i}")


def furnish():
    """A little of everything that can own a block, all of it zeros."""
    os.makedirs(f"{mnt}/a/b/c")
    for i in range(40):
        open(f"{mnt}/a/b/{i:03}-with-a-rather-long-name", "wb").close()
    with open(f"{mnt}/a/in-pieces", "wb") as f:
        for i in range(0, 200, 2):
            f.seek(i * 4096)
            f.write(bytes(4096))
    for name in ("small", "large"):
        with open(f"{mnt}/{name}", "wb") as f:
            f.write(bytes(100 if name == "small" else 300000))
    os.link(f"{mnt}/small", f"{mnt}/a/b/c/small-too")
    os.symlink("small", f"{mnt}/short")
    os.symlink("x" * 900, f"{mnt}/long")
    os.setxattr(f"{mnt}/small", "user.a", b"y" * 700)


def furnish_subvolumes():
    """One in a directory of another, and a snapshot of it in which something is otherwise."""
    run("btrfs", "subvolume", "create", f"{mnt}/one")
    os.mkdir(f"{mnt}/one/directory")
    run("btrfs", "subvolume", "create", f"{mnt}/one/directory/two")
    for name in ("directory/file", "directory/two/file"):
        with open(f"{mnt}/one/{name}", "wb") as f:
            f.write(bytes(9000))
    run("btrfs", "subvolume", "snapshot", f"{mnt}/one", f"{mnt}/snapshot")
    with open(f"{mnt}/snapshot/directory/file", "r+b") as f:
        f.write(bytes(4096))


def make(size, mkfs, worn):
    if os.path.exists(disk):
        os.remove(disk)
    with open(disk, "wb") as f:
        f.truncate(size)
    run(*mkfs, disk)
    if worn:
        run("mount", "-o", "loop", disk, mnt)
        try:
            worn()
        finally:
            run("umount", mnt)


def ext_blocks():
    text = run("dumpe2fs", disk)
    size = int(re.search(r"Block size: *(\d+)", text)[1])
    per_group = re.search(r"Clusters per group: *(\d+)", text) or re.search(r"Blocks per group: *(\d+)", text)
    bitmap = int(per_group[1]) // 8
    blocks = [(1024, 1024)]
    for m in re.finditer(r"(?:Primary|Backup) superblock at \d+, Group descriptors at (\d+)-(\d+)", text):
        blocks += [(b * size, size) for b in range(int(m[1]), int(m[2]) + 1)]
        break
    for m in re.finditer(r"Group descriptor at (\d+)|Block bitmap at (\d+)", text):
        blocks.append((int(m[1] or m[2]) * size, size if m[1] else bitmap))
    return blocks


EXT = {
    "ext4": (64, ["-b", "4096", "-g", "2048"]),
    "ext4-1k": (16, ["-b", "1024"]),
    "bigalloc": (64, ["-b", "1024", "-O", "bigalloc", "-C", "4096"]),
    "meta-bg": (40, ["-b", "1024", "-g", "1024", "-O", "meta_bg,^resize_inode"]),
    "sparse2": (24, ["-b", "1024", "-g", "2048", "-O", "sparse_super2,^resize_inode", "-E", "num_backup_sb=2"]),
    "gdt-csum": (24, ["-b", "1024", "-O", "uninit_bg,^metadata_csum,^64bit"]),
    "ext2": (12, ["-b", "1024", "-O", "none"]),
    "mmp": (24, ["-b", "1024", "-O", "mmp,orphan_file"]),
}
for name, (mib, options) in EXT.items():
    size = mib << 20
    make(size, ["mkfs.ext4", "-q", "-F", "-N", "1024", *options], wear)
    # room behind its end
    save(f"usedext/{name}", 0, size + (1 << 20), ext_blocks())
    save(f"usedext/{name}-mended", 3, size, ext_blocks())
    save(f"usedext/{name}-live", 7, size, ext_blocks())


def xfs_blocks(size, block):
    blocks = [(0, SECTOR)]
    with open(disk, "rb") as f:
        for at in range(0, size, SECTOR):
            magic = f.read(SECTOR)[:4]
            if magic == b"XAGF":
                blocks.append((at, SECTOR))
            elif magic in (b"AB3B", b"ABTB"):
                blocks.append((at, block))
    return blocks


XFS = {
    "v5": (4096, []),
    "v5-1k": (1024, ["-m", "reflink=0"]),
    "v4": (512, ["-m", "crc=0"]),
}
for name, (block, options) in XFS.items():
    size = 300 << 20
    # kernels of today are built without version 4
    make(size, ["mkfs.xfs", "-q", "-f", "-b", f"size={block}", "-d", "agcount=2", *options], None if name == "v4" else wear)
    save(f"usedxfs/{name}", 0, size, xfs_blocks(size, block))
    save(f"usedxfs/{name}-mended", 3, size + (1 << 20), xfs_blocks(size, block))


def written(size, leave_out):
    """What is not zero, by pieces of 4 KiB, but for the range of a log."""
    blocks = []
    with open(disk, "rb") as f:
        at = 0
        while True:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA) // 4096 * 4096
            except OSError:
                return blocks
            f.seek(at)
            if any(f.read(4096)) and not leave_out[0] <= at < leave_out[1]:
                blocks.append((at, 4096))
            at += 4096


def xfs_log():
    with open(disk, "rb") as f:
        s = f.read(SECTOR)
    block, = struct.unpack_from(">I", s, 4)
    start, = struct.unpack_from(">Q", s, 48)
    blocks, = struct.unpack_from(">I", s, 96)
    per_ag, ag_log = struct.unpack_from(">I", s, 84)[0], s[124]
    at = ((start >> ag_log) * per_ag + (start & (1 << ag_log) - 1)) * block
    return at, at + blocks * block


def btrfs_blocks(blocks):
    """Of these, the tree blocks (of 4 KiB) of the trees of roots, of chunks and of files, and the super block."""
    kept = []
    with open(disk, "rb") as f:
        f.seek(65536 + 32)
        fsid = f.read(16)
        for at, length in blocks:
            f.seek(at + 32)
            head = f.read(64)
            owner, = struct.unpack_from("<Q", head, 56)
            if at == 65536 or (head[:16] == fsid and (owner in (1, 3, 5) or 256 <= owner < 1 << 48)):
                kept.append((at, length))
    return kept


FULL = {
    "ext4": (0, 8, ["mkfs.ext4", "-q", "-F", "-b", "1024", "-N", "128", "-O", "^has_journal"]),
    "ext4-inline": (0, 8, ["mkfs.ext4", "-q", "-F", "-b", "1024", "-N", "128", "-O", "inline_data,ea_inode,^has_journal"]),
    # what is changed in it is looked at
    "ext4-unchecked": (0, 8, ["mkfs.ext4", "-q", "-F", "-b", "1024", "-N", "128", "-O",
                              "inline_data,ea_inode,^has_journal,^metadata_csum,^uninit_bg"]),
    "ext2": (3, 8, ["mkfs.ext2", "-q", "-F", "-b", "1024", "-N", "128"]),
    "xfs": (1, 300, ["mkfs.xfs", "-q", "-f", "-d", "agcount=2"]),
    "xfs-1k": (1, 300, ["mkfs.xfs", "-q", "-f", "-b", "size=1024", "-d", "agcount=2"]),
    "btrfs": (2, 128, ["mkfs.btrfs", "-q", "-f", "-n", "4096", "-m", "single"]),
    # with check values that are not looked at
    "btrfs-subvolumes": (2, 128, ["mkfs.btrfs", "-q", "-f", "-n", "4096", "-m", "single", "--csum", "xxhash"]),
}
for name, (kind, mib, mkfs) in FULL.items():
    make(mib << 20, mkfs, furnish_subvolumes if name == "btrfs-subvolumes" else furnish)
    blocks = written(mib << 20, xfs_log() if kind == 1 else (0, 0))
    if kind == 2:
        blocks = btrfs_blocks(blocks)
    save(f"owners/{name}", kind, mib << 20, blocks)
    save(f"owners/{name}-mended", kind | 12, mib << 20, blocks)
