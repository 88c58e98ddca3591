/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * key_wrap - secrets wrapped for a passphrase or for a recipient's X25519 key: what key slots are made of, a repository's
 * (key_slot.h) and an encrypted file's (sealed_head.h). docs/SECURITY.md and docs/FORMAT.md have the bytes.
 *
 * For a passphrase: nonce, then XChaCha20-Poly1305 under Argon2id's key, with @bound as associated data. For a recipient:
 * crypto_box_seal() of @bound and the secrets. So none opens when what it is bound to was changed.
 *
 * Thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/repo/key_text.h"
#include "lib/repo/secret.h"

#define KEY_WRAP_KEY   32
#define KEY_WRAP_BOUND 32 /* a hash of what it is bound to */
#define KEY_WRAP_SALT  16
/* Bytes more than the secrets have. */
#define KEY_WRAP_PASSPHRASE_EXTRA 40
#define KEY_WRAP_RECIPIENT_EXTRA  (48 + KEY_WRAP_BOUND)

/* What Argon2id costs in a new slot: 3 passes over 256 MiB, about a second. */
#define KEY_WRAP_OPERATIONS 3
#define KEY_WRAP_MEMORY	    (UINT64_C(256) << 20)
/* the least that it can do: for tests */
#define KEY_WRAP_OPERATIONS_MIN 1
#define KEY_WRAP_MEMORY_MIN	UINT64_C(8192)
/* the most that a slot can ask for: memory, and passes times memory (some 5 seconds) */
#define KEY_WRAP_MEMORY_MAX (UINT64_C(1) << 30)
#define KEY_WRAP_WORK_MAX   (UINT64_C(4) << 30)
/* what all slots together may cost when one passphrase is tried: passes times bytes, some 40 seconds */
#define KEY_WRAP_ALL_WORK_MAX (UINT64_C(32) << 30)

/* What Argon2id is asked for. */
struct key_wrap_cost {
	uint64_t operations, memory; /* passes; bytes */
	uint8_t salt[KEY_WRAP_SALT];
};
/* Is it within the limits above? */
bool key_wrap_cost_ok(uint64_t operations, uint64_t memory);
/* The key of a passphrase; NULL: not enough memory, which @e says. Takes about a second. */
struct secret *key_wrap_derive(const struct key_wrap_cost *cost, const struct secret *passphrase,
			       struct err *e);

/* @ret: @len + KEY_WRAP_PASSPHRASE_EXTRA bytes. */
void key_wrap_seal(const struct secret *key, const uint8_t bound[KEY_WRAP_BOUND],
		   const void *secrets, size_t len, uint8_t *ret);
/* @ret, @len bytes, should be locked memory. -ENOKEY: another key, or what it is bound to was changed. */
int key_wrap_open(const struct secret *key, const uint8_t bound[KEY_WRAP_BOUND],
		  const uint8_t *sealed, void *ret, size_t len);
/* @ret: @len + KEY_WRAP_RECIPIENT_EXTRA bytes. -EINVAL: the public key is none. */
int key_wrap_seal_to(const uint8_t public[KEY_SIZE], const uint8_t bound[KEY_WRAP_BOUND],
		     const void *secrets, size_t len, uint8_t *ret, struct err *e);
/* -ENOKEY: it is not for this key, no words; -EBADMSG, no words: it is, but what it is bound to was changed; -ENOMEM. */
int key_wrap_open_to(const struct key_pair *key, const uint8_t bound[KEY_WRAP_BOUND],
		     const uint8_t *sealed, void *ret, size_t len, struct err *e);
