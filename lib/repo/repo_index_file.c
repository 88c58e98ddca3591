/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_index_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hex.h"
#include "lib/image/digest.h"
#include "lib/image/record.h"
#include "lib/repo/pack.h"

#define NAME_PREFIX "index/"

/* A billion entries are 270 MiB of tables: more than that is no index file but an attempt on our memory. */
#define TABLES_MOST (UINT64_C(512) << 20)
/* Read at first: all of an index file of some 600 entries, all tables of one of 80000. */
#define FIRST_READ UINT64_C(32768)

char *repo_index_file_name(const uint8_t hash[REPO_NAME_HASH], char ret[REPO_INDEX_NAME_SIZE])
{
	char hex[2 * REPO_NAME_HASH + 1];

	snprintf(ret, REPO_INDEX_NAME_SIZE, NAME_PREFIX "%s",
		 hex_encode(hash, REPO_NAME_HASH, hex));
	return ret;
}

int repo_index_file_parse_name(const char *name, uint8_t ret[REPO_NAME_HASH])
{
	if (strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0)
		return -EINVAL;
	return hex_decode(name + strlen(NAME_PREFIX), ret, REPO_NAME_HASH);
}

void repo_index_bound_table(const uint8_t repo_id[REPO_ID_SIZE], const struct repo_index_head *head,
			    size_t len, struct repo_index_bound *ret)
{
	static_assert(sizeof(*head) == sizeof(ret->head.name), "the head fits in the name");
	*ret = (struct repo_index_bound){ .head = { .kind = REPO_KIND_TABLE,
						    .plain_len = le32((uint32_t)len),
						    .frame_len = le32((uint32_t)len) } };
	memcpy(ret->repo_id, repo_id, sizeof(ret->repo_id));
	memcpy(&ret->head.name, head, sizeof(*head));
}

void repo_index_bound_packs(const uint8_t repo_id[REPO_ID_SIZE],
			    const uint8_t digest[REPO_NAME_HASH], size_t len,
			    struct repo_index_bound *ret)
{
	*ret = (struct repo_index_bound){ .head = { .kind = REPO_KIND_PACKS,
						    .plain_len = le32((uint32_t)len),
						    .frame_len = le32((uint32_t)len) } };
	memcpy(ret->repo_id, repo_id, sizeof(ret->repo_id));
	memcpy(&ret->head.name, digest, REPO_NAME_HASH);
}

void repo_index_bound_block(const uint8_t repo_id[REPO_ID_SIZE], uint64_t block, size_t len,
			    struct repo_index_bound *ret)
{
	const le64_t number = le64(block);

	*ret = (struct repo_index_bound){ .head = { .kind = REPO_KIND_BLOCK,
						    .plain_len = le32((uint32_t)len),
						    .frame_len = le32((uint32_t)len) } };
	memcpy(ret->repo_id, repo_id, sizeof(ret->repo_id));
	memcpy(&ret->head.name, &number, sizeof(number));
}

void repo_index_block_check(const void *stored, size_t len, uint8_t ret[AMBRO_CHECK_SIZE])
{
	const struct iovec block = { (void *)stored, len };
	uint8_t hash[DIGEST_SIZE];

	digest_of(&block, 1, hash);
	memcpy(ret, hash, AMBRO_CHECK_SIZE);
}

int repo_entry_compare(const struct repo_entry *a, const struct repo_entry *b)
{
	const int r = memcmp(&a->name, &b->name, sizeof(a->name));
	const uint64_t at_a = (uint64_t)le32_get(a->pack) << 32 | le32_get(a->offset);
	const uint64_t at_b = (uint64_t)le32_get(b->pack) << 32 | le32_get(b->offset);

	return r ? r : (at_a > at_b) - (at_a < at_b);
}

/* ---- opening --------------------------------------------------------------------------------------- */

void repo_index_file_free(struct repo_index_file *f)
{
	if (!f)
		return;
	if (!f->tables)
		free(f->block);
	free(f->tables);
	free(f->packs);
	free(f->whole);
	free(f);
}

int repo_index_file_settle(struct repo_index_file *f)
{
	const size_t len = ((size_t)f->blocks + 1) * sizeof(*f->block);
	struct repo_index_block *block;

	if (!f->tables)
		return 0;
	block = malloc(len);
	if (!block)
		return -ENOMEM;
	memcpy(block, f->block, len);
	free(f->tables);
	free(TAKE_PTR(f->packs));
	f->block = block;
	f->tables = NULL;
	f->supersedes = NULL;
	return 0;
}

void repo_index_file_forget(struct repo_index_file *f)
{
	free(TAKE_PTR(f->whole));
}

static uint64_t sealed_extra(const struct repo_index_source *from)
{
	return from->session ? REPO_SEAL_EXTRA : 0;
}

/* The counts of the head against each other, the record's length and the object's. */
static int counts_check(const struct repo_index_source *from, struct repo_index_file *f,
			const struct repo_index_head *head, uint64_t tables_len, struct err *e)
{
	const uint64_t extra = sealed_extra(from);
	uint64_t len, packs_len;

	if (memcmp(head->magic, REPO_INDEX_MAGIC, sizeof(head->magic)) != 0 ||
	    !le32_get(head->version))
		return err_set(e, -EBADMSG, "the REPO_INDEX record begins with something else");
	if (le32_get(head->version) > 1) {
		return err_set(e, -ENOTSUP, "it has version %" PRIu32 ": a newer tool is needed",
			       le32_get(head->version));
	}
	f->n_supersedes = le32_get(head->supersedes);
	f->n_packs = le32_get(head->packs);
	f->blocks = le32_get(head->blocks);
	f->entries = le64_get(head->entries);
	len = (uint64_t)f->n_supersedes * REPO_NAME_HASH + sizeof(f->packs_digest) +
	      ((uint64_t)f->blocks + 1) * sizeof(*f->block);
	packs_len = (uint64_t)f->n_packs * sizeof(*f->packs);
	f->blocks_at = f->packs_at + packs_len + extra;
	if (tables_len != len + extra || packs_len > TABLES_MOST || f->blocks_at > f->size ||
	    f->entries > f->size / sizeof(struct repo_entry) ||
	    f->blocks != DIV_ROUND_UP(f->entries, REPO_INDEX_BLOCK) ||
	    f->size - f->blocks_at != f->entries * sizeof(struct repo_entry) + f->blocks * extra)
		return err_set(e, -EBADMSG, "its counts contradict each other or its size");
	return 0;
}

/* After @f->tables and the counts. */
static int tables_point(struct repo_index_file *f, struct err *e)
{
	uint8_t *at = f->tables + (size_t)f->n_supersedes * REPO_NAME_HASH;

	f->supersedes = f->tables;
	memcpy(f->packs_digest, at, sizeof(f->packs_digest));
	f->block = (void *)(at + sizeof(f->packs_digest));
	for (size_t i = 0; i < f->blocks; i++) {
		if (memcmp(f->block[i].first, f->block[i + 1].first, sizeof(f->block->first)) > 0)
			return err_set(e, -EBADMSG, "its table of blocks is not in order");
	}
	return 0;
}

/* @body: the REPO_INDEX record's, checked. */
static int tables_parse(const struct repo_index_source *from, struct repo_index_file *f,
			const uint8_t *body, uint64_t body_len, struct err *e)
{
	struct repo_index_bound bound;
	struct repo_index_head head;
	uint64_t len;
	int r;

	if (body_len < sizeof(head))
		return err_set(e, -EBADMSG, "the REPO_INDEX record is too short");
	memcpy(&head, body, sizeof(head));
	body += sizeof(head);
	body_len -= sizeof(head);
	r = counts_check(from, f, &head, body_len, e);
	if (r < 0)
		return r;
	len = body_len - sealed_extra(from);
	f->tables = malloc(len);
	if (!f->tables)
		return err_oom(e);
	if (from->session) {
		repo_index_bound_table(from->repo_id, &head, len, &bound);
		if (crypt_open(from->session, &bound, sizeof(bound), body, body_len, f->tables) < 0)
			return err_set(e, -EBADMSG, "its seal is broken: damaged, or altered");
	} else {
		memcpy(f->tables, body, len);
	}
	return tables_point(f, e);
}

static int head_parse(const struct repo_index_source *from, struct repo_index_file *f,
		      const uint8_t *bytes, uint64_t len, struct record_head *ret, struct err *e)
{
	struct repo_pack_head head;
	bool sealed;
	int r;

	if (len < PACK_HEAD_SIZE + sizeof(*ret))
		return err_set(e, -EBADMSG, "its %" PRIu64 " bytes are too few", len);
	r = pack_head_check(bytes, len, REPO_PURPOSE_INDEX, from->repo_id, &head, e);
	if (r < 0)
		return r;
	sealed = le64_get(head.require_features) & REPO_REQUIRE_SEALED;
	if (sealed && !from->session)
		return err_set(e, -ENOKEY, "it is encrypted: a key is needed");
	if (!sealed && from->session) {
		return err_set(e, -EBADMSG,
			       "it is not encrypted, as all that belongs to this repository is");
	}
	memcpy(ret, bytes + PACK_HEAD_SIZE, sizeof(*ret));
	r = record_head_check(ret, (enum ambro_record_type)REPO_RECORD_INDEX,
			      f->size - PACK_HEAD_SIZE, "REPO_INDEX", e);
	if (r < 0)
		return r;
	if (record_body_len(ret) > TABLES_MOST)
		return err_set(e, -EBADMSG, "its tables are too long");
	f->packs_at = PACK_HEAD_SIZE + record_frame_len(record_body_len(ret));
	return 0;
}

/* @stored: the table of packs. */
static int packs_take(const struct repo_index_source *from, struct repo_index_file *f,
		      const uint8_t *stored, struct err *e)
{
	const size_t len = (size_t)f->n_packs * sizeof(*f->packs);
	_cleanup_free_ struct repo_index_pack *packs = malloc(MAX(len, (size_t)1));
	const struct iovec table = { packs, len };
	struct repo_index_bound bound;
	uint8_t digest[DIGEST_SIZE];

	if (!packs)
		return err_oom(e);
	if (from->session) {
		repo_index_bound_packs(from->repo_id, f->packs_digest, len, &bound);
		if (crypt_open(from->session, &bound, sizeof(bound), stored, len + REPO_SEAL_EXTRA,
			       packs) < 0) {
			return err_set(e, -EBADMSG,
				       "the seal of its table of packs is broken: damaged, or "
				       "altered");
		}
	} else {
		memcpy(packs, stored, len);
	}
	digest_of(&table, 1, digest);
	if (memcmp(digest, f->packs_digest, sizeof(digest)) != 0)
		return err_set(e, -EBADMSG, "its table of packs is damaged");
	for (size_t i = 0; i < f->n_packs; i++) {
		if (le32_get(packs[i].size) > REPO_PACK_MAX)
			return err_set(e, -EBADMSG, "it names a pack that is too large to be one");
	}
	f->packs = TAKE_PTR(packs);
	return 0;
}

static int file_load(const struct repo_index_source *from, struct repo_index_file *f, struct err *e)
{
	const size_t first = MIN(f->size, FIRST_READ);
	_cleanup_free_ uint8_t *bytes = malloc(MAX(first, 1u));
	char name[REPO_INDEX_NAME_SIZE];
	struct record_head head;
	uint8_t *more;
	int r;

	if (!bytes)
		return err_oom(e);
	repo_index_file_name(f->hash, name);
	r = store_get(from->store, name, 0, bytes, first, e);
	if (r == 0)
		r = head_parse(from, f, bytes, first, &head, e);
	if (r < 0)
		return r;
	if (f->packs_at > first) {
		more = realloc(bytes, f->packs_at);
		if (!more)
			return err_oom(e);
		bytes = more;
		r = store_get(from->store, name, first, bytes + first, f->packs_at - first, e);
		if (r < 0)
			return r;
	}
	r = record_body_check(&head, bytes + PACK_HEAD_SIZE + sizeof(head), "REPO_INDEX", e);
	if (r < 0)
		return r;
	r = tables_parse(from, f, bytes + PACK_HEAD_SIZE + sizeof(head), record_body_len(&head), e);
	if (r == 0 && f->blocks_at <= first)
		r = packs_take(from, f, bytes + f->packs_at, e);
	if (r == 0 && first == f->size)
		f->whole = TAKE_PTR(bytes);
	return r;
}

/* @r, which reading the file @hash has returned, in the words of this header. */
static int file_failed(const uint8_t hash[REPO_NAME_HASH], int r, struct err *e)
{
	char name[REPO_INDEX_NAME_SIZE];

	repo_index_file_name(hash, name);
	if (r == -ENOENT) {
		return err_set(e, -ESTALE,
			       "the index file %s is gone: the index has to be loaded anew", name);
	}
	/* it is named by its bytes: that it is shorter now than when it was listed cannot be */
	if (r == -ENODATA)
		r = err_set(e, -EBADMSG, "it ends too early");
	if (r == -EBADMSG || r == -EXDEV || r == -ENOTSUP || r == -ENOKEY)
		err_prefix(e, "the index file %s", name);
	return r;
}

int repo_index_file_open(const struct repo_index_source *from, const uint8_t hash[REPO_NAME_HASH],
			 uint64_t size, struct repo_index_file **ret, struct err *e)
{
	_cleanup_(repo_index_file_freep) struct repo_index_file *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return err_oom(e);
	memcpy(f->hash, hash, sizeof(f->hash));
	f->size = size;
	r = file_load(from, f, e);
	if (r < 0)
		return file_failed(hash, r, e);
	*ret = TAKE_PTR(f);
	return 0;
}

int repo_index_file_packs(const struct repo_index_source *from, struct repo_index_file *f,
			  struct err *e)
{
	const size_t len = f->blocks_at - f->packs_at;
	_cleanup_free_ uint8_t *stored = NULL;
	char name[REPO_INDEX_NAME_SIZE];
	int r;

	if (f->packs)
		return 0;
	stored = malloc(MAX(len, (size_t)1));
	if (!stored)
		return err_oom(e);
	r = store_get(from->store, repo_index_file_name(f->hash, name), f->packs_at, stored, len,
		      e);
	if (r == 0)
		r = packs_take(from, f, stored, e);
	return r < 0 ? file_failed(f->hash, r, e) : 0;
}

/* ---- blocks ---------------------------------------------------------------------------------------- */

size_t repo_index_file_entries(const struct repo_index_file *f, uint32_t first, uint32_t count)
{
	const uint64_t from = (uint64_t)first * REPO_INDEX_BLOCK;

	return MIN((uint64_t)count * REPO_INDEX_BLOCK, f->entries - from);
}

static bool entries_plausible(const struct repo_index_source *from, const struct repo_index_file *f,
			      uint32_t block, const struct repo_entry *entries, size_t n)
{
	const size_t len = sizeof(f->block->first);

	for (size_t i = 0; i < n; i++) {
		if (le32_get(entries[i].pack) >= f->n_packs ||
		    !pack_entry_plausible(&entries[i], from->session, REPO_PACK_MAX)) {
			return false;
		}
		if (i && memcmp(&entries[i - 1].name, &entries[i].name, sizeof(entries->name)) > 0)
			return false;
	}
	return memcmp(entries[0].name.b, f->block[block].first, len) == 0 &&
	       memcmp(entries[n - 1].name.b, f->block[block + 1].first, len) <= 0 &&
	       (block + 1 < f->blocks ||
		memcmp(entries[n - 1].name.b, f->block[block + 1].first, len) == 0);
}

static int block_take(const struct repo_index_source *from, const struct repo_index_file *f,
		      uint32_t block, const uint8_t *stored, struct repo_entry *ret)
{
	const size_t n = repo_index_file_entries(f, block, 1), len = n * sizeof(*ret);
	const size_t stored_len = len + sealed_extra(from);
	uint8_t check[AMBRO_CHECK_SIZE];
	struct repo_index_bound bound;

	repo_index_block_check(stored, stored_len, check);
	if (memcmp(check, f->block[block].check, sizeof(check)) != 0)
		return -EBADMSG;
	if (from->session) {
		repo_index_bound_block(from->repo_id, block, len, &bound);
		if (crypt_open(from->session, &bound, sizeof(bound), stored, stored_len, ret) < 0)
			return -EBADMSG;
	} else {
		memcpy(ret, stored, len);
	}
	if (!entries_plausible(from, f, block, ret, n))
		return -EBADMSG;
	for (size_t i = 0; f->numbers && i < n; i++)
		ret[i].pack = le32(f->numbers[le32_get(ret[i].pack)]);
	return 0;
}

int repo_index_file_read(const struct repo_index_source *from, const struct repo_index_file *f,
			 uint32_t first, uint32_t count, struct repo_entry *ret, struct err *e)
{
	const size_t stride = REPO_INDEX_BLOCK * sizeof(*ret) + sealed_extra(from);
	const size_t len = repo_index_file_entries(f, first, count) * sizeof(*ret) +
			   count * sealed_extra(from);
	uint8_t one[REPO_INDEX_BLOCK * sizeof(*ret) + REPO_SEAL_EXTRA];
	_cleanup_free_ uint8_t *many = count > 1 && !f->whole ? malloc(len) : NULL;
	const uint64_t at = f->blocks_at + first * (uint64_t)stride;
	const uint8_t *stored = f->whole ? f->whole + at : count > 1 ? many : one;
	char name[REPO_INDEX_NAME_SIZE];
	int r = 0;

	if (!stored)
		return err_oom(e);
	repo_index_file_name(f->hash, name);
	if (!f->whole)
		r = store_get(from->store, name, at, (void *)stored, len, e);
	if (r < 0)
		return file_failed(f->hash, r, e);
	for (uint32_t i = 0; i < count; i++) {
		struct repo_entry *to = ret + (size_t)i * REPO_INDEX_BLOCK;

		r = block_take(from, f, first + i, stored + i * stride, to);
		/* the table of blocks, which only has the beginnings of names, cannot tell */
		if (r == 0 && i && memcmp(&to[-1].name, &to->name, sizeof(to->name)) > 0)
			r = -EBADMSG;
		if (r < 0) {
			return err_set(e, r,
				       "the index file %s is damaged in block %" PRIu32
				       ": it has to be repaired",
				       name, first + i);
		}
	}
	return 0;
}

uint32_t repo_index_file_block_of(const struct repo_index_file *f, const struct chunk_id *name)
{
	uint32_t low = 0, high = f->blocks;

	if (!f->blocks || !repo_index_file_in_block(f, 0, name) ||
	    memcmp(name->b, f->block[f->blocks].first, sizeof(f->block->first)) > 0)
		return f->blocks;
	/* the first block whose beginning is not less */
	while (low < high) {
		const uint32_t mid = low + (high - low) / 2;

		if (memcmp(f->block[mid].first, name->b, sizeof(f->block->first)) < 0) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	/* the one before it may end with the name */
	return low ? low - 1 : 0;
}
