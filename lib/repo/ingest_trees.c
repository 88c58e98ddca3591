/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/ingest_trees.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "lib/image/codec.h"
#include "lib/image/tree.h"
#include "lib/repo/repo_tree.h"

int ingest_parent_check(const struct manifest *m, const struct manifest *parent, struct err *e)
{
	bool fits = m->disk_size == parent->disk_size && m->chunk_size == parent->chunk_size &&
		    m->n_regions == parent->n_regions;

	for (size_t i = 0; fits && i < m->n_regions; i++) {
		fits = m->regions[i].start == parent->regions[i].start &&
		       m->regions[i].length == parent->regions[i].length;
	}
	return fits ? 0
		    : err_set(e, -EBADMSG,
			      "the increment has another size or other regions than the image "
			      "that it was made against");
}

/* ---- pages into packs --------------------------------------------------------------------------- */

struct storing {
	struct ingest_trees *t;
	struct stream_log *stored; /* as the set of pages that were stored now */
	struct err *e;
};

static int storing_page(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	struct storing *s = ctx;
	struct repo_place place;
	int r;

	if (cancel_raised(s->t->cancel))
		return err_set(s->e, -ECANCELED, "cancelled");
	if (stream_log_knows(s->stored, id))
		return 0;
	if (s->t->on_page)
		s->t->on_page(s->t->on_page_ctx, page, len, id);
	r = repo_find(s->t->repo, id, REPO_KIND_PAGE, &place, s->e);
	if (r != -ENOENT)
		return r;
	r = ingest_packs_add(s->t->packs, REPO_KIND_PAGE, id, (uint32_t)len, page, (uint32_t)len,
			     s->e);
	if (r < 0)
		return r;
	if (stream_log_chunk(s->stored, 0, 0, 1, id) < 0 || stream_log_remember(s->stored) < 0)
		return err_oom(s->e);
	return 0;
}

static int forget_page(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	(void)page;
	(void)len;
	(void)id;
	return cancel_raised(ctx) ? -ECANCELED : 0;
}

/* ---- region by region --------------------------------------------------------------------------- */

static int trees_root_check(const struct ingest_trees *t, size_t i, const struct chunk_id *root,
			    struct err *e)
{
	const struct manifest_region *region = &t->manifest->regions[i];

	if (chunk_id_equal(root, &region->root))
		return 0;
	return err_set(e, -EBADMSG, "region %zu is not what the MANIFEST says: nothing is stored",
		       i);
}

static int trees_plain(const struct ingest_trees *t, struct tree *const *trees, struct storing *s)
{
	for (size_t i = 0; i < t->manifest->n_regions; i++) {
		struct chunk_id root;
		int r = tree_emit(trees[i], storing_page, s, &root);

		if (r == -ENOMEM)
			return err_oom(s->e);
		if (r >= 0)
			r = trees_root_check(t, i, &root, s->e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int trees_delta_check(const struct ingest_trees *t, struct tree *const *trees, struct err *e)
{
	for (size_t i = 0; i < t->manifest->n_regions; i++) {
		struct chunk_id root;
		int r = tree_emit(trees[i], forget_page, t->cancel, &root);

		if (r == -ECANCELED)
			return err_set(e, r, "cancelled");
		if (r == -ENOMEM)
			return err_oom(e);
		if (r >= 0)
			r = trees_root_check(t, i, &root, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int trees_delta(struct ingest_trees *t, struct tree *const *trees, struct storing *s)
{
	struct manifest *m = t->manifest;
	uint64_t data = t->parent->data_chunks;
	int r = trees_delta_check(t, trees, s->e);

	for (size_t i = 0; i < m->n_regions && r >= 0; i++) {
		struct repo_tree_result made;
		const struct repo_tree q = {
			.repo = t->repo,
			.said = trees[i],
			.parent = &t->parent->regions[i].root,
			.emit = storing_page,
			.ctx = s,
			.pages = t->parent_pages,
		};

		t->same_chunks += tree_count(trees[i], CHUNK_SAME);
		r = repo_tree_make(&q, &made, s->e);
		if (r < 0)
			break;
		m->regions[i].root = made.root;
		data += (uint64_t)made.data;
	}
	m->data_chunks = data;
	return r;
}

static void trees_free(struct tree **trees, size_t n)
{
	for (size_t i = 0; trees && i < n; i++)
		tree_free(trees[i]);
	free(trees);
}

int ingest_trees_make(struct ingest_trees *t, struct err *e)
{
	const struct manifest *m = t->manifest;
	struct tree **trees = calloc(m->n_regions, sizeof(struct tree *));
	_cleanup_(stream_log_freep) struct stream_log *stored = NULL;
	struct storing s = { .t = t, .e = e };
	int r = trees ? stream_log_new(1, 0, false, &stored) : -ENOMEM;

	s.stored = stored;
	for (size_t i = 0; i < m->n_regions && r >= 0; i++)
		r = tree_new(region_chunks(m->regions[i].length, m->chunk_size), &trees[i]);
	if (r >= 0)
		r = stream_log_apply(t->log, trees);
	if (r < 0) {
		err_oom(e);
	} else if (t->parent) {
		r = trees_delta(t, trees, &s);
	} else {
		r = trees_plain(t, trees, &s);
	}
	trees_free(trees, m->n_regions);
	return r;
}
