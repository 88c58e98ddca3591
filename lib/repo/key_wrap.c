/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/key_wrap.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <sodium.h>

#define WRAP_NONCE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES

static_assert(KEY_WRAP_KEY == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "libsodium's");
static_assert(KEY_WRAP_PASSPHRASE_EXTRA == WRAP_NONCE + crypto_aead_xchacha20poly1305_ietf_ABYTES,
	      "libsodium's");
static_assert(KEY_WRAP_RECIPIENT_EXTRA == crypto_box_SEALBYTES + KEY_WRAP_BOUND, "libsodium's");
static_assert(KEY_WRAP_SALT == crypto_pwhash_argon2id_SALTBYTES, "libsodium's");
static_assert(KEY_WRAP_OPERATIONS_MIN == crypto_pwhash_argon2id_OPSLIMIT_MIN, "libsodium's");
static_assert(KEY_WRAP_MEMORY_MIN == crypto_pwhash_argon2id_MEMLIMIT_MIN, "libsodium's");

bool key_wrap_cost_ok(uint64_t operations, uint64_t memory)
{
	return operations >= KEY_WRAP_OPERATIONS_MIN && memory >= KEY_WRAP_MEMORY_MIN &&
	       memory <= KEY_WRAP_MEMORY_MAX && operations <= KEY_WRAP_WORK_MAX / memory;
}

struct secret *key_wrap_derive(const struct key_wrap_cost *cost, const struct secret *passphrase,
			       struct err *e)
{
	struct secret *key = secret_new(KEY_WRAP_KEY, e);

	if (key && crypto_pwhash(key->bytes, key->len, (const char *)passphrase->bytes,
				 passphrase->len, cost->salt, cost->operations, cost->memory,
				 crypto_pwhash_ALG_ARGON2ID13) < 0) {
		err_set(e, -ENOMEM,
			"not enough memory for the passphrase's key: it takes %" PRIu64 " MiB",
			cost->memory >> 20);
		secret_free(key);
		return NULL;
	}
	return key;
}

void key_wrap_seal(const struct secret *key, const uint8_t bound[KEY_WRAP_BOUND],
		   const void *secrets, size_t len, uint8_t *ret)
{
	randombytes_buf(ret, WRAP_NONCE);
	crypto_aead_xchacha20poly1305_ietf_encrypt(ret + WRAP_NONCE, NULL, secrets, len, bound,
						   KEY_WRAP_BOUND, NULL, ret, key->bytes);
}

int key_wrap_open(const struct secret *key, const uint8_t bound[KEY_WRAP_BOUND],
		  const uint8_t *sealed, void *ret, size_t len)
{
	return crypto_aead_xchacha20poly1305_ietf_decrypt(
		       ret, NULL, NULL, sealed + WRAP_NONCE,
		       len + crypto_aead_xchacha20poly1305_ietf_ABYTES, bound, KEY_WRAP_BOUND,
		       sealed, key->bytes) < 0
		       ? -ENOKEY
		       : 0;
}

int key_wrap_seal_to(const uint8_t public[KEY_SIZE], const uint8_t bound[KEY_WRAP_BOUND],
		     const void *secrets, size_t len, uint8_t *ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *both = secret_new(KEY_WRAP_BOUND + len, e);

	if (!both)
		return -ENOMEM;
	memcpy(both->bytes, bound, KEY_WRAP_BOUND);
	memcpy(both->bytes + KEY_WRAP_BOUND, secrets, len);
	if (crypto_box_seal(ret, both->bytes, both->len, public) < 0)
		return err_set(e, -EINVAL, "the recipient's public key is none");
	return 0;
}

int key_wrap_open_to(const struct key_pair *key, const uint8_t bound[KEY_WRAP_BOUND],
		     const uint8_t *sealed, void *ret, size_t len, struct err *e)
{
	_cleanup_(secret_freep) struct secret *both = secret_new(KEY_WRAP_BOUND + len, e);

	if (!both)
		return -ENOMEM;
	if (crypto_box_seal_open(both->bytes, sealed, len + KEY_WRAP_RECIPIENT_EXTRA, key->public,
				 key->secret) < 0)
		return -ENOKEY;
	if (sodium_memcmp(bound, both->bytes, KEY_WRAP_BOUND) != 0)
		return -EBADMSG;
	memcpy(ret, both->bytes + KEY_WRAP_BOUND, len);
	return 0;
}
