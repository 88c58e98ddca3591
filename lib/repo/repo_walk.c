/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_walk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "lib/base/cleanup.h"
#include "lib/base/hex.h"
#include "lib/image/codec.h"
#include "lib/image/tree.h"

struct walk {
	const struct repo_walk_ops *ops;
	void *ctx;
	struct err *e;
};

/* Chunks below one entry of a page of @level. */
static uint64_t walk_span(unsigned int level)
{
	uint64_t span = 1;

	while (level--)
		span *= AMBRO_PAGE_FANOUT;
	return span;
}

static int walk_lost(const struct walk *w, const struct chunk_id *id,
		     const struct repo_walk_place *at, int error, struct err *why)
{
	const int r = w->ops->lost ? w->ops->lost(w->ctx, id, at, error, why) : error;

	if (r < 0 && w->e)
		*w->e = *why;
	return r;
}

/* 1: @ret_view is of a page that is what its id says. */
static int walk_get(const struct walk *w, const struct chunk_id *id,
		    const struct repo_walk_place *at, void **ret_body, struct page_view *ret_view)
{
	const uint64_t count = DIV_ROUND_UP(at->chunks, walk_span(at->level));
	struct err e = { 0 };
	struct chunk_id is;
	size_t len = 0;
	int r = w->ops->page(w->ctx, id, at, ret_body, &len, &e);

	if (r == 0)
		return 0;
	if (r > 0) {
		chunk_id_of(*ret_body, len, &is);
		if (chunk_id_equal(&is, id) &&
		    page_parse(*ret_body, len, at->level, count, ret_view) == 0)
			return 1;
		r = err_set(&e, -EBADMSG, "a page of the hash tree is damaged");
	}
	return walk_lost(w, id, at, r, &e);
}

static int walk_page(const struct walk *w, const struct chunk_id *id,
		     const struct repo_walk_place *at)
{
	const uint64_t span = walk_span(at->level);
	_cleanup_free_ void *body = NULL;
	struct page_view v = { 0 };
	uint32_t rank = 0;
	int r = walk_get(w, id, at, &body, &v);

	if (r <= 0)
		return r;
	for (uint32_t i = 0; i < v.count; i++) {
		const uint64_t first = i * span;
		struct repo_walk_place below = { .region = at->region, .first = at->first + first };

		if (v.states[i] != CHUNK_DATA)
			continue;
		if (!at->level) {
			r = w->ops->chunk(w->ctx, &v.ids[rank++], at->region, below.first, w->e);
		} else {
			below.level = at->level - 1;
			below.chunks = MIN(span, at->chunks - first);
			r = walk_page(w, &v.ids[rank++], &below);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int repo_walk_image(const struct manifest *m, const struct repo_walk_ops *ops, void *ctx,
		    struct err *e)
{
	const struct walk w = { .ops = ops, .ctx = ctx, .e = e };

	for (size_t i = 0; i < m->n_regions; i++) {
		const struct manifest_region *region = &m->regions[i];
		const struct repo_walk_place root = {
			.region = (uint32_t)i,
			.level = region->depth - 1,
			.chunks = region_chunks(region->length, m->chunk_size),
		};
		int r = walk_page(&w, &region->root, &root);

		if (r < 0)
			return r;
	}
	return 0;
}
