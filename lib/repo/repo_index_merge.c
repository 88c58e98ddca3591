/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariants, at every step of a merge, and whatever fails or is killed:
 *
 *  M1. Nothing is deleted and no object changes: what was found before is found, but for packs that are not kept.
 *  M2. The new files together hold every entry of the merged ones whose pack is kept. Only the last of them supersedes, and
 *	it is put when all others are durable. So readers leave an old file out only when all of it is in new ones.
 *  M3. What the merged files superseded, and is still there, is superseded again: otherwise it would come back to life when
 *	they are deleted, and with it the packs that had been left out.
 *  M4. No new file has the name of an old one, even if it says the same: each has random bytes in its head. Otherwise
 *	whoever superseded the old one would make the new one disappear.
 *
 *	old files ──put──▶ old + some new: entries twice ──put the last──▶ new; old ones superseded ──(gc)──▶ new
 *			      │ killed here: entries stay twice until the next merge, which drops one of each
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/repo_index.h"
#include "lib/repo/repo_index_private.h"
#include "lib/repo/repo_index_writer.h"

#define NOT_KEPT UINT32_MAX

/* Blocks that are read at once: 64 KiB. */
#define CURSOR_BLOCKS 16u

/* One old file, entry by entry. */
struct cursor {
	const struct repo_index_file *file;
	const struct repo_entry *at; /* n of them are in memory */
	size_t n;
	uint32_t next;		    /* block to be read; == file->blocks: none */
	struct repo_entry *entries; /* NULL: it is resident */
};

struct merge {
	const struct repo_index *x;
	uint32_t *number; /* of each pack of @x in the new files, or NOT_KEPT */
	struct repo_index_pack *packs;
	uint32_t n_packs;
	bool *merged; /* for each file of @x */
	struct cursor *cursors;
	struct cursor **heap; /* those with entries left, the least name first */
	size_t n_cursors, n_heap;
	struct repo_entry *same; /* entries of one name */
	size_t n_same, same_room;
	uint64_t file_entries;
	struct repo_index_writer *writer;
};

static void merge_done(struct merge *m)
{
	for (size_t i = 0; i < m->n_cursors; i++)
		free(m->cursors[i].entries);
	free(m->cursors);
	free(m->heap);
	free(m->number);
	free(m->packs);
	free(m->merged);
	free(m->same);
	repo_index_writer_free(m->writer);
}

/* ---- what is merged -------------------------------------------------------------------------------- */

static bool file_names_lost(const struct merge *m, const struct repo_index_file *f)
{
	for (uint32_t i = 0; i < f->n_packs; i++) {
		if (m->number[f->numbers[i]] == NOT_KEPT)
			return true;
	}
	return false;
}

/* Returns whether there is something to be done. */
static bool files_choose(struct merge *m, uint64_t most)
{
	bool lost = false;

	for (size_t i = 0; i < m->x->n_files; i++) {
		const struct repo_index_file *f = m->x->files[i];
		const bool names_lost = file_names_lost(m, f);

		m->merged[i] = names_lost || f->entries <= most;
		m->n_cursors += m->merged[i];
		lost |= names_lost;
	}
	return lost || m->n_cursors > 1;
}

/* Number the packs that the merged files name and that are kept. */
static void packs_number(struct merge *m)
{
	for (size_t i = 0; i < m->x->n_files; i++) {
		const struct repo_index_file *f = m->x->files[i];

		for (uint32_t j = 0; m->merged[i] && j < f->n_packs; j++) {
			if (m->number[f->numbers[j]] != NOT_KEPT)
				m->number[f->numbers[j]] = 1;
		}
	}
	for (size_t i = 0; i < m->x->packs.n; i++) {
		const struct repo_index_pack_info *info = &m->x->packs.items[i];
		struct repo_index_pack *pack = &m->packs[m->n_packs];

		if (m->number[i] != 1)
			continue;
		*pack = (struct repo_index_pack){ .size = le32(info->size),
						  .entries = le32(info->entries) };
		memcpy(pack->hash, info->hash, sizeof(pack->hash));
		m->number[i] = m->n_packs++;
	}
}

static int merge_choose(struct merge *m, const struct repo_index_merge *how, bool *ret,
			struct err *e)
{
	const struct repo_index *x = m->x;

	m->number = calloc(x->packs.n + 1, sizeof(*m->number));
	m->packs = calloc(x->packs.n + 1, sizeof(*m->packs));
	m->merged = calloc(x->n_files + 1, sizeof(*m->merged));
	if (!m->number || !m->packs || !m->merged)
		return err_oom(e);
	for (size_t i = 0; how->keep && i < x->packs.n; i++)
		m->number[i] = how->keep(how->ctx, (uint32_t)i) ? 0 : NOT_KEPT;
	*ret = files_choose(m, how->most);
	if (*ret)
		packs_number(m);
	return 0;
}

/* ---- in the order of names ------------------------------------------------------------------------- */

/* The next entry is c->at[0], if c->n is not 0 afterwards. */
static int cursor_fill(const struct repo_index *x, struct cursor *c, struct err *e)
{
	const uint32_t count = MIN(CURSOR_BLOCKS, c->file->blocks - c->next);
	int r;

	if (c->n || !count)
		return 0;
	r = repo_index_file_read(&x->source, c->file, c->next, count, c->entries, e);
	if (r < 0)
		return r;
	c->at = c->entries;
	c->n = repo_index_file_entries(c->file, c->next, count);
	c->next += count;
	return 0;
}

static int cursor_open(const struct repo_index *x, size_t file, struct cursor *ret, struct err *e)
{
	const struct repo_index_file *f = x->files[file];

	*ret = (struct cursor){ .file = f };
	if (file < x->resident_files) {
		ret->at = x->resident.entries + f->base;
		ret->n = f->entries;
		ret->next = f->blocks;
		return 0;
	}
	ret->entries = calloc((size_t)CURSOR_BLOCKS * REPO_INDEX_BLOCK, sizeof(*ret->entries));
	if (!ret->entries)
		return err_oom(e);
	return cursor_fill(x, ret, e);
}

static bool heap_less(const struct merge *m, size_t i, size_t j)
{
	return memcmp(&m->heap[i]->at->name, &m->heap[j]->at->name, sizeof(struct chunk_id)) < 0;
}

static void heap_sink(struct merge *m, size_t i)
{
	for (;;) {
		size_t least = i;
		struct cursor *c = m->heap[i];

		for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < m->n_heap; child++) {
			if (heap_less(m, child, least))
				least = child;
		}
		if (least == i)
			return;
		m->heap[i] = m->heap[least];
		m->heap[least] = c;
		i = least;
	}
}

static int merge_begin(struct merge *m, struct err *e)
{
	const size_t n = m->n_cursors;

	m->n_cursors = 0;
	m->n_heap = 0;
	m->cursors = calloc(n, sizeof(*m->cursors));
	m->heap = calloc(n, sizeof(struct cursor *));
	if (!m->cursors || !m->heap) {
		err_oom(e);
		return -ENOMEM;
	}
	for (size_t i = 0; i < m->x->n_files; i++) {
		struct cursor *c = &m->cursors[m->n_cursors];
		int r;

		if (!m->merged[i])
			continue;
		m->n_cursors++;
		r = cursor_open(m->x, i, c, e);
		if (r < 0)
			return r;
		if (c->n)
			m->heap[m->n_heap++] = c;
	}
	for (size_t i = m->n_heap / 2; i > 0; i--)
		heap_sink(m, i - 1);
	return 0;
}

static int same_add(struct merge *m, const struct repo_entry *entry)
{
	const uint32_t number = m->number[le32_get(entry->pack)];
	const size_t room = m->same_room ? 2 * m->same_room : 16;
	struct repo_entry *more;

	if (number == NOT_KEPT)
		return 0;
	if (m->n_same == m->same_room) {
		more = realloc(m->same, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		m->same = more;
		m->same_room = room;
	}
	m->same[m->n_same] = *entry;
	m->same[m->n_same++].pack = le32(number);
	return 0;
}

/* All entries of the least name into m->same, with their new packs' numbers. */
static int same_take(struct merge *m, struct err *e)
{
	const struct chunk_id name = m->heap[0]->at->name;

	m->n_same = 0;
	while (m->n_heap && memcmp(&m->heap[0]->at->name, &name, sizeof(name)) == 0) {
		struct cursor *c = m->heap[0];
		int r;

		if (same_add(m, c->at) < 0)
			return err_oom(e);
		c->at++;
		c->n--;
		r = cursor_fill(m->x, c, e);
		if (r < 0)
			return r;
		/* what is not in order would make a file that nobody reads */
		if (c->n && memcmp(&c->at->name, &name, sizeof(name)) < 0) {
			return err_set(e, -EBADMSG,
				       "an index file is not in order: it has to be repaired");
		}
		if (!c->n)
			m->heap[0] = m->heap[--m->n_heap];
		heap_sink(m, 0);
	}
	return 0;
}

/* ---- out ------------------------------------------------------------------------------------------- */

static int output_put(struct merge *m, const uint8_t *supersedes, size_t n, struct err *e)
{
	const struct repo_index_tables tables = {
		.packs = m->packs,
		.supersedes = supersedes,
		.n_packs = m->n_packs,
		.n_supersedes = (uint32_t)n,
	};
	uint8_t hash[REPO_NAME_HASH];

	return repo_index_writer_put(m->writer, &tables, m->x->source.store, hash, e);
}

static int entry_order(const void *a, const void *b)
{
	return repo_entry_compare(a, b);
}

/* One of each: what is in two files may be the same place. */
static int same_write(struct merge *m, struct err *e)
{
	if (m->n_same > 1)
		qsort(m->same, m->n_same, sizeof(*m->same), entry_order);
	for (size_t i = 0; i < m->n_same; i++) {
		int r = 0;

		if (i && memcmp(&m->same[i - 1], &m->same[i], sizeof(*m->same)) == 0)
			continue;
		if (repo_index_writer_entries(m->writer) >= m->file_entries)
			r = output_put(m, NULL, 0, e);
		if (r < 0)
			return r;
		if (repo_index_writer_add(m->writer, &m->same[i]) < 0)
			return err_oom(e);
	}
	return 0;
}

/* M2, M3 */
static int merge_end(struct merge *m, struct err *e)
{
	const struct repo_index *x = m->x;
	_cleanup_free_ uint8_t *supersedes =
		malloc((x->n_files + x->n_superseded + 1) * REPO_NAME_HASH);
	size_t n = 0;

	if (!supersedes)
		return err_oom(e);
	for (size_t i = 0; i < x->n_files + x->n_superseded; i++) {
		const bool old = i >= x->n_files;
		const uint8_t *hash = old ? x->superseded[i - x->n_files] : x->files[i]->hash;

		if (old || m->merged[i])
			memcpy(supersedes + REPO_NAME_HASH * n++, hash, REPO_NAME_HASH);
	}
	return output_put(m, supersedes, n, e);
}

int repo_index_merge_files(const struct repo_index *x, const struct repo_index_merge *how,
			   bool *ret_done, struct err *e)
{
	_cleanup_(merge_done) struct merge m = {
		.x = x,
		.file_entries = how->file_entries ? how->file_entries : REPO_INDEX_FILE_ENTRIES,
	};
	bool needed = false;
	int r = merge_choose(&m, how, &needed, e);

	if (r < 0)
		return r;
	if (!needed) {
		*ret_done = false;
		return 0;
	}
	r = repo_index_writer_new(x->source.repo_id, x->crypt, &m.writer, e);
	if (r == 0)
		r = merge_begin(&m, e);
	while (r == 0 && m.n_heap) {
		r = same_take(&m, e);
		if (r == 0)
			r = same_write(&m, e);
	}
	if (r == 0)
		r = merge_end(&m, e);
	if (r == 0)
		*ret_done = true;
	return r;
}

int repo_index_merge(const struct repo_index *x, uint64_t most,
		     bool (*keep)(void *ctx, uint32_t pack), void *ctx, bool *ret_done,
		     struct err *e)
{
	const struct repo_index_merge how = { .most = most, .keep = keep, .ctx = ctx };

	return repo_index_merge_files(x, &how, ret_done, e);
}
