/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/gc_newest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/repo_walk.h"

struct newest {
	const struct gc_view *view;
	struct cancel *cancel;
	struct repo_image **items; /* one for each disk */
	size_t n, allocated;
	void (*needs)(void *ctx, const struct chunk_id *name);
	void *ctx;
};

static void newest_done(struct newest *w)
{
	for (size_t i = 0; i < w->n; i++)
		repo_image_free(w->items[i]);
	free(w->items);
}

/* Takes @image over. */
static int newest_offer(struct newest *w, struct repo_image *image)
{
	for (size_t i = 0; i < w->n; i++) {
		struct repo_image *it = w->items[i];

		if (strcmp(it->host, image->host) != 0 || strcmp(it->disk, image->disk) != 0)
			continue;
		w->items[i] = image->time_ns > it->time_ns ? image : it;
		repo_image_free(image->time_ns > it->time_ns ? it : image);
		return 0;
	}
	if (w->n == w->allocated) {
		const size_t n = w->allocated ? w->allocated * 2 : 16;
		struct repo_image **more = reallocarray(w->items, n, sizeof(struct repo_image *));

		if (!more) {
			repo_image_free(image);
			return -ENOMEM;
		}
		w->items = more;
		w->allocated = n;
	}
	w->items[w->n++] = image;
	return 0;
}

static int newest_find(struct newest *w, struct err *e)
{
	const struct gc_view *v = w->view;

	for (size_t i = 0; i < v->images.count; i++) {
		struct repo_image *image = NULL;

		if (cancel_raised(w->cancel))
			return err_set(e, -ECANCELED, "interrupted");
		if (gc_view_image_dead(v, v->images.items[i]) ||
		    repo_image_get(v->repo, v->images.items[i], &image, NULL) < 0)
			continue;
		if (newest_offer(w, image) < 0)
			return err_oom(e);
	}
	return 0;
}

static void newest_tell(const struct newest *w, const struct chunk_id *id)
{
	struct chunk_id name;

	crypt_name(w->view->repo->crypt, id, &name);
	w->needs(w->ctx, &name);
}

static int newest_page(void *ctx, const struct chunk_id *id, const struct repo_walk_place *at,
		       void **ret_body, size_t *ret_len, struct err *e)
{
	const struct newest *w = ctx;

	(void)at;
	if (cancel_raised(w->cancel))
		return err_set(e, -ECANCELED, "interrupted");
	newest_tell(w, id);
	return repo_read(w->view->repo, id, REPO_KIND_PAGE, ret_body, ret_len, NULL) < 0 ? 0 : 1;
}

static int newest_chunk(void *ctx, const struct chunk_id *id, uint32_t region, uint64_t index,
			struct err *e)
{
	(void)region, (void)index, (void)e;
	newest_tell(ctx, id);
	return 0;
}

static int newest_lost(void *ctx, const struct chunk_id *id, const struct repo_walk_place *at,
		       int error, struct err *why)
{
	(void)ctx, (void)id, (void)at, (void)why;
	return error == -ECANCELED ? error : 0;
}

int gc_newest_walk(const struct gc_view *v, struct cancel *c,
		   void (*needs)(void *ctx, const struct chunk_id *name), void *ctx, struct err *e)
{
	static const struct repo_walk_ops ops = { .page = newest_page,
						  .chunk = newest_chunk,
						  .lost = newest_lost };
	_cleanup_(newest_done) struct newest w = {
		.view = v, .cancel = c, .needs = needs, .ctx = ctx
	};
	int r = newest_find(&w, e);

	for (size_t i = 0; i < w.n && r >= 0; i++)
		r = repo_walk_image(w.items[i]->manifest, &ops, &w, e);
	return r;
}
