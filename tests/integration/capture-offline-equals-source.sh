#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What zstd alone makes of an image of a disk at rest: where something is in use, the source byte for byte;
# where nothing is, zeros (or what lay there).
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx zstd python3 dumpe2fs

disk_make "$scratch/source" 500M <<'TABLE'
label: gpt
size=200M
size=40M
size=100M, type=swap
size=100M
TABLE
fs_make ext4 "${loop}p1"
mount_at "${loop}p1" "$scratch/mnt"
some_files "$scratch/mnt/kept" 40
some_files "$scratch/mnt/gone" 60
sync
rm -r "$scratch/mnt/gone"
umount_at "$scratch/mnt"
head -c 40M /dev/urandom >"${loop}p2"
fs_make swap "${loop}p3"
sync

agent_start
ambroctl capture "$loop" -o "$scratch/image.zst"
[[ $(manifest "$scratch/image.zst" .strategy) == offline ]] || fail "not offline"
zstd -dcq "$scratch/image.zst" >"$scratch/plain"

python3 - "$scratch" <(reader --show "$scratch/image.zst") \
	<(dumpe2fs "${loop}p1" 2>/dev/null | sed -n 's/^  Free blocks: //p') \
	"$(dumpe2fs -h "${loop}p1" 2>/dev/null | sed -n 's/^Block size: *//p')" <<'PYTHON'
import json, sys
scratch, show, free_list, bs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
regions = json.load(open(show))['regions']
free = set()
for part in open(free_list).read().replace('\n', ',').split(','):
    if part.strip():
        a, _, b = part.strip().partition('-')
        free.update(range(int(a), int(b or a) + 1))
source, plain = open(scratch + '/source', 'rb'), open(scratch + '/plain', 'rb')
assert source.seek(0, 2) == plain.seek(0, 2), 'sizes differ'
zeros = stale = 0
for r in regions:
    source.seek(r['start']), plain.seek(r['start'])
    is_ext4 = r.get('partition') == 1
    if is_ext4:
        assert r['content'] == 'used', r
    if r.get('partition') == 2:
        assert r['content'] == 'all', r
    for n in range(0, -(-r['length'] // bs)):
        size = min(bs, r['length'] - n * bs)
        a, b = source.read(size), plain.read(size)
        if a == b:
            continue
        where = f"region at {r['start']}, block {n}"
        assert r['content'] != 'all', where + ': differs though everything was read'
        assert not any(b), where + ': neither the source nor zeros'
        if is_ext4:
            assert n in free, where + ': is in use'
            zeros += 1
print(f'{len(free)} free blocks, {zeros} of them with old content that is not in the image')
assert zeros > 5000, 'old content of free blocks was captured'
PYTHON
