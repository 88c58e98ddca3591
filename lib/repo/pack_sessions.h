/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pack_sessions - the session keys of the packs that are being read from, a few at a time.
 *
 * Each takes locked memory, and there are as many as packs: so the one that was not used for the longest time makes
 * room. Thread-safe.
 */
#pragma once

#include <stdint.h>

#include "lib/base/err.h"
#include "lib/repo/crypt.h"
#include "lib/repo/store.h"

struct pack_sessions;
struct pack_session;

/* All are borrowed. 0 or -ENOMEM. */
int pack_sessions_new(struct store *s, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *c,
		      struct pack_sessions **ret);
/* All must have been put back. Accepts NULL. */
void pack_sessions_free(struct pack_sessions *x);
/*
 * The session of the pack named @hash, known as @number; its head is read when it is not at hand. To be given back by
 * pack_sessions_put(). -EACCES with write rights only.
 */
int pack_sessions_get(struct pack_sessions *x, uint32_t number, const uint8_t hash[REPO_NAME_HASH],
		      struct pack_session **ret, struct err *e);
/* Accepts NULL. */
void pack_sessions_put(struct pack_sessions *x, struct pack_session *s);
/* NULL of NULL: not encrypted. */
const struct crypt_session *pack_session_crypt(const struct pack_session *s);
