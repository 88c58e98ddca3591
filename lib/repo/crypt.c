/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/crypt.h"

#include <errno.h>
#include <string.h>

#include <sodium.h>

#include "lib/repo/secret.h"

#define CRYPT_KEY     32
#define CRYPT_LABEL   8
#define CRYPT_VERSION 1

static_assert(REPO_SESSION_SEAL_SIZE == crypto_box_SEALBYTES + CRYPT_KEY, "libsodium's");
static_assert(REPO_SEAL_NONCE == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "libsodium's");
static_assert(REPO_SEAL_TAG == crypto_aead_xchacha20poly1305_ietf_ABYTES, "libsodium's");
static_assert(CRYPT_KEY == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "libsodium's");
static_assert(CRYPT_KEY == crypto_box_SECRETKEYBYTES, "libsodium's");
static_assert(CRYPT_KEY == crypto_box_PUBLICKEYBYTES, "libsodium's");
static_assert(CRYPT_FILE_KEY == CRYPT_KEY, "as all keys");
static_assert(CRYPT_FILE_ID == CRYPT_KEY, "what crypt_derive() makes");

struct crypt {
	enum crypt_rights rights;
	uint8_t box_public[CRYPT_KEY];
	uint8_t box_secret[CRYPT_KEY]; /* zeros with write rights */
	uint8_t write_secret[CRYPT_KEY];
	uint8_t name_key[CRYPT_KEY]; /* derived */
};

struct crypt_session {
	uint8_t key[CRYPT_KEY];
};

/* What crypt_export() makes. */
struct crypt_secrets {
	uint8_t version; /* CRYPT_VERSION */
	uint8_t rights;	 /* enum crypt_rights */
	uint8_t reserved[2];
	uint8_t box_public[CRYPT_KEY];
	uint8_t box_secret[CRYPT_KEY];
	uint8_t write_secret[CRYPT_KEY];
};
static_assert(sizeof(struct crypt_secrets) == CRYPT_SECRETS_SIZE, "on-disk size");

/* BLAKE2b-256(key = @secret, label + more): keys for different ends tell nothing of each other. */
static void crypt_derive(const uint8_t secret[CRYPT_KEY], const char label[CRYPT_LABEL],
			 const uint8_t *more, size_t more_len, uint8_t ret[CRYPT_KEY])
{
	crypto_generichash_state state;

	crypto_generichash_init(&state, secret, CRYPT_KEY, CRYPT_KEY);
	crypto_generichash_update(&state, (const uint8_t *)label, CRYPT_LABEL);
	if (more_len)
		crypto_generichash_update(&state, more, more_len);
	crypto_generichash_final(&state, ret, CRYPT_KEY);
	sodium_memzero(&state, sizeof(state));
}

int crypt_new(struct crypt **ret, struct err *e)
{
	struct crypt *c = secret_alloc(sizeof(*c), e);

	if (!c)
		return -ENOMEM;
	c->rights = CRYPT_RIGHTS_FULL;
	crypto_box_keypair(c->box_public, c->box_secret);
	randombytes_buf(c->write_secret, CRYPT_KEY);
	crypt_derive(c->write_secret, "AMBRNAME", NULL, 0, c->name_key);
	*ret = c;
	return 0;
}

void crypt_free(struct crypt *c)
{
	secret_release(c);
}

enum crypt_rights crypt_rights(const struct crypt *c)
{
	return c->rights;
}

void crypt_repo_id(const struct crypt *c, uint8_t ret[REPO_ID_SIZE])
{
	uint8_t both[2 * CRYPT_KEY];

	memcpy(both, c->box_public, CRYPT_KEY);
	crypt_derive(c->write_secret, "AMBRREPO", NULL, 0, both + CRYPT_KEY);
	crypto_generichash(ret, REPO_ID_SIZE, both, sizeof(both), NULL, 0);
}

void crypt_export(const struct crypt *c, enum crypt_rights rights, uint8_t ret[CRYPT_SECRETS_SIZE])
{
	struct crypt_secrets *s = (struct crypt_secrets *)ret;

	memset(s, 0, sizeof(*s));
	s->version = CRYPT_VERSION;
	s->rights = (uint8_t)MIN(rights, c->rights);
	memcpy(s->box_public, c->box_public, CRYPT_KEY);
	memcpy(s->write_secret, c->write_secret, CRYPT_KEY);
	if (s->rights == CRYPT_RIGHTS_FULL)
		memcpy(s->box_secret, c->box_secret, CRYPT_KEY);
}

/* Do its parts belong together? */
static bool crypt_secrets_valid(const struct crypt_secrets *s)
{
	uint8_t box_public[CRYPT_KEY];

	if (s->version != CRYPT_VERSION || s->reserved[0] || s->reserved[1])
		return false;
	if (s->rights == CRYPT_RIGHTS_WRITE)
		return sodium_is_zero(s->box_secret, CRYPT_KEY);
	if (s->rights != CRYPT_RIGHTS_FULL)
		return false;
	crypto_scalarmult_base(box_public, s->box_secret);
	return !sodium_memcmp(box_public, s->box_public, CRYPT_KEY);
}

int crypt_import(const uint8_t secrets[CRYPT_SECRETS_SIZE], struct crypt **ret, struct err *e)
{
	const struct crypt_secrets *s = (const struct crypt_secrets *)secrets;
	struct crypt *c = secret_alloc(sizeof(*c), e);

	if (!c)
		return -ENOMEM;
	if (!crypt_secrets_valid(s)) {
		secret_release(c);
		return err_set(e, -EBADMSG, "these are no secrets of a repository");
	}
	c->rights = (enum crypt_rights)s->rights;
	memcpy(c->box_public, s->box_public, CRYPT_KEY);
	memcpy(c->box_secret, s->box_secret, CRYPT_KEY);
	memcpy(c->write_secret, s->write_secret, CRYPT_KEY);
	crypt_derive(c->write_secret, "AMBRNAME", NULL, 0, c->name_key);
	*ret = c;
	return 0;
}

void crypt_name(const struct crypt *c, const struct chunk_id *id, struct chunk_id *ret)
{
	if (!c) {
		*ret = *id;
		return;
	}
	crypto_generichash(ret->b, sizeof(ret->b), id->b, sizeof(id->b), c->name_key, CRYPT_KEY);
}

int crypt_session_new(const struct crypt *c, uint8_t sealed[REPO_SESSION_SEAL_SIZE],
		      struct crypt_session **ret, struct err *e)
{
	struct crypt_session *s = secret_alloc(sizeof(*s), e);

	if (!s)
		return -ENOMEM;
	randombytes_buf(s->key, CRYPT_KEY);
	if (crypto_box_seal(sealed, s->key, CRYPT_KEY, c->box_public) < 0) {
		crypt_session_free(s);
		return err_set(e, -EBADMSG, "the repository's public key is none");
	}
	crypt_derive(c->write_secret, "AMBRSESS", s->key, CRYPT_KEY, s->key);
	*ret = s;
	return 0;
}

int crypt_session_open(const struct crypt *c, const uint8_t sealed[REPO_SESSION_SEAL_SIZE],
		       struct crypt_session **ret, struct err *e)
{
	struct crypt_session *s;

	if (c->rights != CRYPT_RIGHTS_FULL) {
		return err_set(e, -EACCES,
			       "this key may add images to the repository, but not read them");
	}
	s = secret_alloc(sizeof(*s), e);
	if (!s)
		return -ENOMEM;
	if (crypto_box_seal_open(s->key, sealed, REPO_SESSION_SEAL_SIZE, c->box_public,
				 c->box_secret) < 0) {
		crypt_session_free(s);
		return err_set(e, -EBADMSG,
			       "its session key is damaged, or was not made for this repository");
	}
	crypt_derive(c->write_secret, "AMBRSESS", s->key, CRYPT_KEY, s->key);
	*ret = s;
	return 0;
}

int crypt_session_index(const struct crypt *c, struct crypt_session **ret, struct err *e)
{
	struct crypt_session *s = secret_alloc(sizeof(*s), e);

	if (!s)
		return -ENOMEM;
	crypt_derive(c->write_secret, "AMBRINDX", NULL, 0, s->key);
	*ret = s;
	return 0;
}

int crypt_session_notes(const struct crypt *c, struct crypt_session **ret, struct err *e)
{
	struct crypt_session *s;

	if (c->rights != CRYPT_RIGHTS_FULL) {
		return err_set(e, -EACCES,
			       "this key may add images, not let go of any: that takes one with "
			       "full rights");
	}
	s = secret_alloc(sizeof(*s), e);
	if (!s)
		return -ENOMEM;
	crypt_derive(c->box_secret, "AMBRNOTE", NULL, 0, s->key);
	*ret = s;
	return 0;
}

int crypt_session_file(const uint8_t key[CRYPT_FILE_KEY], uint8_t ret_id[CRYPT_FILE_ID],
		       struct crypt_session **ret, struct err *e)
{
	struct crypt_session *s = secret_alloc(sizeof(*s), e);

	if (!s)
		return -ENOMEM;
	crypt_derive(key, "AMBRSEAL", NULL, 0, s->key);
	crypt_derive(key, "AMBRFILE", NULL, 0, ret_id);
	*ret = s;
	return 0;
}

void crypt_session_free(struct crypt_session *s)
{
	secret_release(s);
}

void crypt_seal(const struct crypt_session *s, const void *bound, size_t bound_len,
		const void *plain, size_t len, uint8_t *ret)
{
	/* random: of 192 bits, no two are ever the same */
	randombytes_buf(ret, REPO_SEAL_NONCE);
	crypto_aead_xchacha20poly1305_ietf_encrypt(ret + REPO_SEAL_NONCE, NULL, plain, len, bound,
						   bound_len, NULL, ret, s->key);
}

int crypt_open(const struct crypt_session *s, const void *bound, size_t bound_len,
	       const uint8_t *sealed, size_t sealed_len, void *ret)
{
	if (sealed_len < REPO_SEAL_EXTRA)
		return -EBADMSG;
	return crypto_aead_xchacha20poly1305_ietf_decrypt(ret, NULL, NULL, sealed + REPO_SEAL_NONCE,
							  sealed_len - REPO_SEAL_NONCE, bound,
							  bound_len, sealed, s->key) < 0
		       ? -EBADMSG
		       : 0;
}
