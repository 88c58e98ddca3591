/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crypt - what a repository's keys do: names, sealing, opening. docs/SECURITY.md has the threat model.
 *
 * Secrets of an encrypted repository:
 *	box secret	X25519; opens session keys: who has it can read
 *	write secret	32 bytes; names chunks, seals index files, and is mixed into every session: who has it (and the box's
 *			public half) can add, and nobody else can
 * "full" rights are both; "write" rights are the write secret and the box's public half.
 *
 * Each pack and image has a session key of its own, sealed to the box. What seals is XChaCha20-Poly1305 under
 * BLAKE2b(key = write secret, "AMBRSESS" + session key), with a random nonce. The key of index files is
 * BLAKE2b(key = write secret, "AMBRINDX"), that of names BLAKE2b(key = write secret, "AMBRNAME"). All are 32 bytes.
 *
 * All functions are thread-safe. Secrets are in locked memory that is not dumped, and are wiped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/repo_format.h"

struct crypt;

enum crypt_rights {
	CRYPT_RIGHTS_WRITE = 1,
	CRYPT_RIGHTS_FULL = 2,
};

/* New secrets. -ENOMEM also when no memory can be locked (RLIMIT_MEMLOCK), with words. */
int crypt_new(struct crypt **ret, struct err *e);
void crypt_free(struct crypt *c);
DEFINE_CLEANUP(struct crypt, crypt_free);
enum crypt_rights crypt_rights(const struct crypt *c);

/* The secrets as bytes that a key slot wraps (lib/repo/keys.h), and back. @ret must be in locked memory of the caller's. */
#define CRYPT_SECRETS_SIZE 100
void crypt_export(const struct crypt *c, enum crypt_rights rights, uint8_t ret[CRYPT_SECRETS_SIZE]);
/* -EBADMSG when they are none. */
int crypt_import(const uint8_t secrets[CRYPT_SECRETS_SIZE], struct crypt **ret, struct err *e);

/*
 * The repository's id follows from its secrets: a hash over the box's public half and something derived from the write
 * secret. So who knows the id cannot be given other secrets by a store that makes key slots of its own (everybody can seal
 * to a public key).
 */
void crypt_repo_id(const struct crypt *c, uint8_t ret[REPO_ID_SIZE]);

/* The name under which the chunk or page @id is stored. @c NULL (nothing is encrypted): the id itself. */
void crypt_name(const struct crypt *c, const struct chunk_id *id, struct chunk_id *ret);

struct crypt_session;
/* For writing one object: a new key, sealed to @sealed. */
int crypt_session_new(const struct crypt *c, uint8_t sealed[REPO_SESSION_SEAL_SIZE],
		      struct crypt_session **ret, struct err *e);
/* For reading it. -EACCES with write rights only; -EBADMSG when @sealed was not made for this repository. */
int crypt_session_open(const struct crypt *c, const uint8_t sealed[REPO_SESSION_SEAL_SIZE],
		       struct crypt_session **ret, struct err *e);
/* The session of index files, that all who may write can read. */
int crypt_session_index(const struct crypt *c, struct crypt_session **ret, struct err *e);
/*
 * The session of a single encrypted file (sealed_head.h), of its random key, and the file's id, which follows from the key: so
 * no file has two.
 */
#define CRYPT_FILE_KEY 32
#define CRYPT_FILE_ID  32
int crypt_session_file(const uint8_t key[CRYPT_FILE_KEY], uint8_t ret_id[CRYPT_FILE_ID],
		       struct crypt_session **ret, struct err *e);
/* The session of the notes of gc: letting go is for those with full rights. -EACCES. */
int crypt_session_notes(const struct crypt *c, struct crypt_session **ret, struct err *e);
void crypt_session_free(struct crypt_session *s);
DEFINE_CLEANUP(struct crypt_session, crypt_session_free);

/* @ret holds @len + REPO_SEAL_EXTRA bytes: nonce, ciphertext, tag. @bound is authenticated with it. Never fails. */
void crypt_seal(const struct crypt_session *s, const void *bound, size_t bound_len,
		const void *plain, size_t len, uint8_t *ret);
/* @sealed_len bytes into @ret (sealed_len - REPO_SEAL_EXTRA). -EBADMSG when a single bit of it or of @bound differs. */
int crypt_open(const struct crypt_session *s, const void *bound, size_t bound_len,
	       const uint8_t *sealed, size_t sealed_len, void *ret);
