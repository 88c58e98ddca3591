/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * key_text - X25519 keys as lines of text, for files and for paper.
 *
 *	AMBRO-SECRET-1:<72 hexadecimal digits>		a secret key
 *	AMBRO-PUBLIC-1:<72 hexadecimal digits>		its public half: may be shown to anybody
 *	AMBRO-REPOSITORY-1:<40 hexadecimal digits>	the repository that it is for: no other one is unlocked with it
 *
 * The last 8 digits are the first 4 bytes of BLAKE2b-256 over all that stands before them in the line, so that a slip of the
 * pen is told. Empty lines and lines that begin with '#' mean nothing; every line at most once. Upper case is as good.
 *
 * Why a repository's id is worth a line: everybody can seal to a public key, so a store could answer with a repository of its
 * own making, and the client would write its images for the store to read. The id follows from the secrets
 * (crypt_repo_id()), so who has it cannot be given others.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/repo/repo_format.h"
#include "lib/repo/secret.h"

#define KEY_SIZE	  32
#define KEY_TEXT_MAX	  96   /* of one line, with its end */
#define KEY_TEXT_FILE_MAX 4096 /* of a file */

/* Keep it in secret_alloc()'s memory. */
struct key_pair {
	bool has_secret, has_repository;
	uint8_t secret[KEY_SIZE];
	uint8_t public[KEY_SIZE];
	uint8_t repository[REPO_ID_SIZE];
};

void key_pair_free(struct key_pair *k);
DEFINE_CLEANUP(struct key_pair, key_pair_free);

/* A new one; NULL as secret_alloc(). */
struct key_pair *key_pair_generate(struct err *e);

/* One line without its end; @ret should be locked memory for the secret one. They return @ret. */
char *key_text_secret(const struct key_pair *k, char ret[KEY_TEXT_MAX]);
char *key_text_public(const uint8_t public[KEY_SIZE], char ret[KEY_TEXT_MAX]);
char *key_text_repository(const uint8_t id[REPO_ID_SIZE], char ret[KEY_TEXT_MAX]);

/* A file with a secret or a public key. -EINVAL with words that begin with @what. Hostile input is safe. */
int key_text_parse(const char *what, const uint8_t *text, size_t len, struct key_pair **ret,
		   struct err *e);
