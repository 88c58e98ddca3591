#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The second reader: restores ambrotype images, written from docs/FORMAT.md alone.

  reader.py IMAGE OUT                 restore the disk to a sparse file
  reader.py --partition N IMAGE OUT   restore one partition
  reader.py --show IMAGE              print the manifest
  reader.py --walk IMAGE              check every frame in the file's order, as section 1 draws it

Every hash, length and offset on the way is checked; the first wrong one ends it: one line, exit 1.
Needs Python 3 and libzstd, or else the zstd command. "§" points into the document.
"""
import argparse, collections, ctypes, ctypes.util, hashlib, json, mmap, os, struct, subprocess, sys

HEADER, CHUNK, RUN, PAGE, INDEX, MANIFEST, TRAILER = range(1, 8)
NAMES = 'HEADER CHUNK RUN PAGE INDEX MANIFEST TRAILER'.split()
FREE, ZERO, DATA, BAD = range(4)
RESENT, SPARSE = 1, 2
FANOUT = 4096
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
GUARD = bytes.fromhex('28b52ffd23414d425200010000')
Location = collections.namedtuple('Location', 'id offset frame_len plain_len')


class Damage(Exception):
    pass


def need(condition, words):
    if not condition:
        raise Damage(words)


def sha256(data):
    return hashlib.sha256(data).digest()


def chunk_id(data):
    """§2: of a chunk or a page."""
    leaves = b''.join(sha256(data[i:i + 8192]) for i in range(0, len(data), 8192))
    return sha256(b'AMBRTREE' + struct.pack('<Q', len(data)) + leaves)


class Zstd:
    """One frame at a time. Every frame of an image states its content size (§3 CHUNK)."""

    def __init__(self):
        name = ctypes.util.find_library('zstd')
        self.lib = ctypes.CDLL(name) if name else None
        if self.lib:
            self.lib.ZSTD_decompress.restype = ctypes.c_size_t
            self.lib.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t,
                                                 ctypes.c_char_p, ctypes.c_size_t]

    def decode(self, frame, plain_len):
        """The plain bytes, or None."""
        if self.lib:
            plain = bytearray(plain_len)
            room = (ctypes.c_char * plain_len).from_buffer(plain)
            n = self.lib.ZSTD_decompress(room, plain_len, frame, len(frame))
            return plain if n == plain_len else None
        done = subprocess.run(['zstd', '-dcq'], input=frame, capture_output=True)
        return done.stdout if done.returncode == 0 and len(done.stdout) == plain_len else None


class Image:
    def __init__(self, path):
        with open(path, 'rb') as f:
            self.size = os.fstat(f.fileno()).st_size
            need(self.size > 0, 'empty file')
            self.map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        self.zstd = Zstd()
        self.read_seek_table()
        self.read_header()
        self.read_trailer()
        self.read_index()
        self.read_manifest()

    def bytes_at(self, offset, length, what):
        need(0 <= offset <= self.size and 0 <= length <= self.size - offset,
             f'{what}: bytes {offset}+{length} are not in the file of {self.size}')
        return self.map[offset:offset + length]

    def record(self, kind, offset, frame_len=None):
        """The body of a record (§3), its check verified."""
        what = NAMES[kind - 1]
        head = self.bytes_at(offset, 40, what)
        magic, length, ours, found, version, _, body_len = struct.unpack('<II4sBBHQ', head[:24])
        need(magic == 0x184D2A5A and ours == b'AMBR' and found == kind and version == 1,
             f'{what}: no such record at byte {offset}')
        need(length == 32 + body_len and frame_len in (None, 8 + length), f'{what}: wrong length')
        body = self.bytes_at(offset + 40, body_len, what)
        need(head[24:40] == sha256(head[8:24] + bytes(16) + body)[:16], f'{what}: wrong check')
        return body

    # ---- §5, step 1 and 2 --------------------------------------------------------------------

    def read_seek_table(self):
        count, descriptor, magic = struct.unpack('<IBI', self.bytes_at(self.size - 9, 9, 'footer'))
        need(magic == 0x8F92EAB1 and descriptor == 0, 'no seek table: the image is not complete')
        self.seek_offset = self.size - (8 + 8 * count + 9)
        table = self.bytes_at(self.seek_offset, 8 + 8 * count, 'seek table')
        magic, length = struct.unpack_from('<II', table)
        need(magic == 0x184D2A5E and length == 8 * count + 9, 'seek table: wrong frame')
        self.frames = list(struct.iter_unpack('<II', table[8:]))

    def read_header(self):
        body = self.record(HEADER, 0, 112)
        (magic, version, self.shift, self.features, _, self.id, self.disk_size, self.sector,
         self.region_count, self.created) = struct.unpack('<8sIIQQ16sQIIQ', body)
        need(magic == b'AMBROTYP', 'HEADER: wrong magic')
        need(version == 1, f'HEADER: version {version} is not known')
        need(16 <= self.shift <= 22, f'HEADER: chunk_shift {self.shift}')
        need(not self.features & ~(RESENT | SPARSE), f'features {self.features:#x} are not known')
        if self.features:
            need(self.bytes_at(112, len(GUARD), 'guard') == GUARD, 'the guard is missing')

    def read_trailer(self):
        body = self.record(TRAILER, self.seek_offset - 160, 160)
        (image_id, self.manifest_at, self.manifest_len, self.index_at, self.index_len, frames,
         self.manifest_sha, self.index_sha) = struct.unpack('<16sQQQQQ32s32s', body)
        need(image_id == self.id, 'TRAILER: of another image')
        need(frames == len(self.frames), 'TRAILER: wrong number of frames')

    def read_index(self):
        body = self.record(INDEX, self.index_at, self.index_len)
        need(sha256(body) == self.index_sha, 'INDEX: not the one of the TRAILER')
        chunks, pages = struct.unpack_from('<QQ', body)
        need(len(body) == 16 + 48 * (chunks + pages), 'INDEX: wrong length')
        found = [Location(*x) for x in struct.iter_unpack('<32sQII', body[16:])]
        for group in found[:chunks], found[chunks:]:
            need(all(a.offset < b.offset for a, b in zip(group, group[1:])), 'INDEX: not in order')
        self.chunks = {x.id: x for x in found[:chunks]}
        self.pages = {x.id: x for x in found[chunks:]}

    def read_manifest(self):
        body = self.record(MANIFEST, self.manifest_at, self.manifest_len)
        need(sha256(body) == self.manifest_sha, 'MANIFEST: not the one of the TRAILER')
        self.manifest = m = json.loads(body)
        need(m['format'] == 1 and m['chunk_hash'] == 'sha256-tree8k', 'MANIFEST: unknown format')
        need(m['image_id'] == self.id.hex() and m['chunk_size'] == 1 << self.shift and
             m['disk']['size'] == self.disk_size and m['created_ns'] == self.created,
             'MANIFEST: does not agree with HEADER')
        self.read_regions()
        need(len(self.regions) == self.region_count, 'MANIFEST: the regions are not the disk')

    def read_regions(self):
        """§2: their order, their trees' depths."""
        self.regions, end = self.manifest['regions'], 0
        for r in self.regions:
            need(r['start'] == end and r['length'] > 0, 'MANIFEST: regions overlap or leave a gap')
            end += r['length']
            chunks, depth = self.chunks_of(r), 1
            while FANOUT ** depth < chunks:
                depth += 1
            need(r['depth'] == depth, 'MANIFEST: wrong depth')
        need(end == self.disk_size, 'MANIFEST: the regions are not the disk')

    # ---- §5, step 3 --------------------------------------------------------------------------

    def chunks_of(self, region):
        return -(-region['length'] // (1 << self.shift))

    def chunk_len(self, region, index):
        return min(1 << self.shift, region['length'] - (index << self.shift))

    def chunk(self, its_id, plain_len):
        at = self.chunks.get(its_id)
        need(at, f'chunk {its_id.hex()} is nowhere')
        need(at.plain_len == plain_len, f'chunk {its_id.hex()}: wrong length')
        return self.chunk_of(self.bytes_at(at.offset, at.frame_len, 'chunk'), its_id, plain_len)

    def chunk_of(self, frame, its_id, plain_len):
        # one zstd frame that states its size and has a checksum (RFC 8878, 3.1.1.1.1)
        need(frame[:4] == ZSTD_MAGIC and frame[4] & 0x04 and frame[4] & 0xe0 and not frame[4] & 3,
             f'chunk {its_id.hex()}: not such a frame')
        plain = self.zstd.decode(frame, plain_len)
        need(plain is not None and chunk_id(plain) == its_id, f'chunk {its_id.hex()} is damaged')
        return plain

    def page_body(self, page_id):
        at = self.pages.get(page_id)
        need(at, f'page {page_id.hex()} is nowhere')
        body = self.record(PAGE, at.offset, at.frame_len)
        need(len(body) == at.plain_len, 'PAGE: wrong length')
        return body

    def page(self, page_id, level, count):
        """The entries of a page: (state, id or None)."""
        body = self.page_body(page_id)
        need(chunk_id(body) == page_id, 'PAGE: damaged')
        found_level, found_count = struct.unpack('<B3xI', body[:8])
        need(found_level == level and found_count == count, 'PAGE: not the one of this place')
        states, ids = body[8:8 + count], body[8 + count:]
        need(len(ids) == 32 * states.count(DATA), 'PAGE: wrong length')
        need(max(states) <= (BAD if level == 0 else DATA), 'PAGE: unknown state')
        at = 0
        for state in states:
            yield state, ids[at:at + 32] if state == DATA else None
            at += 32 if state == DATA else 0

    def walk(self, region):
        """All (chunk number, id) of the data chunks of a region."""
        total = self.chunks_of(region)

        def descend(page_id, level, number):
            entries = -(-total // FANOUT ** level)
            first = number * FANOUT
            page = self.page(page_id, level, min(FANOUT, entries - first))
            for i, (state, child) in enumerate(page, first):
                if state == DATA and level == 0:
                    yield i, child
                elif state == DATA:
                    yield from descend(child, level - 1, i)

        yield from descend(bytes.fromhex(region['root']), region['depth'] - 1, 0)

    def restore(self, out, partition=None):
        regions = self.regions
        if partition is not None:
            regions = [r for r in regions if r.get('partition') == partition]
            need(regions, f'no partition {partition} in the image')
        base = regions[0]['start']
        os.ftruncate(out, 0)
        os.ftruncate(out, sum(r['length'] for r in regions))
        for r in regions:
            for index, its_id in self.walk(r):
                plain = self.chunk(its_id, self.chunk_len(r, index))
                os.pwrite(out, plain, r['start'] - base + (index << self.shift))

    # ---- the whole file in its own order (§1); no restore needs this ---------------------------

    def check_order(self):
        stored, plain = (sum(x) for x in zip(*self.frames))
        need(stored == self.seek_offset, 'seek table: sizes do not add up')
        need(self.features or plain == self.disk_size, 'seek table: not the disk\'s size')
        at, disk_at, expect, last = 0, 0, 0, {}
        for stored, plain in self.frames:
            magic, = struct.unpack('<I', self.bytes_at(at, 4, 'frame'))
            if magic == 0x184D2A5A:
                need(plain == 0 and expect == 0, 'a record where a zstd frame should be')
                kind = self.bytes_at(at, 40, 'record')[12]
                need(HEADER <= kind <= TRAILER, f'record type {kind} is not known')
                body = self.record(kind, at, stored)
                expect, disk_at = self.check_record(kind, body, at, stored, disk_at, last)
            elif self.features and at == 112:
                need(stored == len(GUARD) and plain == 0, 'guard')
            else:
                need(self.map[at:at + 4] == ZSTD_MAGIC and 0 < plain <= expect, 'an unexpected frame')
                if last['kind'] == RUN:
                    zeros = self.zstd.decode(self.map[at:at + stored], plain)
                    need(zeros and zeros.count(0) == plain, 'a RUN that is not zeros')
                expect -= plain
            at += stored
        need(expect == 0 and last['kind'] == TRAILER, 'the last record is not the TRAILER')
        need(self.features or disk_at == self.disk_size, 'the frames are not the disk')

    def check_record(self, kind, body, at, stored, disk_at, last):
        """Plain bytes that the zstd frames after this record must have; the place reached on the disk."""
        order = [HEADER, CHUNK, PAGE, INDEX, MANIFEST, TRAILER]
        rank = order.index(CHUNK if kind == RUN else kind)
        need(rank >= last.get('rank', 0), f'{NAMES[kind - 1]} is not in its place')
        last.update(rank=rank, kind=kind)
        if kind == CHUNK:
            region, plain, index, frame_len, _, its_id = struct.unpack('<IIQII32s', body)
            frame = self.bytes_at(at + stored, frame_len, 'CHUNK')
            need(chunk_id(self.zstd.decode(frame, plain) or b'') == its_id, 'CHUNK: wrong id')
        elif kind == RUN:
            region, state, index, count, plain, _ = struct.unpack('<IB3xQQQQ', body)
            need(state in (FREE, ZERO, BAD) and count > 0, 'RUN: wrong state or count')
        else:
            return 0, disk_at
        need(region < len(self.regions), 'a chunk of no region')
        start = self.regions[region]['start'] + (index << self.shift)
        need(self.features & RESENT or start == disk_at, 'the chunks are not in disk order')
        return (0 if kind == RUN and self.features & SPARSE else plain), start + plain


def main():
    p = argparse.ArgumentParser(description='restore an ambrotype image')
    p.add_argument('--show', action='store_true', help='print the manifest')
    p.add_argument('--walk', action='store_true', help='check every frame in the order of the file')
    p.add_argument('--partition', type=int, metavar='N', help='restore this partition only')
    p.add_argument('image')
    p.add_argument('out', nargs='?')
    a = p.parse_args()
    try:
        image = Image(a.image)
        if a.show:
            print(json.dumps(image.manifest, indent=2, ensure_ascii=False))
        elif a.walk:
            image.check_order()
        elif a.out:
            out = os.open(a.out, os.O_RDWR | os.O_CREAT, 0o600)
            image.restore(out, a.partition)
            os.close(out)
        else:
            p.error('OUT is missing')
    except (Damage, OSError) as e:
        sys.exit(f'reader.py: {a.image}: {e}')
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as e:
        sys.exit(f'reader.py: {a.image}: damaged: {e!r}')


if __name__ == '__main__':
    main()
