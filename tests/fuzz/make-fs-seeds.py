#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""make-fs-seeds.py CORPUS - the first inputs of fuzz-usedext and fuzz-usedxfs (patches.h): of small file systems only
the sectors that speak of free space. Root: an xfs gets its pieces of free space by being mounted and written to."""
import os
import re
import struct
import subprocess
import sys
import tempfile

SECTOR = 512
corpus = sys.argv[1]
work = tempfile.TemporaryDirectory()
disk = work.name + "/disk"
mnt = work.name + "/mnt"
os.mkdir(mnt)


def run(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def save(name, how, size, blocks):
    """BLOCKS: (offset, length) on the disk. Zeros at the end of each are left out."""
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
    assert len(out) < 100000, (name, len(out))


def wear():
    """Files of all sizes on the mounted disk, every other one deleted."""
    for i in range(900):
        with open(f"{mnt}/{i}", "wb") as f:
            f.write(b"x" * (i * 7 % 3000 + 1))
    os.sync()
    for i in range(0, 900, 2):
        os.remove(f"{mnt}/{i}")


def make(size, mkfs, worn):
    if os.path.exists(disk):
        os.remove(disk)
    with open(disk, "wb") as f:
        f.truncate(size)
    run(*mkfs, disk)
    if worn:
        run("mount", "-o", "loop", disk, mnt)
        try:
            wear()
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
    make(size, ["mkfs.ext4", "-q", "-F", "-N", "1024", *options], True)
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
    make(size, ["mkfs.xfs", "-q", "-f", "-b", f"size={block}", "-d", "agcount=2", *options], name != "v4")
    save(f"usedxfs/{name}", 0, size, xfs_blocks(size, block))
    save(f"usedxfs/{name}-mended", 3, size + (1 << 20), xfs_blocks(size, block))
