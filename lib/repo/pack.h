/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pack - a pack while it is filled, and walking through one that is stored.
 *
 * A pack holds some 64 MiB of chunks and pages. It is written to the store piece by piece while it grows, as a draft that
 * nobody sees: its name is the hash of its bytes. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/crypt.h"
#include "lib/repo/repo_format.h"
#include "lib/repo/store.h"

struct pack;

/* An empty one for @store. @crypt may be NULL: not encrypted. Both borrowed. It takes a few MiB of memory. */
int pack_new(struct store *store, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
	     struct pack **ret, struct err *e);
/* What was not put was never there. */
void pack_free(struct pack *p);
DEFINE_CLEANUP(struct pack, pack_free);

/*
 * Add a chunk (@frame: its zstd frame) or a page (@frame: its body, then plain_len == frame_len), whose plain id is @id.
 * 0, -ENOMEM, -EINVAL (lengths that no chunk or page has), -EFBIG: more than REPO_PACK_MAX, which who ends a pack at
 * REPO_PACK_SIZE never sees, or an error of the store, after which the pack can only be freed.
 */
int pack_add(struct pack *p, enum repo_kind kind, const struct chunk_id *id, uint32_t plain_len,
	     const void *frame, uint32_t frame_len, struct err *e);
/* As it would be stored if it ended here. */
uint64_t pack_bytes(const struct pack *p);
size_t pack_entries(const struct pack *p);
/* What is in it, by offset; `pack` is 0. Valid until it is changed. */
const struct repo_entry *pack_entry(const struct pack *p, size_t i);
/* It ends here: PACK_INDEX and PACK_END are added, and its name is known. Errors as pack_add(). */
int pack_seal(struct pack *p, uint8_t ret_hash[REPO_NAME_HASH], struct err *e);
/* After pack_seal(): it is in the store when this returns 0. That it was there already is fine. */
int pack_put(struct pack *p, struct err *e);

/* "packs/4f/4f0c…" */
#define PACK_NAME_SIZE 80
char *pack_name(const uint8_t hash[REPO_NAME_HASH], char ret[PACK_NAME_SIZE]);

/*
 * The first record of a pack, index file or image at @bytes; checked against @repo_id and @purpose. -EBADMSG: damaged, or
 * of another purpose; -EXDEV: of another repository; -ENOTSUP: a newer tool's.
 */
int pack_head_check(const void *bytes, size_t len, enum repo_purpose purpose,
		    const uint8_t repo_id[REPO_ID_SIZE], struct repo_pack_head *ret, struct err *e);
/*
 * Make it; 160 bytes. With @crypt a session is made too (else *ret_session is NULL); an index file's is the one that all of
 * them share.
 */
#define PACK_HEAD_SIZE 160
int pack_head_make(const struct crypt *crypt, enum repo_purpose purpose,
		   const uint8_t repo_id[REPO_ID_SIZE], uint8_t ret[PACK_HEAD_SIZE],
		   struct crypt_session **ret_session, struct err *e);

/* Could it be an entry of a pack whose entries end before offset @end? Looks at lengths and offset only. */
bool pack_entry_plausible(const struct repo_entry *entry, bool sealed, uint64_t end);

/*
 * A stored pack's own list of entries, by its PACK_END (its size, then two or three reads of the store). When that is
 * damaged and @walk: the whole pack is read, and what is whole is listed: chunks are decoded and compared with their ids.
 * (In an encrypted pack the records' checks decide, and nothing is listed when the PACK record, which has the session, is
 * damaged.) @ret is allocated, also when *ret_n is 0. Hostile input is safe. -EBADMSG: damaged; -EXDEV, -ENOTSUP as
 * pack_head_check(); otherwise an error of the store.
 */
int pack_read_index(struct store *s, const uint8_t hash[REPO_NAME_HASH],
		    const uint8_t repo_id[REPO_ID_SIZE], bool walk, struct repo_entry **ret,
		    size_t *ret_n, struct err *e);

/*
 * The bytes @stored that an entry named (frame_len of them), decrypted and checked as far as that can be done without
 * the id: what results is the zstd frame, or the page's body, in @ret (at least frame_len bytes), *ret_len of them.
 * @session NULL: not encrypted.
 */
int pack_entry_open(const struct repo_entry *entry, const uint8_t repo_id[REPO_ID_SIZE],
		    const struct crypt_session *session, const void *stored, void *ret,
		    size_t *ret_len, struct err *e);
