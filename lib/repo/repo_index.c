/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/repo_index_private.h"

/* Whoever merges deletes what was merged at least a grace period later: to lose this race twice is no accident. */
#define LOAD_TRIES 3

int repo_index_open_within(struct store *s, const uint8_t repo_id[REPO_ID_SIZE],
			   const struct crypt *crypt, uint64_t resident, struct repo_index **ret,
			   struct err *e)
{
	_cleanup_(repo_index_freep) struct repo_index *x = calloc(1, sizeof(*x));
	int r = 0;

	if (!x)
		return err_oom(e);
	x->crypt = crypt;
	x->source.store = s;
	memcpy(x->source.repo_id, repo_id, sizeof(x->source.repo_id));
	if (crypt) {
		r = crypt_session_index(crypt, &x->session, e);
		if (r < 0)
			return r;
		x->source.session = x->session;
	}
	for (int i = 0; i < LOAD_TRIES; i++) {
		r = repo_index_load(x, resident, e);
		if (r != -ESTALE)
			break;
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(x);
	return 0;
}

int repo_index_open(struct store *s, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
		    struct repo_index **ret, struct err *e)
{
	return repo_index_open_within(s, repo_id, crypt, REPO_INDEX_RESIDENT, ret, e);
}

void repo_index_free(struct repo_index *x)
{
	if (!x)
		return;
	repo_index_unload(x);
	crypt_session_free(x->session);
	free(x);
}

/* ---- finding --------------------------------------------------------------------------------------- */

/* What is looked for. */
struct find {
	const struct chunk_id *name;
	uint64_t after; /* ordinal; UINT64_MAX: from the first on */
	bool all;	/* in excluded packs, too */
	const struct repo_index_blocks *blocks;
};

/* @entry's pack is over all files. False: it is excluded. */
static bool place_fill(const struct repo_index *x, const struct repo_entry *entry, uint64_t ordinal,
		       const struct find *find, struct repo_place *ret)
{
	const uint32_t pack = le32_get(entry->pack);
	const bool page = le32_get(entry->plain_len) & REPO_ENTRY_PAGE;

	if (!find->all && x->packs.items[pack].excluded)
		return false;
	*ret = (struct repo_place){
		.pack = pack,
		.kind = page ? REPO_KIND_PAGE : REPO_KIND_CHUNK,
		.entry = *entry,
		.ordinal = ordinal,
	};
	return true;
}

static int resident_find(const struct repo_index *x, const struct find *find,
			 struct repo_place *ret)
{
	uint64_t after = find->after;

	for (;;) {
		after = repo_index_resident_next(&x->resident, find->name, after);
		if (after == UINT64_MAX)
			return -ENOENT;
		if (place_fill(x, &x->resident.entries[after], after, find, ret))
			return 0;
	}
}

/* What repo_index_find() takes blocks from. */
struct cached_blocks {
	const struct repo_index *x;
	struct repo_entry entries[REPO_INDEX_BLOCK];
};

static int cached_blocks_get(void *ctx, size_t file, uint32_t block, const struct repo_entry **ret,
			     size_t *ret_n, struct err *e)
{
	struct cached_blocks *c = ctx;
	const struct repo_index *x = c->x;
	const uint64_t key = (uint64_t)file << 32 | block;
	int r;

	*ret = c->entries;
	if (repo_index_cache_get(x->cache, key, c->entries, ret_n))
		return 0;
	r = repo_index_file_read(&x->source, x->files[file], block, 1, c->entries, e);
	if (r < 0)
		return r;
	*ret_n = repo_index_file_entries(x->files[file], block, 1);
	repo_index_cache_put(x->cache, key, c->entries, *ret_n);
	return 0;
}

/* The first of @n sorted entries whose name is not less. */
static size_t block_search(const struct repo_entry *entries, size_t n, const struct chunk_id *name)
{
	size_t low = 0, high = n;

	while (low < high) {
		const size_t mid = low + (high - low) / 2;

		if (memcmp(&entries[mid].name, name, sizeof(*name)) < 0) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

static int file_find(const struct repo_index *x, size_t file, const struct find *find,
		     struct repo_place *ret, struct err *e)
{
	const struct chunk_id *name = find->name;
	const uint64_t after = find->after;
	const struct repo_entry *entries = NULL;
	const struct repo_index_file *f = x->files[file];
	uint32_t block = repo_index_file_block_of(f, name);
	size_t n = 0;

	for (; block < f->blocks && repo_index_file_in_block(f, block, name); block++) {
		const uint64_t base = f->base + (uint64_t)block * REPO_INDEX_BLOCK;
		int r;

		if (after != UINT64_MAX && base + REPO_INDEX_BLOCK - 1 <= after)
			continue;
		r = find->blocks->get(find->blocks->ctx, file, block, &entries, &n, e);
		if (r < 0)
			return r;
		for (size_t i = block_search(entries, n, name);
		     i < n && memcmp(&entries[i].name, name, sizeof(*name)) == 0; i++) {
			if ((after == UINT64_MAX || base + i > after) &&
			    place_fill(x, &entries[i], base + i, find, ret))
				return 0;
		}
	}
	return -ENOENT;
}

int repo_index_find_by(const struct repo_index *x, const struct repo_index_blocks *blocks,
		       const struct chunk_id *name, const uint64_t *ordinal_after,
		       struct repo_place *ret, struct err *e)
{
	const struct find find = { .name = name,
				   .after = ordinal_after ? *ordinal_after : UINT64_MAX,
				   .all = ordinal_after != NULL,
				   .blocks = blocks };
	int r = resident_find(x, &find, ret);

	for (size_t i = x->resident_files; r == -ENOENT && i < x->n_files; i++) {
		const struct repo_index_file *f = x->files[i];

		if (find.after != UINT64_MAX && f->base + f->entries <= find.after)
			continue;
		r = file_find(x, i, &find, ret, e);
	}
	return r;
}

int repo_index_find(const struct repo_index *x, const struct chunk_id *name,
		    const uint64_t *ordinal_after, struct repo_place *ret, struct err *e)
{
	struct cached_blocks cached; /* large: not to be zeroed for each name */
	const struct repo_index_blocks blocks = { &cached, cached_blocks_get };

	cached.x = x;
	return repo_index_find_by(x, &blocks, name, ordinal_after, ret, e);
}

/* ---- all of it ------------------------------------------------------------------------------------- */

uint64_t repo_index_entries(const struct repo_index *x)
{
	return x->entries;
}

size_t repo_index_packs(const struct repo_index *x)
{
	return x->packs.n;
}

const struct repo_index_pack_info *repo_index_pack(const struct repo_index *x, uint32_t pack)
{
	return &x->packs.items[pack];
}

int repo_index_exclude(struct repo_index *x, const uint8_t hash[REPO_NAME_HASH])
{
	uint32_t pack;
	int r = pack_set_find(&x->packs, hash, &pack);

	if (r == 0)
		x->packs.items[pack].excluded = true;
	return r;
}

static int entries_each(const struct repo_entry *entries, size_t n, uint64_t ordinal,
			repo_index_fn fn, void *ctx)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++)
		r = fn(ctx, ordinal + i, le32_get(entries[i].pack), &entries[i]);
	return MIN(r, 0);
}

/* Blocks that are read at once: 256 KiB. */
#define EACH_BLOCKS 64u

int repo_index_each(const struct repo_index *x, repo_index_fn fn, void *ctx, struct err *e)
{
	_cleanup_free_ struct repo_entry *entries = NULL;
	int r = entries_each(x->resident.entries, x->resident.n, 0, fn, ctx);

	if (r < 0 || x->resident_files == x->n_files)
		return r;
	entries = calloc((size_t)EACH_BLOCKS * REPO_INDEX_BLOCK, sizeof(*entries));
	if (!entries)
		return err_oom(e);
	for (size_t i = x->resident_files; i < x->n_files; i++) {
		const struct repo_index_file *f = x->files[i];

		for (uint32_t b = 0; r == 0 && b < f->blocks; b += EACH_BLOCKS) {
			const uint32_t count = MIN(EACH_BLOCKS, f->blocks - b);

			r = repo_index_file_read(&x->source, f, b, count, entries, e);
			if (r == 0) {
				r = entries_each(entries, repo_index_file_entries(f, b, count),
						 f->base + (uint64_t)b * REPO_INDEX_BLOCK, fn, ctx);
			}
		}
		if (r < 0)
			return r;
	}
	return 0;
}

size_t repo_index_files(const struct repo_index *x)
{
	return x->n_files + x->n_superseded;
}

const uint8_t *repo_index_file(const struct repo_index *x, size_t i, bool *ret_superseded)
{
	*ret_superseded = i >= x->n_files;
	return i < x->n_files ? x->files[i]->hash : x->superseded[i - x->n_files];
}

uint64_t repo_index_memory(const struct repo_index *x)
{
	uint64_t sum = sizeof(*x) + repo_index_files(x) * REPO_NAME_HASH;

	for (size_t i = 0; i < x->n_files; i++) {
		sum += sizeof(*x->files[i]) +
		       ((uint64_t)x->files[i]->blocks + 1) * sizeof(*x->files[i]->block);
	}
	for (size_t i = 0; i < x->n_numbers; i++)
		sum += x->numbers[i].n * sizeof(*x->numbers[i].number);
	return sum + repo_index_resident_memory(&x->resident) + pack_set_memory(&x->packs) +
	       repo_index_cache_memory(x->cache);
}
