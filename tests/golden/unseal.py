#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The second reader of encrypted files: decrypts them, written from docs/FORMAT.md section 7 alone.

  unseal.py --passphrase-file FILE SEALED OUT
  unseal.py --secret-key HEX SEALED OUT

Whatever is not as it should be ends it: one line, exit 1. Needs Python 3 and PyNaCl (libsodium).
"""
import argparse, hashlib, struct, sys

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

GUARD = bytes.fromhex('28b52ffd23414d425200010000')
HEAD, SLOT, EXTRA = 56, 184, 24 + 16


class Damage(Exception):
    pass


def need(condition, words):
    if not condition:
        raise Damage(words)


def blake2b(data, key=b''):
    return hashlib.blake2b(data, digest_size=32, key=key).digest()


def unseal(sealed, bound, key):
    """Nonce, ciphertext, tag; None when it is not of this key or not bound to this."""
    try:
        return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[24:], bound, sealed[:24], key)
    except CryptoError:
        return None


def slot_key(slot, bound, args):
    """The file's key, or None."""
    kind, operations, memory = slot[0], *struct.unpack('<QQ', slot[8:24])
    salt, public, sealed = slot[24:40], slot[40:72], slot[72:]
    if kind == 1 and args.passphrase_file:
        with open(args.passphrase_file, 'rb') as f:
            passphrase = f.read().rstrip(b'\n')
        key = sodium.crypto_pwhash_alg(32, passphrase, salt, operations, memory,
                                       sodium.crypto_pwhash_ALG_ARGON2ID13)
        return unseal(sealed[:72], bound, key)
    if kind == 2 and args.secret_key:
        secret = bytes.fromhex(args.secret_key)
        if sodium.crypto_scalarmult_base(secret) != public:
            return None
        both = sodium.crypto_box_seal_open(sealed, public, secret)
        need(both[:32] == bound, 'the slot was changed')
        return both[32:]
    return None


def head_of(file):
    """All bytes before the first segment, and the fields of the head."""
    start = file.read(40)
    magic, length, name, kind, version, flags, body_len = struct.unpack('<II4sBBHQ', start[:24])
    need((magic, name, kind, version, flags) == (0x184D2A5A, b'AMBR', 24, 1, 1), 'not an encrypted file')
    need(length == 32 + body_len and body_len <= HEAD + 32 * SLOT, 'the head is damaged')
    body, guard = file.read(body_len), file.read(len(GUARD))
    check = hashlib.sha256(start[8:24] + bytes(16) + body).digest()[:16]
    need(check == start[24:40] and guard == GUARD, 'the head is damaged')
    magic, version, shift, file_id, slots, reserved = struct.unpack('<8sII32sII', body[:HEAD])
    need(magic == b'AMBROENC' and version == 1 and reserved == 0 and 12 <= shift <= 22 and
         len(body) == HEAD + slots * SLOT, 'the head is damaged')
    return start + body + guard, body, shift, file_id


def file_key(body, file_id, args):
    for at in range(HEAD, len(body), SLOT):
        slot = body[at:at + SLOT]
        key = slot_key(slot, blake2b(b'AMBRFSLT' + body[:HEAD] + slot[:72]), args)
        if key is not None:
            need(blake2b(b'AMBRFILE', key) == file_id, 'the slot has the key of another file')
            return key
    raise Damage('no slot opens')


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--passphrase-file')
    p.add_argument('--secret-key')
    p.add_argument('sealed')
    p.add_argument('out')
    args = p.parse_args()
    with open(args.sealed, 'rb') as file, open(args.out, 'wb') as out:
        before, body, shift, file_id = head_of(file)
        key = blake2b(b'AMBRSEAL', file_key(body, file_id, args))
        bound = file_id + blake2b(before)
        segment, number = file.read((1 << shift) + EXTRA), 0
        while True:
            following = file.read((1 << shift) + EXTRA)
            plain = unseal(segment, bound + struct.pack('<QB7x', number, not following), key)
            need(plain is not None and (plain or not number), f'segment {number} is not as it was written')
            out.write(plain)
            if not following:
                return
            segment, number = following, number + 1


try:
    main()
except (Damage, OSError, CryptoError, struct.error) as e:
    sys.exit(f'unseal.py: {e}')
