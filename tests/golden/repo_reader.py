#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The second reader of repositories: what docs/REPOSITORY.md, SECURITY.md and FORMAT.md say, and none of ambrotype's code.

  repo_reader.py REPO                 list its images: the object's name, HOST/DISK/TIME, tags
  repo_reader.py --forgotten REPO     those that are forgotten, too
  repo_reader.py REPO IMAGE OUT       restore one to a sparse file; IMAGE: the beginning of the object's name
  repo_reader.py --check REPO         every byte of every object, as far as nobody else is needed for it
  --passphrase-file FILE, --key-file FILE     of an encrypted repository

Every hash, length and offset on the way is checked; the first wrong one ends it: one line, exit 1. Needs what reader.py
needs, and libsodium for encrypted repositories. "§" points into docs/REPOSITORY.md, "F§" into FORMAT.md.
"""
import argparse, collections, ctypes, ctypes.util, datetime, hashlib, json, os, re, struct, sys

from reader import Damage, Image, PAGE, CHUNK, MANIFEST, Zstd, chunk_id, need, sha256

PACK, SEALED, PACK_INDEX, PACK_END, REPO_INDEX, GC = range(16, 22)
PURPOSE_PACK, PURPOSE_INDEX, PURPOSE_IMAGE = 1, 2, 3
KIND_CHUNK, KIND_PAGE, KIND_BLOCK, KIND_IMAGE, KIND_TABLE, KIND_PACKS = range(6)
BLOCK_ENTRIES, ENTRY = 85, '<32sIIII'
PAGE_BIT = 0x80000000
SEAL = 24 + 16  # nonce and tag
CHECK = len(',\n "check": "') + 64 + len('"\n}')
# where: what has to be read; name: the id, or what stands for it
Entry = collections.namedtuple('Entry', 'name pack offset frame_len plain_len is_page')


def entries_of(data):
    for name, pack, offset, frame_len, plain_len in struct.iter_unpack(ENTRY, data):
        yield Entry(name, pack, offset, frame_len, plain_len & ~PAGE_BIT, bool(plain_len & PAGE_BIT))


class Bytes:
    """The bytes of an object, and records in them (F§3)."""

    def __init__(self, what, data):
        self.what, self.data = what, data

    def part(self, offset, length):
        need(0 <= offset <= len(self.data) and 0 <= length <= len(self.data) - offset,
             f'{self.what}: bytes {offset}+{length} are not in its {len(self.data)}')
        return self.data[offset:offset + length]

    def record(self, kind, offset, frame_len=None):
        """The body, and where the next begins."""
        head = self.part(offset, 40)
        magic, length, ours, found, version, _, body_len = struct.unpack('<II4sBBHQ', head[:24])
        need(magic == 0x184D2A5A and ours == b'AMBR' and found == kind and version == 1,
             f'{self.what}: no record {kind} at byte {offset}')
        need(length == 32 + body_len and frame_len in (None, 8 + length), f'{self.what}: wrong length')
        body = self.part(offset + 40, body_len)
        need(head[24:40] == sha256(head[8:24] + bytes(16) + body)[:16], f'{self.what}: wrong check')
        return body, offset + 40 + body_len


# ---- §4: encryption ------------------------------------------------------------------------------

def blake2b(key, data, size=32):
    return hashlib.blake2b(data, key=key, digest_size=size).digest()


class Sodium:
    def __init__(self):
        name = ctypes.util.find_library('sodium')
        need(name, 'the repository is encrypted, and libsodium is not installed')
        self.lib = ctypes.CDLL(name)
        need(self.lib.sodium_init() >= 0, 'libsodium does not work')

    def open(self, key, sealed, bound):
        """XChaCha20-Poly1305: nonce, ciphertext, tag. The plain bytes, or None."""
        if len(sealed) < SEAL:
            return None
        plain = ctypes.create_string_buffer(len(sealed) - SEAL + 1)
        got = self.lib.crypto_aead_xchacha20poly1305_ietf_decrypt(
            plain, None, None, sealed[24:], ctypes.c_ulonglong(len(sealed) - 24), bound,
            ctypes.c_ulonglong(len(bound)), sealed[:24], key)
        return plain.raw[:len(sealed) - SEAL] if got == 0 else None

    def box_open(self, sealed, public, secret):
        plain = ctypes.create_string_buffer(len(sealed))
        got = self.lib.crypto_box_seal_open(plain, sealed, ctypes.c_ulonglong(len(sealed)), public, secret)
        return plain.raw[:len(sealed) - 48] if got == 0 else None

    def public_of(self, secret):
        public = ctypes.create_string_buffer(32)
        self.lib.crypto_scalarmult_base(public, secret)
        return public.raw

    def argon2id13(self, passphrase, salt, passes, memory):
        key = ctypes.create_string_buffer(32)
        got = self.lib.crypto_pwhash(key, ctypes.c_ulonglong(32), passphrase, ctypes.c_ulonglong(len(passphrase)), salt,
                                     ctypes.c_ulonglong(passes), ctypes.c_size_t(memory), 2)
        need(got == 0, 'not enough memory for the passphrase')
        return key.raw


class Secrets:
    """What opens an encrypted repository, by a passphrase's slot or a recipient's (SECURITY.md, key slots)."""

    def __init__(self, repo, passphrase, secret):
        self.sodium, self.repo = Sodium(), repo
        self.passphrase, self.secret = passphrase, secret
        for slot in sorted(repo.names('keys')):
            need(re.fullmatch('[0-9a-f]{16}', slot), f'keys/{slot}: no name of a slot')
            text = repo.checked(f'keys/{slot}')
            if text['repository'] != repo.id.hex() or text['format'] > 1:
                continue
            secrets = self.by_key(slot, text) if secret else self.by_passphrase(slot, text)
            if secrets:
                self.take(secrets)
                return
        raise Damage(f'the {"key" if secret else "passphrase"} opens no key slot')

    def bound(self, slot, text, kdf=None, public=bytes(32)):
        f, kdf = self.repo.format, kdf or {'operations': 0, 'memory': 0, 'salt': '00' * 16}
        return blake2b(b'', struct.pack(
            '<8s16sIBBBBQQQQ16s32s16s64s', b'AMBRSLOT', self.repo.id, f['chunk_shift'], 1,
            {'passphrase': 1, 'recipient': 2}[text['type']], {'write': 1, 'full': 2}[text['rights']], 0,
            f['created_ns'], text['created_ns'], kdf['operations'], kdf['memory'], bytes.fromhex(kdf['salt']), public,
            slot.encode(), text['label'].encode()))

    def by_passphrase(self, slot, text):
        if text['type'] != 'passphrase':
            return None
        kdf = text['kdf']
        need(kdf['algorithm'] == 'argon2id13', f'keys/{slot}: an unknown way to derive keys')
        key = self.sodium.argon2id13(self.passphrase, bytes.fromhex(kdf['salt']), kdf['operations'], kdf['memory'])
        return self.sodium.open(key, bytes.fromhex(text['sealed']), self.bound(slot, text, kdf))

    def by_key(self, slot, text):
        public = self.sodium.public_of(self.secret)
        if text['type'] != 'recipient' or text['public'] != public.hex():
            return None
        plain = self.sodium.box_open(bytes.fromhex(text['sealed']), public, self.secret)
        need(plain and plain[:32] == self.bound(slot, text, public=public), f'keys/{slot}: it, or format, was changed')
        return plain[32:]

    def take(self, secrets):
        version, rights, zero, self.box_public, self.box_secret, self.write = struct.unpack('<BBH32s32s32s', secrets)
        need(version == 1 and zero == 0, 'the slot holds no secrets that are known')
        need(rights == 2, 'this passphrase may add images, but not read them')
        need(self.sodium.public_of(self.box_secret) == self.box_public, 'the secrets do not belong together')
        its_id = hashlib.blake2b(self.box_public + blake2b(self.write, b'AMBRREPO'), digest_size=16).digest()
        need(its_id == self.repo.id, 'the secrets are not those of this repository')
        self.name_key = blake2b(self.write, b'AMBRNAME')
        self.index_key = blake2b(self.write, b'AMBRINDX')
        self.note_key = blake2b(self.box_secret, b'AMBRNOTE')

    def session(self, sealed):
        key = self.sodium.box_open(sealed, self.box_public, self.box_secret)
        need(key, 'a session key was not made for this repository')
        return blake2b(self.write, b'AMBRSESS' + key)

    def name(self, its_id):
        return blake2b(self.name_key, its_id)

    def open(self, key, sealed, head, what):
        """Bound to the repository's id and a head of 48 bytes."""
        plain = self.sodium.open(key, sealed, self.repo.id + head)
        need(plain is not None, f'{what}: its seal is broken')
        return plain


def key_of(text):
    """The secret key in a key file."""
    for line in text.split('\n'):
        label, _, digits = line.strip().partition(':')
        if label == 'AMBRO-SECRET-1':
            digits = digits.lower()
            need(len(digits) == 72 and blake2b(b'', f'{label}:{digits[:64]}'.encode())[:4].hex() == digits[64:],
                 'the key file: mistyped')
            return bytes.fromhex(digits[:64])
    raise Damage('the key file has no secret key')


def sealed_head(kind, plain_len, frame_len, name):
    return struct.pack('<B3xIII32s', kind, plain_len, frame_len, 0, name)


# ---- §1, §2 ------------------------------------------------------------------------------------------

class Repository:
    def __init__(self, top, passphrase=None, secret=None):
        self.top, self.secrets, self.packs = top, None, {}
        self.zstd = Zstd()
        self.format = f = self.checked('format')
        need(f['format'] == 1, f'format {f["format"]} is not known')
        need(f['require'] == [], f'it requires {f["require"]}, which is not known')
        need(f['chunk_hash'] == 'sha256-tree8k' and 16 <= f['chunk_shift'] <= 22, 'format: unknown chunks')
        need(f['encryption'] in ('none', 'xchacha20poly1305-blake2b'), 'an unknown encryption')
        self.id = bytes.fromhex(f['repository'])
        need(len(self.id) == 16, 'format: no id')
        self.sealed = f['encryption'] != 'none'
        if self.sealed:
            need(passphrase is not None or secret, 'it is encrypted: a passphrase or a key is needed')
            self.secrets = Secrets(self, passphrase, secret)
        self.read_index()

    def get(self, name):
        with open(os.path.join(self.top, name), 'rb') as f:
            return f.read()

    def checked(self, name):
        """JSON that ends in the hash of its name and of what is before that end (§1)."""
        data = self.get(name)
        end = ',\n "check": "' + sha256(name.encode() + data[:-CHECK]).hex() + '"\n}'
        need(data[-CHECK:] == end.encode(), f'{name}: it does not have the hash that it says')
        return json.loads(data)

    def names(self, folder):
        try:
            return os.listdir(os.path.join(self.top, folder))
        except FileNotFoundError:
            return []

    def object(self, name, purpose):
        """One of those named by their bytes: it, what is behind its PACK record, and its session."""
        data = Bytes(name, self.get(name))
        need(sha256(data.data).hex() == os.path.basename(name), f'{name}: its bytes do not have its name')
        body, at = data.record(PACK, 0, 160)
        magic, version, its_purpose, zero, features, its_repo, session = struct.unpack('<8sIB3sQ16s80s', body)
        need(magic == b'AMBROPCK' and zero == bytes(3) and its_purpose == purpose, f'{name}: wrong PACK record')
        need(version == 1 and features == (1 if self.sealed else 0), f'{name}: version or features are not known')
        need(its_repo == self.id, f'{name}: of another repository')
        return data, at, session

    # ---- index files

    def read_index(self):
        files, superseded = {}, set()
        for name in self.names('index'):
            need(re.fullmatch('[0-9a-f]{64}', name), f'index/{name}: no name')
            files[name] = self.read_index_file(f'index/{name}')
            superseded |= files[name][0]
        self.places = collections.defaultdict(list)
        for name in files.keys() - superseded:
            for entry, pack in files[name][1]:
                self.places[entry.name, entry.is_page].append((pack, entry))

    def read_index_file(self, name):
        """The names of those it supersedes, and [(entry, pack's name)]."""
        data, at, _ = self.object(name, PURPOSE_INDEX)
        body, at = data.record(REPO_INDEX, at)
        need(len(body) >= 32, f'{name}: no head')
        magic, version, n_super, n_packs, n_blocks, n_entries = struct.unpack('<8sIIIIQ', body[:32])
        need(magic == b'AMBROIDX' and version == 1, f'{name}: no index that is known')
        need(n_blocks == -(-n_entries // BLOCK_ENTRIES), f'{name}: wrong counts')
        head, tables = body[:32], body[32:]
        if self.sealed:
            n = len(tables) - SEAL
            tables = self.secrets.open(self.secrets.index_key, tables, sealed_head(KIND_TABLE, n, n, head), name)
        need(len(tables) == 32 * n_super + 32 + 24 * (n_blocks + 1), f'{name}: wrong length')
        supersedes = {tables[i:i + 32].hex() for i in range(0, 32 * n_super, 32)}
        digest = tables[32 * n_super:32 * n_super + 32]
        blocks = list(struct.iter_unpack('<8s16s', tables[32 * n_super + 32:]))
        n = 40 * n_packs
        packs = data.part(at, n + (SEAL if self.sealed else 0))
        at += len(packs)
        if self.sealed:
            packs = self.secrets.open(self.secrets.index_key, packs, sealed_head(KIND_PACKS, n, n, digest), name)
        need(sha256(packs) == digest, f'{name}: its table of packs is damaged')
        packs = list(struct.iter_unpack('<32sII', packs))
        entries = []
        for i in range(n_blocks):
            n = 48 * min(BLOCK_ENTRIES, n_entries - i * BLOCK_ENTRIES)
            stored = data.part(at, n + (SEAL if self.sealed else 0))
            at += len(stored)
            need(sha256(stored)[:16] == blocks[i][1], f'{name}: block {i} is damaged')
            if self.sealed:
                stored = self.secrets.open(self.secrets.index_key, stored,
                                           sealed_head(KIND_BLOCK, n, n, struct.pack('<Q24x', i)), name)
            entries.extend(entries_of(stored))
            need(entries[i * BLOCK_ENTRIES].name[:8] == blocks[i][0], f'{name}: block {i} begins elsewhere')
        need(at == len(data.data), f'{name}: something is behind its blocks')
        need(blocks[-1] == ((entries[-1].name[:8] if entries else bytes(8)), bytes(16)), f'{name}: wrong end of the table')
        order = [(e.name, e.pack, e.offset) for e in entries]
        need(order == sorted(order), f'{name}: not in order')
        need(all(e.pack < n_packs for e in entries), f'{name}: an entry of no pack')
        used = collections.Counter(e.pack for e in entries)
        for i, (_, size, count) in enumerate(packs):
            need(used[i] <= count and size <= 96 << 20, f'{name}: wrong table of packs')
        return supersedes, [(e, packs[e.pack][0].hex()) for e in entries]

    # ---- packs

    def pack(self, name):
        """It, all its entries, its session; None when it was deleted."""
        if name not in self.packs:
            try:
                self.packs[name] = self.read_pack(f'packs/{name[:2]}/{name}')
            except FileNotFoundError:
                self.packs[name] = None
        return self.packs[name]

    def read_pack(self, name):
        data, at, sealed_session = self.object(name, PURPOSE_PACK)
        session = self.secrets.session(sealed_session) if self.sealed else None
        end, _ = data.record(PACK_END, len(data.data) - 64, 64)
        index_at, index_len, count = struct.unpack('<QQQ', end)
        body, behind = data.record(PACK_INDEX, index_at, index_len)
        need(len(body) == 48 * count and behind == len(data.data) - 64, f'{name}: wrong PACK_END')
        entries = list(entries_of(body))
        for e in entries:
            need(e.pack == 0, f'{name}: wrong PACK_INDEX')
            # they follow each other without a gap; a chunk's CHUNK record is before it
            at += 96 if not (e.is_page or self.sealed) else 0
            need(e.offset == at, f'{name}: a gap before byte {e.offset}')
            at += e.frame_len
        need(at == index_at, f'{name}: something is before PACK_INDEX')
        return data, {(e.name, e.is_page, e.offset): e for e in entries}, session

    def entry(self, its_id, is_page, plain_len):
        """The zstd frame of a chunk, the body of a page. The first place that still is will do."""
        name = self.secrets.name(its_id) if self.sealed else its_id
        what = f'{"page" if is_page else "chunk"} {its_id.hex()}'
        for pack, e in self.places[name, is_page]:
            if self.pack(pack) is None:
                continue
            data, entries, session = self.pack(pack)
            own = entries.get((name, is_page, e.offset))
            need(own and own._replace(pack=e.pack) == e, f'packs/…/{pack}: its list and the index do not agree')
            need(plain_len in (None, e.plain_len), f'{what}: wrong length')
            if self.sealed:
                return self.unsealed(data, e, session)
            if is_page:
                body, _ = data.record(PAGE, e.offset, e.frame_len)
                need(len(body) == e.plain_len, f'{what}: wrong length')
                return body
            self.check_chunk(data, e)
            return data.part(e.offset, e.frame_len)
        raise Damage(f'{what} is nowhere')

    def check_chunk(self, data, e):
        """Its CHUNK record (F§3) says the same."""
        body, _ = data.record(CHUNK, e.offset - 96, 96)
        need(struct.unpack('<IIQII32s', body) == (0, e.plain_len, 0, e.frame_len, 0, e.name),
             f'{data.what}: a CHUNK record that says something else')

    def unsealed(self, data, e, session):
        body, _ = data.record(SEALED, e.offset, e.frame_len)
        need(len(body) >= 48 + SEAL, f'{data.what}: a SEALED record that is too short')
        plain_len = len(body) - 48 - SEAL
        head = sealed_head(KIND_PAGE if e.is_page else KIND_CHUNK, e.plain_len, plain_len, e.name)
        need(body[:48] == head and (not e.is_page or plain_len == e.plain_len), f'{data.what}: another sealed entry')
        return self.secrets.open(session, body[48:], head, data.what)

    # ---- images

    def images(self, forgotten=False):
        """{object's name: the JSON}"""
        gone = {n[len('forget-'):] for n in self.names('gc') if n.startswith('forget-')}
        return {n: self.image(n) for n in sorted(self.names('images')) if forgotten or n not in gone}

    def image(self, name):
        what = f'images/{name}'
        data, at, session = self.object(what, PURPOSE_IMAGE)
        body, at = data.record(SEALED if self.sealed else MANIFEST, at)
        need(at == len(data.data), f'{what}: something is behind its record')
        if self.sealed:
            kind, plain_len, frame_len, zero, its_id = struct.unpack('<B3xIII32s', body[:48])
            need(kind == KIND_IMAGE and plain_len == frame_len == len(body) - 48 - SEAL, f'{what}: wrong SEALED record')
            body, sealed_id = self.secrets.open(self.secrets.session(session), body[48:], body[:48], what), its_id
        image = json.loads(body)
        need(image['format'] == 1, f'{what}: format {image["format"]} is not known')
        if self.sealed:
            need(sealed_id == bytes.fromhex(image['manifest']['image_id']) + bytes(16), f'{what}: of another image')
        return image

    def note(self, name):
        """A note under gc/: the time it tells."""
        body, at = Bytes(f'gc/{name}', self.get(f'gc/{name}')).record(GC, 0)
        if self.sealed:
            plain = self.secrets.sodium.open(self.secrets.note_key, body,
                                             self.id + f'gc/{name}'.encode().ljust(80, b'\0'))
            need(plain is not None, f'gc/{name}: its seal is broken')
            body = plain
        note = json.loads(body)
        need(note['format'] == 1 and note['object'] == f'gc/{name}' and note['repository'] == self.id.hex() and
             ('reason' in note) == name.startswith('mark-') and note.get('reason') in (None, 'dead', 'repacked'),
             f'gc/{name}: it says something else')
        return note['time_ns']

    def check(self):
        """Every object but the tombstones of what is gone; every entry of every pack."""
        for name in self.names('keys') if self.sealed else []:
            self.checked(f'keys/{name}')
        for folder in self.names('packs'):
            for name in self.names(f'packs/{folder}'):
                need(name[:2] == folder, f'packs/{folder}/{name}: a wrong folder')
                data, entries, session = self.read_pack(f'packs/{folder}/{name}')
                for e in entries.values():
                    if self.sealed:
                        plain = self.unsealed(data, e, session)
                        its_id = None
                    elif e.is_page:
                        plain, its_id = data.record(PAGE, e.offset, e.frame_len)[0], e.name
                    else:
                        self.check_chunk(data, e)
                        plain, its_id = data.part(e.offset, e.frame_len), e.name
                    if not e.is_page:
                        plain = self.zstd.decode(plain, e.plain_len)
                    found = chunk_id(plain) if plain is not None else None
                    need(found and (self.secrets.name(found) if self.sealed else found) == e.name,
                         f'packs/{folder}/{name}: the entry at byte {e.offset} is damaged')
        for name in self.names('gc'):
            self.note(name)
        self.images(forgotten=True)


class RepositoryImage(Image):
    """An image of a repository: reader.py's, but that pages and chunks are found through the index."""

    def __init__(self, repo, text):
        self.repo, self.zstd, self.manifest = repo, repo.zstd, text['manifest']
        self.shift, self.disk_size = repo.format['chunk_shift'], self.manifest['disk']['size']
        need(self.manifest['format'] == 1 and self.manifest['chunk_hash'] == 'sha256-tree8k' and
             self.manifest['chunk_size'] == 1 << self.shift, 'the manifest has other chunks')
        self.read_regions()

    def page_body(self, page_id):
        return self.repo.entry(page_id, True, None)

    def chunk(self, its_id, plain_len):
        return self.chunk_of(self.repo.entry(its_id, False, plain_len), its_id, plain_len)


def show(repo, forgotten):
    for name, image in sorted(repo.images(forgotten).items(), key=lambda i: i[1]['time_ns']):
        when = datetime.datetime.fromtimestamp(image['time_ns'] // 10**9, datetime.timezone.utc).replace(tzinfo=None)
        print(name, f"{image['host']}/{image['disk']}/{when.isoformat()}Z", ','.join(image['tags']) or '-')


def restore(repo, wanted, out):
    found = {n: i for n, i in repo.images(True).items() if n.startswith(wanted)}
    need(len(found) == 1, f'{len(found)} images are called {wanted}')
    image = RepositoryImage(repo, *found.values())
    fd = os.open(out, os.O_RDWR | os.O_CREAT, 0o600)
    image.restore(fd)
    os.close(fd)


def main():
    p = argparse.ArgumentParser(description='read a repository of ambrotype')
    p.add_argument('--forgotten', action='store_true', help='list forgotten images, too')
    p.add_argument('--check', action='store_true', help='check every object')
    p.add_argument('--passphrase-file', metavar='FILE')
    p.add_argument('--key-file', metavar='FILE')
    p.add_argument('repo')
    p.add_argument('image', nargs='?')
    p.add_argument('out', nargs='?')
    a = p.parse_args()
    try:
        passphrase = secret = None
        if a.passphrase_file:
            with open(a.passphrase_file, 'rb') as f:
                passphrase = f.read().rstrip(b'\r\n')
        if a.key_file:
            with open(a.key_file, encoding='ascii') as f:
                secret = key_of(f.read())
        repo = Repository(a.repo, passphrase, secret)
        if a.check:
            repo.check()
        elif a.image:
            need(a.out, 'OUT is missing')
            restore(repo, a.image, a.out)
        else:
            show(repo, a.forgotten)
    except (Damage, OSError) as e:
        sys.exit(f'repo_reader.py: {a.repo}: {e}')
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as e:
        sys.exit(f'repo_reader.py: {a.repo}: damaged: {e!r}')


if __name__ == '__main__':
    main()
