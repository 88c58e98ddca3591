/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which index files count. Somebody may merge them or delete merged ones while we look:
 *
 *  L1. A file is left out only when one that is here and whole names it as superseded.
 *  L2. Who supersedes was put after all those that together take the place of the old ones. So when it was seen in one
 *	listing, a second listing that began afterwards has them all. What was seen in the second one only supersedes nothing.
 *  L3. A damaged file is an error, unless it is superseded.
 *  L4. Files that were merged together have the same table of packs, 26 MiB in a repository of 40 TiB: it is read from one of
 *	those that count, in no two of them. That it is theirs, too, say the tables of each, which were checked. That another
 *	one's copy rotted is for `repo check` to find, which hashes whole objects.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/repo_index_private.h"

struct listed {
	uint8_t hash[REPO_NAME_HASH];
	uint64_t size;
	struct repo_index_file *file; /* NULL: it could not be opened */
	bool superseded;
};

struct listing {
	struct listed *items;
	size_t n, room;
};

static void listing_done(struct listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		repo_index_file_free(l->items[i].file);
	free(l->items);
	*l = (struct listing){ 0 };
}

static int listing_add(void *ctx, const char *name, uint64_t size)
{
	struct listing *l = ctx;
	const size_t room = l->room ? 2 * l->room : 64;
	uint8_t hash[REPO_NAME_HASH];
	struct listed *more;

	if (repo_index_file_parse_name(name, hash) < 0)
		return 0;
	if (l->n == l->room) {
		more = realloc(l->items, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		l->items = more;
		l->room = room;
	}
	l->items[l->n] = (struct listed){ .size = size };
	memcpy(l->items[l->n++].hash, hash, sizeof(hash));
	return 0;
}

static int hash_compare(const void *a, const void *b)
{
	return memcmp(a, b, REPO_NAME_HASH);
}

/* Sorted by hash, which is what a struct listed begins with; each one once, whatever the store says. */
static int listing_load(struct repo_index *x, struct listing *ret, struct err *e)
{
	size_t n = 0;
	int r = store_list(x->source.store, "index/", listing_add, ret, e);

	if (r < 0)
		return r == -ENOMEM ? err_oom(e) : r;
	if (ret->n)
		qsort(ret->items, ret->n, sizeof(*ret->items), hash_compare);
	for (size_t i = 0; i < ret->n; i++) {
		if (!n || hash_compare(&ret->items[n - 1], &ret->items[i]) != 0)
			ret->items[n++] = ret->items[i];
	}
	ret->n = n;
	return 0;
}

static struct listed *listing_find(const struct listing *l, const uint8_t hash[REPO_NAME_HASH])
{
	return l->n ? bsearch(hash, l->items, l->n, sizeof(*l->items), hash_compare) : NULL;
}

static int listing_open_one(struct repo_index *x, struct listed *it, struct err *e)
{
	return repo_index_file_open(&x->source, it->hash, it->size, &it->file, e);
}

/* Those that are damaged are left without a file. */
static int listing_open(struct repo_index *x, struct listing *l, struct err *e)
{
	for (size_t i = 0; i < l->n; i++) {
		struct listed *it = &l->items[i];
		int r = it->file ? 0 : listing_open_one(x, it, e);

		if (r < 0 && r != -EBADMSG)
			return r;
	}
	return 0;
}

/* ---- what is superseded ---------------------------------------------------------------------------- */

static bool listing_supersedes(const struct listing *l)
{
	for (size_t i = 0; i < l->n; i++) {
		if (l->items[i].file && l->items[i].file->n_supersedes)
			return true;
	}
	return false;
}

/* L1, L2: by the files of @before, mark those of @now. */
static void listing_mark(const struct listing *before, const struct listing *now)
{
	for (size_t i = 0; i < before->n; i++) {
		const struct listed *here = listing_find(now, before->items[i].hash);
		const struct repo_index_file *f = here ? here->file : NULL;

		for (size_t j = 0; f && j < f->n_supersedes; j++) {
			struct listed *it = listing_find(now, f->supersedes + j * REPO_NAME_HASH);

			if (it && it != here)
				it->superseded = true;
		}
	}
}

/* L2: list again, and what is known of the first listing's files goes over. */
static int listing_again(struct repo_index *x, struct listing *before, struct listing *now,
			 struct err *e)
{
	int r = listing_load(x, now, e);

	for (size_t i = 0; r == 0 && i < before->n; i++) {
		struct listed *it = listing_find(now, before->items[i].hash);

		if (it)
			it->file = TAKE_PTR(before->items[i].file);
	}
	if (r == 0)
		r = listing_open(x, now, e);
	if (r == 0)
		listing_mark(before, now);
	return r;
}

/* L3. The error in words is had by failing again. */
static int listing_judge(struct repo_index *x, struct listing *l, struct err *e)
{
	for (size_t i = 0; i < l->n; i++) {
		struct listed *it = &l->items[i];
		int r = it->file || it->superseded ? 0 : listing_open_one(x, it, e);

		if (r < 0)
			return r;
	}
	return 0;
}

static int size_compare(const void *a, const void *b)
{
	const struct repo_index_file *f = *(struct repo_index_file *const *)a;
	const struct repo_index_file *g = *(struct repo_index_file *const *)b;

	if (f->size != g->size)
		return f->size < g->size ? -1 : 1;
	return memcmp(f->hash, g->hash, sizeof(f->hash));
}

/* From the listing to the index: the small ones first. */
static int files_take(struct repo_index *x, struct listing *l, struct err *e)
{
	x->files = calloc(l->n + 1, sizeof(struct repo_index_file *));
	x->superseded = calloc(l->n + 1, sizeof(*x->superseded));
	if (!x->files || !x->superseded) {
		err_oom(e);
		return -ENOMEM;
	}
	for (size_t i = 0; i < l->n; i++) {
		struct listed *it = &l->items[i];

		if (it->superseded) {
			memcpy(x->superseded[x->n_superseded++], it->hash, sizeof(it->hash));
		} else if (it->file) { /* always: L3 */
			x->files[x->n_files++] = TAKE_PTR(it->file);
		}
	}
	qsort(x->files, x->n_files, sizeof(struct repo_index_file *), size_compare);
	return 0;
}

static int files_find(struct repo_index *x, struct err *e)
{
	_cleanup_(listing_done) struct listing first = { 0 };
	_cleanup_(listing_done) struct listing second = { 0 };
	struct listing *last = &first;
	int r = listing_load(x, &first, e);

	if (r == 0)
		r = listing_open(x, &first, e);
	if (r == 0 && listing_supersedes(&first)) {
		last = &second;
		r = listing_again(x, &first, &second, e);
	}
	if (r == 0)
		r = listing_judge(x, last, e);
	return r < 0 ? r : files_take(x, last, e);
}

/* ---- packs' numbers -------------------------------------------------------------------------------- */

static int numbers_make(struct repo_index *x, const struct repo_index_file *f,
			struct pack_numbers *ret)
{
	ret->n = f->n_packs;
	ret->number = malloc(MAX(f->n_packs, 1u) * sizeof(*ret->number));
	if (!ret->number)
		return -ENOMEM;
	for (uint32_t i = 0; i < f->n_packs; i++) {
		int r = pack_set_add(&x->packs, f->packs[i].hash, le32_get(f->packs[i].size),
				     le32_get(f->packs[i].entries), &ret->number[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* L4 */
static int file_number(struct repo_index *x, struct repo_index_file *f, struct err *e)
{
	struct pack_numbers *numbers = x->numbers;
	int r;

	while (numbers < x->numbers + x->n_numbers &&
	       (numbers->n != f->n_packs ||
		memcmp(numbers->digest, f->packs_digest, sizeof(f->packs_digest)) != 0))
		numbers++;
	if (numbers == x->numbers + x->n_numbers) {
		r = repo_index_file_packs(&x->source, f, e);
		if (r < 0)
			return r;
		x->n_numbers++;
		memcpy(numbers->digest, f->packs_digest, sizeof(f->packs_digest));
		r = numbers_make(x, f, numbers);
		if (r < 0)
			return r;
	}
	f->numbers = numbers->number;
	return 0;
}

static int files_number(struct repo_index *x, struct err *e)
{
	x->numbers = calloc(x->n_files + 1, sizeof(*x->numbers));
	if (!x->numbers)
		return err_oom(e);
	for (size_t i = 0; i < x->n_files; i++) {
		int r = file_number(x, x->files[i], e);

		if (r == 0)
			r = repo_index_file_settle(x->files[i]);
		if (r == -ENOMEM)
			return err_oom(e);
		if (r == -EOVERFLOW)
			return err_set_errno(e, r, "the index files name too many packs");
		if (r < 0)
			return r;
		x->files[i]->base = x->entries;
		x->entries += x->files[i]->entries;
	}
	return 0;
}

/* ---- entries --------------------------------------------------------------------------------------- */

/* Blocks that are read at once: 1 MiB. */
#define READ_BLOCKS 256u

static int resident_read(struct repo_index *x, const struct repo_index_file *f, struct err *e)
{
	for (uint32_t i = 0; i < f->blocks; i += READ_BLOCKS) {
		struct repo_entry *to =
			x->resident.entries + f->base + (uint64_t)i * REPO_INDEX_BLOCK;
		int r = repo_index_file_read(&x->source, f, i, MIN(READ_BLOCKS, f->blocks - i), to,
					     e);

		if (r < 0)
			return r;
	}
	return 0;
}

static int resident_fill(struct repo_index *x, uint64_t most, struct err *e)
{
	uint64_t bytes = 0, n = 0;
	int r = 0;

	while (x->resident_files < x->n_files) {
		const struct repo_index_file *f = x->files[x->resident_files];

		/* as they are held, an eighth more than as they are stored */
		bytes += f->size + f->size / 8;
		if (bytes > most || n + f->entries > UINT32_MAX)
			break;
		n += f->entries;
		x->resident_files++;
	}
	x->resident.entries = calloc(n + 1, sizeof(*x->resident.entries));
	if (!x->resident.entries)
		return err_oom(e);
	x->resident.n = n;
	for (size_t i = 0; r == 0 && i < x->resident_files; i++)
		r = resident_read(x, x->files[i], e);
	if (r < 0)
		return r;
	if (repo_index_resident_sort(&x->resident) < 0)
		return err_oom(e);
	if (x->resident_files < x->n_files) {
		x->cache = repo_index_cache_new();
		if (!x->cache)
			return err_oom(e);
	}
	for (size_t i = 0; i < x->n_files; i++)
		repo_index_file_forget(x->files[i]);
	return 0;
}

void repo_index_unload(struct repo_index *x)
{
	for (size_t i = 0; i < x->n_files; i++)
		repo_index_file_free(x->files[i]);
	for (size_t i = 0; i < x->n_numbers; i++)
		free(x->numbers[i].number);
	free(x->files);
	free(x->superseded);
	free(x->numbers);
	repo_index_resident_done(&x->resident);
	pack_set_done(&x->packs);
	repo_index_cache_free(x->cache);
	*x = (struct repo_index){ .source = x->source, .session = x->session, .crypt = x->crypt };
}

int repo_index_load(struct repo_index *x, uint64_t resident, struct err *e)
{
	int r = files_find(x, e);

	if (r == 0)
		r = files_number(x, e);
	if (r == 0)
		r = resident_fill(x, resident, e);
	if (r < 0)
		repo_index_unload(x);
	return r;
}
