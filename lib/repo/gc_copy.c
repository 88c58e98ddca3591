/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/gc_copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/repo/entry_check.h"
#include "lib/repo/pack.h"

/* New packs for each index file: what a kill loses is at most so many of them. */
#define COPY_PACKS_PER_INDEX 32u

struct copy_item {
	uint32_t pack; /* of the view */
	bool newest;   /* the newest image of some disk needs it */
	struct repo_place place;
};

struct copy {
	struct gc_view *view;
	bool *from;
	struct copy_item *items;
	size_t n, allocated;
	struct entry_checker *checker;
	void *stored; /* scratch: an entry's bytes */
	size_t stored_size;
	struct pack *out;
	struct repo_index_builder *builder;
	unsigned int in_builder; /* packs */
	struct gc_copy_result result;
};

static void copy_done(struct copy *c)
{
	free(c->items);
	entry_checker_free(c->checker);
	free(c->stored);
	pack_free(c->out);
	repo_index_builder_free(c->builder);
}

/* ---- what is to be copied ------------------------------------------------------------------------ */

static int copy_collect(void *ctx, uint64_t ordinal, uint32_t pack, const struct repo_entry *entry)
{
	struct copy *c = ctx;
	const uint32_t at = c->view->of_index[pack];

	if (!c->from[at] || !gc_view_is_live(c->view, ordinal))
		return 0;
	if (ARRAY_ROOM(c->items, c->n, c->allocated, 1024) < 0)
		return -ENOMEM;
	c->items[c->n++] = (struct copy_item){
		.pack = at,
		.newest = gc_view_is_newest(c->view, ordinal),
		.place = { .pack = pack,
			   .kind = le32_get(entry->plain_len) & REPO_ENTRY_PAGE ? REPO_KIND_PAGE
										: REPO_KIND_CHUNK,
			   .entry = *entry,
			   .ordinal = ordinal },
	};
	return 0;
}

/* Disk by disk, so that what several machines store does not lie between what one of them needs; then by age. */
static int copy_compare_packs(const struct gc_view *v, uint32_t a, uint32_t b)
{
	const struct gc_pack *x = &v->packs[a], *y = &v->packs[b];

	if (x->disk != y->disk)
		return x->disk < y->disk ? -1 : 1;
	if (x->first_use != y->first_use)
		return x->first_use < y->first_use ? -1 : 1;
	return (a > b) - (a < b);
}

static int copy_compare(const void *a, const void *b, void *view)
{
	const struct copy_item *x = a, *y = b;
	const uint32_t p = le32_get(x->place.entry.offset), q = le32_get(y->place.entry.offset);
	int r;

	/* pages by themselves: a restore reads them first, and far more often than chunks */
	if (x->place.kind != y->place.kind)
		return x->place.kind == REPO_KIND_PAGE ? -1 : 1;
	if (x->newest != y->newest)
		return x->newest ? -1 : 1;
	r = copy_compare_packs(view, x->pack, y->pack);
	if (r)
		return r;
	return p < q ? -1 : p > q;
}

/* ---- one entry ----------------------------------------------------------------------------------- */

/* Have it in the checker. -EBADMSG, -ENOENT: it is not what its name says, or not there. */
static int copy_read(struct copy *c, const struct repo_place *p, struct err *e)
{
	const size_t len = le32_get(p->entry.frame_len);
	int r;

	if (len > c->stored_size) {
		void *more = realloc(c->stored, len);

		if (!more)
			return err_oom(e);
		c->stored = more;
		c->stored_size = len;
	}
	r = repo_read_stored(c->view->repo, p, c->stored, e);
	return r < 0 ? r : entry_check_place(c->checker, p, c->stored, e);
}

static void copy_damaged(struct copy *c, const struct copy_item *item, const struct err *e)
{
	char name[PACK_NAME_SIZE];

	if (!c->result.damaged++) {
		snprintf(c->result.first_damage, sizeof(c->result.first_damage), "%s: %.400s",
			 pack_name(c->view->packs[item->pack].hash, name), e->text);
	}
	c->from[item->pack] = false;
}

/* ---- new packs ----------------------------------------------------------------------------------- */

static int copy_end_index(struct copy *c, struct err *e)
{
	uint8_t hash[REPO_NAME_HASH];
	int r;

	if (!c->in_builder)
		return 0;
	r = gc_view_in_time(c->view, e);
	if (r >= 0)
		r = repo_index_builder_put(c->builder, c->view->repo->store, hash, e);
	repo_index_builder_free(TAKE_PTR(c->builder));
	c->in_builder = 0;
	return r;
}

static int copy_end_pack(struct copy *c, struct err *e)
{
	const struct repo *repo = c->view->repo;
	uint8_t hash[REPO_NAME_HASH];
	int r;

	if (!c->out || !pack_entries(c->out))
		return 0;
	r = pack_seal(c->out, hash, e);
	if (r >= 0)
		r = pack_put(c->out, e);
	if (r >= 0 && !c->builder)
		r = repo_index_builder_new(repo->format.id, repo->crypt, &c->builder, e);
	if (r >= 0) {
		r = repo_index_builder_pack(c->builder, hash, (uint32_t)pack_bytes(c->out),
					    pack_entry(c->out, 0), pack_entries(c->out), e);
	}
	if (r < 0)
		return r;
	c->result.packs++;
	c->result.bytes += pack_bytes(c->out);
	pack_free(TAKE_PTR(c->out));
	return ++c->in_builder < COPY_PACKS_PER_INDEX ? 0 : copy_end_index(c, e);
}

static int copy_add(struct copy *c, const struct repo_place *p, struct err *e)
{
	const struct repo *repo = c->view->repo;
	size_t frame_len;
	const void *frame = entry_checked_frame(c->checker, &frame_len);
	int r = 0;

	if (!c->out)
		r = pack_new(repo->store, repo->format.id, repo->crypt, &c->out, e);
	if (r >= 0) {
		r = pack_add(c->out, p->kind, entry_checked_id(c->checker),
			     le32_get(p->entry.plain_len) & ~REPO_ENTRY_PAGE, frame,
			     (uint32_t)frame_len, e);
	}
	if (r < 0)
		return r;
	c->result.entries++;
	return pack_bytes(c->out) < REPO_PACK_SIZE ? 0 : copy_end_pack(c, e);
}

static int copy_item(struct copy *c, const struct copy_item *item, struct err *e)
{
	struct err why = { 0 };
	int r;

	/* something in its pack is damaged: the pack stays, and so nothing of it needs to be copied */
	if (!c->from[item->pack])
		return 0;
	r = copy_read(c, &item->place, &why);
	if (r == -EBADMSG || r == -ENOENT || r == -EIO) {
		copy_damaged(c, item, &why);
		return 0;
	}
	if (r < 0) {
		if (e)
			*e = why;
		return r;
	}
	return copy_add(c, &item->place, e);
}

/*
 * Does a pack end before item @i? What the newest images need has packs of its own, unless they would be small: whoever
 * gathers it again then has not to copy the rest along.
 */
static int copy_turn(struct copy *c, size_t i, struct err *e)
{
	const struct copy_item *it = &c->items[i], *last = i ? it - 1 : it;

	if (it->place.kind == last->place.kind &&
	    (it->newest == last->newest || !c->out || pack_bytes(c->out) < GC_SMALL_PACK))
		return 0;
	return copy_end_pack(c, e);
}

/* NOLINTNEXTLINE(readability-function-size,readability-non-const-parameter): facts; copy_damaged() writes to it */
int gc_copy(struct gc_view *v, bool *from, struct cancel *c, gc_progress_fn progress, void *ctx,
	    struct gc_copy_result *ret, struct err *e)
{
	_cleanup_(copy_done) struct copy copy = { .view = v, .from = from };
	struct gc_progress p = { .phase = "repack" };
	int r;

	if (entry_checker_new(v->repo, &copy.checker) < 0)
		return err_oom(e);
	r = repo_index_each(v->repo->index, copy_collect, &copy, e);
	if (r < 0)
		return r == -ENOMEM ? err_oom(e) : r;
	if (copy.n)
		qsort_r(copy.items, copy.n, sizeof(*copy.items), copy_compare, v);
	p.total = copy.n;
	for (size_t i = 0; i < copy.n; i++) {
		if (cancel_raised(c))
			return err_set(e, -ECANCELED, "interrupted");
		r = copy_turn(&copy, i, e);
		if (r >= 0)
			r = copy_item(&copy, &copy.items[i], e);
		if (r < 0)
			return r;
		p.done = i + 1;
		if (progress && p.done % 64 == 0)
			progress(ctx, &p);
	}
	r = copy_end_pack(&copy, e);
	if (r >= 0)
		r = copy_end_index(&copy, e);
	*ret = copy.result;
	return r;
}
