#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
replay-log.py LOG IMAGE BLOCKS FROM TO - which states of a disk does an image show?

LOG is the log of device-mapper's target log-writes, from the time when the disk was blank; the marks FROM and TO
are in it. All entries are replayed one by one; behind each one from FROM to TO the disk is compared with IMAGE, in
those blocks that are listed in BLOCKS ("first-last" or "first" each, of 4096 bytes). Prints one JSON object:

    states      how many were compared
    equal       which of them the image shows: their places in the log
    differs     blocks that differ, at FROM, at each mark between, and at TO
    marks       their places in the log
    held        how many blocks were compared
    wrong       the first of those that differ at TO
"""
import json
import struct
import sys

MAGIC, VERSION = 0x6a736677736872, 1
DISCARD, MARK = 4, 8
SECTOR, BLOCK = 512, 4096


def entries(log):
    """(flags, first byte, length, data) of each."""
    magic, version, count, size = struct.unpack('<QQQI', log.read(28))
    if magic != MAGIC or version != VERSION:
        sys.exit('replay-log: this is no log of log-writes')
    at = size
    for _ in range(count):
        log.seek(at)
        head = log.read(size)
        sector, sectors, flags, inline = struct.unpack('<QQQQ', head[:32])
        at += size
        if flags & MARK:
            yield flags, 0, 0, head[32:32 + inline]
        elif flags & DISCARD:
            yield flags, sector * size, sectors * size, None
        else:
            yield flags, sector * size, sectors * size, log.read(sectors * size)
            at += sectors * size


class State:
    """A disk that is written to, and how many blocks of it are not those of the image."""

    def __init__(self, image, held):
        self.image, self.held = image, held
        self.disk = bytearray(len(image))
        self.wrong = set()
        self.look(0, len(image))

    def look(self, start, length):
        for b in range(start // BLOCK, -(-(start + length) // BLOCK)):
            if b not in self.held:
                continue
            here = slice(b * BLOCK, (b + 1) * BLOCK)
            if self.disk[here] == self.image[here]:
                self.wrong.discard(b)
            else:
                self.wrong.add(b)

    def write(self, start, length, data):
        self.disk[start:start + length] = data if data is not None else bytes(length)
        self.look(start, length)


def blocks(name):
    held = set()
    with open(name, encoding='ascii') as f:
        for word in f.read().split():
            first, _, last = word.partition('-')
            held.update(range(int(first), int(last or first) + 1))
    return held


def main():
    log_name, image_name, blocks_name, first, last = sys.argv[1:]
    with open(image_name, 'rb') as f:
        state = State(f.read(), blocks(blocks_name))
    equal, differs, marks, states, inside = [], {}, {}, 0, False
    with open(log_name, 'rb') as log:
        for number, (flags, start, length, data) in enumerate(entries(log)):
            if flags & MARK:
                name = data.rstrip(b'\0').decode()
                marks[name] = number
                inside = inside or name == first
                if inside:
                    differs[name] = len(state.wrong)
            elif length:
                state.write(start, length, data)
            if inside:
                states += 1
                if not state.wrong:
                    equal.append(number)
            if flags & MARK and name == last:
                break
    if first not in marks or last not in marks:
        sys.exit(f'replay-log: the log has only the marks {list(marks)}')
    print(json.dumps({'states': states, 'equal': equal, 'differs': differs, 'marks': marks,
                      'held': len(state.held), 'wrong': sorted(state.wrong)[:20]}))


main()
