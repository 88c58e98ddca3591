/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_index_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/digest.h"
#include "lib/image/record.h"
#include "lib/repo/pack.h"
#include "lib/repo/repo_index_file.h"

struct repo_index_writer {
	uint8_t repo_id[REPO_ID_SIZE];
	uint8_t head[PACK_HEAD_SIZE];
	struct crypt_session *session; /* NULL: not encrypted */
	size_t stride;		       /* of a full block, as stored */

	struct repo_entry entries[REPO_INDEX_BLOCK]; /* of the block that is not full yet */
	size_t n;
	uint64_t all; /* entries, with these */
	uint8_t last[8];

	uint8_t *bytes; /* blocks, as stored */
	size_t used, room;
	struct repo_index_block *block; /* one more than there are */
	size_t blocks, block_room;
};

int repo_index_writer_new(const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
			  struct repo_index_writer **ret, struct err *e)
{
	_cleanup_(repo_index_writer_freep) struct repo_index_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_oom(e);
	memcpy(w->repo_id, repo_id, sizeof(w->repo_id));
	r = pack_head_make(crypt, REPO_PURPOSE_INDEX, repo_id, w->head, &w->session, e);
	if (r < 0)
		return r;
	w->stride = sizeof(w->entries) + (w->session ? REPO_SEAL_EXTRA : 0);
	*ret = TAKE_PTR(w);
	return 0;
}

void repo_index_writer_free(struct repo_index_writer *w)
{
	if (!w)
		return;
	crypt_session_free(w->session);
	free(w->bytes);
	free(w->block);
	free(w);
}

static int writer_reserve(struct repo_index_writer *w)
{
	void *more;

	if (w->room - w->used < w->stride) {
		const size_t room = MAX(64 * w->stride, w->room + w->room / 2);

		more = realloc(w->bytes, room);
		if (!more)
			return -ENOMEM;
		w->bytes = more;
		w->room = room;
	}
	if (w->blocks + 2 > w->block_room) {
		const size_t room = MAX((size_t)64, 2 * w->block_room);

		more = realloc(w->block, room * sizeof(*w->block));
		if (!more)
			return -ENOMEM;
		w->block = more;
		w->block_room = room;
	}
	return 0;
}

/* There is room for it. */
static void block_end(struct repo_index_writer *w)
{
	const size_t len = w->n * sizeof(*w->entries);
	struct repo_index_block *block = &w->block[w->blocks];
	const size_t stored = len + (w->session ? REPO_SEAL_EXTRA : 0);
	uint8_t *to = w->bytes + w->used;
	struct repo_index_bound bound;

	if (w->session) {
		repo_index_bound_block(w->repo_id, w->blocks, len, &bound);
		crypt_seal(w->session, &bound, sizeof(bound), w->entries, len, to);
	} else {
		memcpy(to, w->entries, len);
	}
	memcpy(block->first, w->entries[0].name.b, sizeof(block->first));
	repo_index_block_check(to, stored, block->check);
	memcpy(w->last, w->entries[w->n - 1].name.b, sizeof(w->last));
	w->used += stored;
	w->blocks++;
	w->n = 0;
}

int repo_index_writer_add(struct repo_index_writer *w, const struct repo_entry *entry)
{
	if (writer_reserve(w) < 0)
		return -ENOMEM;
	w->entries[w->n++] = *entry;
	w->all++;
	if (w->n == REPO_INDEX_BLOCK)
		block_end(w);
	return 0;
}

uint64_t repo_index_writer_entries(const struct repo_index_writer *w)
{
	return w->all;
}

static void writer_reset(struct repo_index_writer *w)
{
	w->n = 0;
	w->all = 0;
	w->used = 0;
	w->blocks = 0;
	memset(w->last, 0, sizeof(w->last));
}

/* The REPO_INDEX record's body, allocated. @digest: of the table of packs. */
static int tables_make(const struct repo_index_writer *w, const struct repo_index_tables *t,
		       const uint8_t digest[REPO_NAME_HASH], uint8_t **ret, size_t *ret_len)
{
	const size_t supersedes = (size_t)t->n_supersedes * REPO_NAME_HASH;
	const size_t blocks = (w->blocks + 1) * sizeof(*w->block);
	const size_t len = supersedes + REPO_NAME_HASH + blocks;
	struct repo_index_head head = {
		.version = le32(1),
		.supersedes = le32(t->n_supersedes),
		.packs = le32(t->n_packs),
		.blocks = le32((uint32_t)w->blocks),
		.entries = le64(w->all),
	};
	_cleanup_free_ uint8_t *tables = malloc(len);
	uint8_t *body = malloc(sizeof(head) + len + REPO_SEAL_EXTRA);
	struct repo_index_bound bound;

	if (!tables || !body) {
		free(body);
		return -ENOMEM;
	}
	memcpy(head.magic, REPO_INDEX_MAGIC, sizeof(head.magic));
	if (supersedes)
		memcpy(tables, t->supersedes, supersedes);
	memcpy(tables + supersedes, digest, REPO_NAME_HASH);
	memcpy(tables + supersedes + REPO_NAME_HASH, w->block, blocks);
	memcpy(body, &head, sizeof(head));
	if (w->session) {
		repo_index_bound_table(w->repo_id, &head, len, &bound);
		crypt_seal(w->session, &bound, sizeof(bound), tables, len, body + sizeof(head));
	} else {
		memcpy(body + sizeof(head), tables, len);
	}
	*ret = body;
	*ret_len = sizeof(head) + len + (w->session ? REPO_SEAL_EXTRA : 0);
	return 0;
}

/* The table of packs as it is stored, and its digest. *ret_sealed: allocated, when it has to be. */
static int packs_make(const struct repo_index_writer *w, const struct repo_index_tables *t,
		      uint8_t ret_digest[REPO_NAME_HASH], uint8_t **ret_sealed, struct iovec *ret)
{
	struct repo_index_bound bound;

	*ret = (struct iovec){ (void *)t->packs, (size_t)t->n_packs * sizeof(*t->packs) };
	digest_of(ret, 1, ret_digest);
	if (!w->session)
		return 0;
	*ret_sealed = malloc(ret->iov_len + REPO_SEAL_EXTRA);
	if (!*ret_sealed)
		return -ENOMEM;
	repo_index_bound_packs(w->repo_id, ret_digest, ret->iov_len, &bound);
	crypt_seal(w->session, &bound, sizeof(bound), ret->iov_base, ret->iov_len, *ret_sealed);
	*ret = (struct iovec){ *ret_sealed, ret->iov_len + REPO_SEAL_EXTRA };
	return 0;
}

int repo_index_writer_put(struct repo_index_writer *w, const struct repo_index_tables *t,
			  struct store *s, uint8_t ret_hash[REPO_NAME_HASH], struct err *e)
{
	_cleanup_free_ uint8_t *body = NULL;
	_cleanup_free_ uint8_t *sealed = NULL;
	uint8_t digest[DIGEST_SIZE];
	char name[REPO_INDEX_NAME_SIZE];
	struct record_head head;
	struct iovec parts[5];
	size_t len;
	int r;

	if (writer_reserve(w) < 0)
		return err_oom(e);
	if (w->n)
		block_end(w);
	w->block[w->blocks] = (struct repo_index_block){ 0 };
	memcpy(w->block[w->blocks].first, w->last, sizeof(w->last));
	if (packs_make(w, t, digest, &sealed, &parts[3]) < 0 ||
	    tables_make(w, t, digest, &body, &len) < 0)
		return err_oom(e);
	record_make((enum ambro_record_type)REPO_RECORD_INDEX, body, len, &head);
	parts[0] = (struct iovec){ w->head, sizeof(w->head) };
	parts[1] = (struct iovec){ &head, sizeof(head) };
	parts[2] = (struct iovec){ body, len };
	parts[4] = (struct iovec){ w->bytes, w->used };
	digest_of(parts, ARRAY_SIZE(parts), ret_hash);
	r = store_putv(s, repo_index_file_name(ret_hash, name), parts, ARRAY_SIZE(parts), e);
	writer_reset(w);
	/* a store that asks twice may be answered so */
	return r == -EEXIST ? 0 : r;
}
