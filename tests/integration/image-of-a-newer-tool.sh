#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An image that needs a newer tool (a required feature, the format, a record, a critical record, the hash): show, verify
# and restore say so and touch nothing. What a newer tool adds and an older one may ignore is ignored.
. "$(dirname "$0")/../lib/functions.sh"
require python3

raw=$scratch/raw img=$scratch/img new=$scratch/newer
seq 1 200000 >"$raw"
truncate -s 4M "$raw"
tool mkimage "$raw" "$img"

# newer WHAT: $img as a newer tool would write it, by docs/FORMAT.md alone
newer() {
	python3 - "$img" "$new" "$1" <<'PYTHON'
import hashlib, struct, sys
image, what = bytearray(open(sys.argv[1], 'rb').read()), sys.argv[3]
sha = lambda b: hashlib.sha256(b).digest()

def check(at):
    length, = struct.unpack_from('<Q', image, at + 16)
    image[at + 24:at + 40] = bytes(16)
    image[at + 24:at + 40] = sha(image[at + 8:at + 40 + length])[:16]

def record(kind, flags, body):
    r = bytearray(struct.pack('<II4sBBHQ16s', 0x184D2A5A, 32 + len(body), b'AMBR', kind, 1, flags, len(body), bytes(16)))
    return bytes(r[:24]) + sha(r[8:] + body)[:16] + body

frames, = struct.unpack('<I', image[-9:-5])
trailer = len(image) - 17 - 8 * frames - 160
manifest, = struct.unpack_from('<Q', image, trailer + 40 + 16)
size, = struct.unpack_from('<Q', image, manifest + 16)
if what == 'feature':
    image[40 + 16 + 3] = 0x80
elif what == 'optional':
    image[40 + 24:40 + 32] = b'\xff' * 8
elif what == 'format':
    image[40 + 8] = 2
elif what == 'record':
    image[13] = 2
elif what == 'hash':
    body = bytes(image[manifest + 40:manifest + 40 + size])
    at = body.index(b'"chunk_hash":"') + 14
    image[manifest + 40 + at] ^= 1
elif what == 'member':
    body = bytes(image[manifest + 40:manifest + 40 + size])
    at = body.index(b'"tool":') + 1
    image[manifest + 40 + at:manifest + 40 + at + 4] = b'tomb'
else:
    # a record of an unknown type before the TRAILER; the seek table has an entry for it
    extra = record(200, what == 'critical', b'from the future')
    table = image[trailer + 160:]
    image = image[:trailer] + extra + image[trailer:trailer + 160]
    struct.pack_into('<Q', image, len(image) - 160 + 40 + 48, frames + 1)
    entries = table[8:8 + 8 * (frames - 1)] + struct.pack('<II', len(extra), 0) + table[8 + 8 * (frames - 1):8 + 8 * frames]
    trailer = len(image) - 160
    image += struct.pack('<II', 0x184D2A5E, 8 * (frames + 1) + 9) + entries + struct.pack('<IBI', frames + 1, 0, 0x8F92EAB1)
image[trailer + 96:trailer + 128] = sha(bytes(image[manifest + 40:manifest + 40 + size]))
for at in 0, manifest, trailer:
    check(at)
open(sys.argv[2], 'wb').write(image)
PYTHON
}
refused() {
	expect_fail 1 "$1" "$O/ambroctl" "${@:2}"
	one_line "$scratch/expect.err"
	[[ ! -s $scratch/expect.out ]] || fail "it says something on stdout"
}

head -c 5M /dev/urandom >"$scratch/old"
cp "$scratch/old" "$scratch/target"
for what in feature format record critical hash; do
	newer $what
	words="a newer tool is needed"
	[[ $what != hash ]] || words="this tool does not know"
	refused "$words" show "$new"
	refused "$words" verify "$new"
	refused "$words" restore --yes "$new" "$scratch/target"
	refused "$words" restore "$new" "$scratch/none"
	[[ ! -e $scratch/none ]] || fail "$what: a target was made"
	cmp "$scratch/old" "$scratch/target" || fail "$what: the target was touched"
done

for what in optional member unknown; do
	newer $what
	rm -f "$scratch/out"
	ambroctl show "$new" >/dev/null || fail "$what: show"
	ambroctl verify "$new" >/dev/null 2>"$scratch/err" || fail "$what: verify: $(cat "$scratch/err")"
	ambroctl restore "$new" "$scratch/out" >/dev/null 2>"$scratch/err" || fail "$what: restore: $(cat "$scratch/err")"
	same "$raw" "$scratch/out"
done
