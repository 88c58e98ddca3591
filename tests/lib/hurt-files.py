#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
What tests/integration/repo-check-names-files.sh does with bytes.

hurt-files.py lose REPO HASH OFFSET…             damage the stored chunk that byte OFFSET of the image's disk is in
hurt-files.py lose-page REPO HASH OFFSET…        the last page of the hash tree on the way to it
hurt-files.py chunks RAW START LENGTH CHUNK DIR COUNT SEED
        bytes of the disk RAW where COUNT chunks begin that hold nothing but bytes of the files below DIR, which is the file
        system in these LENGTH bytes; those with several files first
hurt-files.py tables RAW START LENGTH CHUNK DIR COUNT SEED
        the same of chunks that hold something else, too, or only that
hurt-files.py sound CHECK.json IMAGE PARTITION RAW INODES ORIGINAL
        wherever CHECK.json names a file of ORIGINAL, the disk RAW has its bytes; and where nothing is said to be missing, every
        lost KiB that is a file's is named
hurt-files.py compare CHECK.json IMAGE PARTITION INODES ORIGINAL RESTORED
        CHECK.json, of repo check, names what the files in RESTORED lack of those in ORIGINAL: these bytes, all of them, no others.
        INODES: "NUMBER PATH" a line
"""
import collections, hashlib, json, os, random, sys

UNIT = 1024     # no file system here has smaller blocks


def image_of(repo, its_hash):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'golden'))
    sys.dont_write_bytecode = True
    from repo_reader import Repository, RepositoryImage
    repo = Repository(repo)
    return repo, RepositoryImage(repo, repo.image(its_hash))


def damage(repo, its_id, is_page):
    for pack, e in repo.places[its_id, is_page]:
        path = os.path.join(repo.top, 'packs', pack[:2], pack)
        os.chmod(path, 0o600)
        with open(path, 'r+b') as f:
            f.seek(e.offset + e.frame_len // 2)
            was = f.read(8)
            f.seek(e.offset + e.frame_len // 2)
            f.write(bytes(b ^ 0x55 for b in was))


def lose(repo, its_hash, offsets, is_page):
    repo, image = image_of(repo, its_hash)
    bad = set()
    for offset in offsets:
        region = next(r for r in image.regions if r['start'] <= offset < r['start'] + r['length'])
        if is_page:
            assert region['depth'] == 1
            bad.add(bytes.fromhex(region['root']))
        else:
            index = (offset - region['start']) >> image.shift
            stored = dict(image.walk(region))
            # what is not in use was not captured
            if index in stored:
                bad.add(stored[index])
    for its_id in bad:
        damage(repo, its_id, is_page)


def files_below(top):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def digest(block):
    return hashlib.sha256(block).digest()[:12]


def owners_below(top, unit=UNIT):
    """{digest of a unit: {(path, number of the unit)}}"""
    owners = collections.defaultdict(set)
    for path in files_below(top):
        with open(path, 'rb') as f:
            number = 0
            while block := f.read(unit):
                owners[digest(block.ljust(unit, b'\0'))].add((path[len(top):], number))
                number += 1
    return owners


def chunks(raw, start, length, chunk, top, count, seed, tables):
    owners = owners_below(top)
    several, one, other, zeros = [], [], [], bytes(chunk)
    with open(raw, 'rb') as f:
        f.seek(start)
        for at in range(start, start + length - chunk + 1, chunk):
            data = f.read(chunk)
            if data == zeros:
                continue
            found = {min(owners.get(digest(data[i:i + UNIT]), [None])) for i in range(0, chunk, UNIT)}
            if None in found:
                other.append(at)
            else:
                (several if len({path for path, _ in found}) > 1 else one).append(at)
    r = random.Random(seed)
    for found in several, one, other:
        r.shuffle(found)
    found = other[:count] if tables else several[:count * 2 // 3]
    if not tables:
        found += one[:count - len(found)]
    assert found, 'there is no such chunk'
    print(*found)


def lacking(original, restored):
    """{path: numbers of units that are others, or cannot be read}"""
    found = collections.defaultdict(set)
    for path in files_below(original):
        name = path[len(original):]
        want = open(path, 'rb').read()
        try:
            fd = os.open(restored + name, os.O_RDONLY)
        except OSError:
            found[name] = set(range(-(-len(want) // UNIT)))
            continue
        for at in range(0, len(want), UNIT):
            try:
                got = os.pread(fd, UNIT, at)
            except OSError:
                got = None
            if got != want[at:at + UNIT]:
                found[name].add(at // UNIT)
        os.close(fd)
    return found


def read_inodes(path):
    inode_of = {}
    with open(path, encoding='utf-8') as f:
        for line in f:
            number, name = line.rstrip('\n').split(' ', 1)
            inode_of[name] = int(number)
    return inode_of


def read_check(path, image, partition):
    """What it says of that file system; the stretches of files that it lacks; those of the disk."""
    with open(path, encoding='utf-8') as f:
        said = json.load(f)
    system, = [x for x in said['file_systems'] if x['image'] == image and x['partition'] == partition]
    files = [x for x in said['files'] if x['image'] == (system['same_as'] or image) and x['partition'] == partition]
    lost = [(x['offset'], x['length']) for x in said['damages'] if x.get('image') == image and x['partition'] == partition]
    return system, files, lost


def sound(check, image, partition, raw, inodes, original):
    system, files, lost = read_check(check, image, partition)
    # of a block that grew btrfs leaves the beginning behind, somewhere else
    unit = 4096 if system['file_system'] == 'btrfs' else UNIT
    inode_of, owners = read_inodes(inodes), owners_below(original, unit)
    named, n = collections.defaultdict(set), 0
    with open(raw, 'rb') as disk:
        for x in files:
            assert any(at <= x['at'] and x['at'] + x['length'] <= at + length for at, length in lost), x
            if x['kind'] == 'directory' and x['path'] is not None:
                assert os.path.isdir(original + x['path']), x
            if x['kind'] != 'data':
                continue
            named[x['inode']] |= set(range(x['offset'] // unit, -(-(x['offset'] + x['held']) // unit)))
            if x['path'] is None:
                assert system['incomplete'], x
                continue
            assert inode_of.get(x['path']) == x['inode'], x
            with open(original + x['path'], 'rb') as f:
                f.seek(x['offset'])
                want = f.read(x['length'])
            disk.seek(x['at'])
            assert disk.read(len(want)) == want, x
            n += 1
        missed = set()
        for at, length in lost:
            disk.seek(at)
            for _ in range(0, length, unit):
                found = owners.get(digest(disk.read(unit)), ())
                missed |= {(p, u) for p, u in found if u not in named[inode_of[p]]}
    assert system['incomplete'] or not system['told'] or not missed, (system, sorted(missed)[:10])
    state = 'not told' if not system['told'] else 'incomplete' if system['incomplete'] else 'complete'
    print(f'{image}, partition {partition}: {n} stretches are right, {len(missed)} blocks were not found: {state} ({system["why"]})')


def compare(check, image, partition, inodes, original, restored):
    inode_of = read_inodes(inodes)
    want = collections.defaultdict(set)
    for path, units in lacking(original, restored).items():
        want[inode_of[path]] |= units
    got = collections.defaultdict(set)
    system, named, _ = read_check(check, image, partition)
    assert system['told'] and not system['incomplete'], system
    for x in named:
        assert x['kind'] == 'data', x
        assert x['path'] is not None and inode_of.get(x['path']) == x['inode'], x
        size = os.stat(original + x['path']).st_size
        end = min(x['offset'] + x['held'], size)
        got[x['inode']] |= set(range(x['offset'] // UNIT, -(-end // UNIT)))
    got = {i: units for i, units in got.items() if units}
    path_of = {number: path for path, number in inode_of.items()}
    for i in sorted(want.keys() | got.keys()):
        missed, wrong = want.get(i, set()) - got.get(i, set()), got.get(i, set()) - want.get(i, set())
        if missed or wrong:
            sys.exit(f'{image}, partition {partition}: {path_of[i]}: units of {UNIT} not named: {sorted(missed)[:20]}; '
                     f'named, but whole: {sorted(wrong)[:20]}')
    assert want, 'nothing is hurt'
    print(f'{image}, partition {partition}: {len(want)} files lack {sum(map(len, want.values()))} KiB, and that is named')


def main():
    what, *a = sys.argv[1:]
    if what in ('lose', 'lose-page'):
        lose(a[0], a[1], [int(x) for x in a[2:]], what == 'lose-page')
    elif what in ('chunks', 'tables'):
        chunks(a[0], int(a[1]), int(a[2]), int(a[3]), a[4], int(a[5]), int(a[6]), what == 'tables')
    elif what == 'sound':
        sound(a[0], a[1], int(a[2]), *a[3:])
    elif what == 'compare':
        compare(a[0], a[1], int(a[2]), *a[3:])
    else:
        sys.exit(__doc__)


main()
