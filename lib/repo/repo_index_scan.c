/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_index_scan.h"

#include <stdlib.h>
#include <string.h>

#include "lib/repo/repo_index_private.h"

/* Files that are read at the same place of the order have a window each: a file that is not alone in its one is read slower. */
#define WINDOWS 64u
/* Blocks that are read at once at most: 256 KiB. */
#define WINDOW_BLOCKS 64u

/*
 * Neighbouring blocks of one file. The last one of those before them is kept: a name that begins as a block does may be at the
 * end of the one before.
 */
struct window {
	size_t file; /* SIZE_MAX: none yet */
	uint32_t first, count;
	struct repo_entry *entries;
};

struct repo_index_scan {
	const struct repo_index *x;
	struct window windows[WINDOWS];
};

struct repo_index_scan *repo_index_scan_new(const struct repo_index *x)
{
	struct repo_index_scan *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->x = x;
	for (size_t i = 0; i < WINDOWS; i++)
		s->windows[i].file = SIZE_MAX;
	return s;
}

void repo_index_scan_free(struct repo_index_scan *s)
{
	for (size_t i = 0; s && i < WINDOWS; i++)
		free(s->windows[i].entries);
	free(s);
}

/* How many blocks to read from @block on: twice as many as before where the reader goes on about where it was. */
static uint32_t window_count(const struct window *w, size_t file, uint32_t block)
{
	const uint32_t end = w->first + w->count;

	if (w->file != file || block < end || block - end > w->count)
		return 1;
	return MIN(2 * w->count, WINDOW_BLOCKS);
}

static int window_fill(struct repo_index_scan *s, struct window *w, size_t file, uint32_t block,
		       struct err *e)
{
	const struct repo_index_file *f = s->x->files[file];
	const uint32_t count = MIN(window_count(w, file, block), f->blocks - block);
	const uint32_t kept = w->file == file && w->count && block == w->first + w->count;
	const size_t full = REPO_INDEX_BLOCK * sizeof(*w->entries);
	int r;

	if (!w->entries) {
		w->entries = calloc(WINDOW_BLOCKS + (size_t)1, full);
		if (!w->entries)
			return err_oom(e);
	}
	if (kept && w->count > 1) {
		memcpy(w->entries, w->entries + (w->count - (size_t)1) * REPO_INDEX_BLOCK, full);
	}
	/* whatever comes of it, what was there is not there any more */
	w->file = SIZE_MAX;
	r = repo_index_file_read(&s->x->source, f, block, count,
				 w->entries + (size_t)kept * REPO_INDEX_BLOCK, e);
	if (r < 0)
		return r;
	w->file = file;
	w->first = block - kept;
	w->count = count + kept;
	return 0;
}

static int window_get(void *ctx, size_t file, uint32_t block, const struct repo_entry **ret,
		      size_t *ret_n, struct err *e)
{
	struct repo_index_scan *s = ctx;
	struct window *w = &s->windows[file % WINDOWS];
	int r;

	if (w->file != file || block < w->first || block - w->first >= w->count) {
		r = window_fill(s, w, file, block, e);
		if (r < 0)
			return r;
	}
	*ret = w->entries + (size_t)(block - w->first) * REPO_INDEX_BLOCK;
	*ret_n = repo_index_file_entries(s->x->files[file], block, 1);
	return 0;
}

int repo_index_scan_find(struct repo_index_scan *s, const struct chunk_id *name,
			 const uint64_t *ordinal_after, struct repo_place *ret, struct err *e)
{
	const struct repo_index_blocks blocks = { s, window_get };

	return repo_index_find_by(s->x, &blocks, name, ordinal_after, ret, e);
}
