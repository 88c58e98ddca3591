/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The walk of gc_view.h: from the images to the entries that they need. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hex.h"
#include "lib/repo/gc_view.h"
#include "lib/repo/repo_walk.h"

/* Names that are looked up together, in their order: so a block of the index is read once for many of them. */
#define WALK_BATCH ((size_t)1 << 20)

struct walk {
	struct gc_view *view;
	struct cancel *cancel;
	char image[REPO_IMAGE_NAME_MAX]; /* the one that is walked, for messages */
	uint64_t image_number;
	struct chunk_id *batch;
	size_t n;
};

static void walk_done(struct walk *w)
{
	free(w->batch);
}

static bool pack_is_usable(const struct gc_pack *p)
{
	return p->stored && !p->mark;
}

/*
 * Where @name is kept. A pack that is not marked is preferred, among these (and otherwise) the first place in the order of
 * ordinals: always the same one, so that all other places are duplicates.
 */
static int walk_choose(const struct walk *w, const struct chunk_id *name, enum repo_kind kind,
		       struct repo_place *ret, struct err *e)
{
	const struct gc_view *v = w->view;
	uint64_t after = UINT64_MAX;
	bool found = false;
	int r;

	for (;;) {
		struct repo_place p;

		r = repo_index_find(v->repo->index, name, &after, &p, e);
		if (r < 0)
			break;
		after = p.ordinal;
		if (p.kind != kind || !v->packs[v->of_index[p.pack]].stored)
			continue;
		if (pack_is_usable(&v->packs[v->of_index[p.pack]])) {
			*ret = p;
			return 0;
		}
		if (!found)
			*ret = p;
		found = true;
	}
	return r == -ENOENT && found ? 0 : r;
}

/* Returns false when it was chosen already. */
static bool walk_mark(const struct walk *w, const struct repo_place *p)
{
	struct gc_view *v = w->view;
	struct gc_pack *pack = &v->packs[v->of_index[p->pack]];

	if (gc_view_is_live(v, p->ordinal))
		return false;
	v->live[p->ordinal / 64] |= UINT64_C(1) << (p->ordinal % 64);
	pack->live++;
	pack->live_bytes += le32_get(p->entry.frame_len);
	pack->first_use = MIN(pack->first_use, w->image_number);
	v->chosen++;
	return true;
}

static int walk_missing(const struct walk *w, const struct chunk_id *name, const char *what, int r,
			struct err *e)
{
	char hex[2 * AMBRO_ID_SIZE + 1];

	if (r != -ENOENT)
		return r < 0 && e ? err_prefix(e, "%s", w->image), r : r;
	return err_set(e, -EBADMSG,
		       "%s needs the %s %.16s, which is in no pack that is there: nothing is "
		       "deleted; see 'ambroctl repo check', or forget the image",
		       w->image, what, hex_encode(name->b, sizeof(name->b), hex));
}

/* ---- chunks -------------------------------------------------------------------------------------- */

static int id_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct chunk_id));
}

static int walk_flush(struct walk *w, struct err *e)
{
	if (w->n)
		qsort(w->batch, w->n, sizeof(*w->batch), id_compare);
	for (size_t i = 0; i < w->n; i++) {
		struct repo_place p;
		int r;

		if (i && !id_compare(&w->batch[i], &w->batch[i - 1]))
			continue;
		r = walk_choose(w, &w->batch[i], REPO_KIND_CHUNK, &p, e);
		if (r < 0)
			return walk_missing(w, &w->batch[i], "chunk", r, e);
		walk_mark(w, &p);
	}
	w->n = 0;
	return 0;
}

static int walk_on_chunk(void *ctx, const struct chunk_id *id, uint32_t region, uint64_t index,
			 struct err *e)
{
	struct walk *w = ctx;

	(void)region;
	(void)index;
	crypt_name(w->view->repo->crypt, id, &w->batch[w->n++]);
	return w->n < WALK_BATCH ? 0 : walk_flush(w, e);
}

/* ---- pages --------------------------------------------------------------------------------------- */

/* @p: of the page @id, by what was chosen. */
static int walk_read_page(const struct walk *w, const struct chunk_id *id,
			  const struct repo_place *p, void **ret_body, size_t *ret_len,
			  struct err *e)
{
	_cleanup_free_ void *body = malloc(le32_get(p->entry.frame_len));
	int r;

	if (!body)
		return err_oom(e);
	r = repo_read_place(w->view->repo, p, body, ret_len, e);
	/* damaged here; perhaps not elsewhere */
	if (r == -EBADMSG || r == -ENOENT) {
		r = repo_read(w->view->repo, id, REPO_KIND_PAGE, ret_body, ret_len, e);
		return r < 0 ? walk_missing(w, &p->entry.name, "page", r, e) : 1;
	}
	if (r < 0)
		return r;
	*ret_body = TAKE_PTR(body);
	return 1;
}

static int walk_on_page(void *ctx, const struct chunk_id *id, const struct repo_walk_place *at,
			void **ret_body, size_t *ret_len, struct err *e)
{
	struct walk *w = ctx;
	struct chunk_id name;
	struct repo_place p;
	int r;

	(void)at;
	if (cancel_raised(w->cancel))
		return err_set(e, -ECANCELED, "interrupted");
	crypt_name(w->view->repo->crypt, id, &name);
	r = walk_choose(w, &name, REPO_KIND_PAGE, &p, e);
	if (r < 0)
		return walk_missing(w, &name, "page", r, e);
	/* what is below was walked when it was chosen */
	if (!walk_mark(w, &p))
		return 0;
	return walk_read_page(w, id, &p, ret_body, ret_len, e);
}

/* ---- images -------------------------------------------------------------------------------------- */

static int walk_image(struct walk *w, const uint8_t hash[REPO_NAME_HASH], struct err *e)
{
	static const struct repo_walk_ops ops = { .page = walk_on_page, .chunk = walk_on_chunk };
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	const uint64_t now = w->view->now_ns;
	int r;

	r = repo_image_get(w->view->repo, hash, &image, e);
	/* another prune deleted it since it was listed */
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		err_prefix(e, "an image cannot be read, so that nobody knows what it needs, and "
			      "nothing is deleted");
		return r;
	}
	repo_image_name(image, w->image);
	if (image->time_ns > now && image->time_ns - now > GC_CLOCK_SLACK_NS) {
		return err_set(e, -ETIME,
			       "%s was made %" PRIu64 " s in the future: the clock of this or of "
			       "another machine is wrong, so nothing is deleted",
			       w->image, (image->time_ns - now) / 1000000000);
	}
	w->image_number = w->view->walked++;
	r = repo_walk_image(image->manifest, &ops, w, e);
	return r < 0 ? r : walk_flush(w, e);
}

int gc_view_walk(struct gc_view *v, struct cancel *c, gc_progress_fn progress, void *ctx,
		 struct err *e)
{
	_cleanup_(walk_done) struct walk w = { .view = v, .cancel = c };
	struct gc_progress p = { .phase = "mark", .total = v->images.count };

	/* the kernel gives what is used */
	w.batch = malloc(WALK_BATCH * sizeof(*w.batch));
	if (!w.batch)
		return err_oom(e);
	for (size_t i = 0; i < v->images.count; i++) {
		int r = 0;

		if (c && cancel_raised(c))
			return err_set(e, -ECANCELED, "interrupted");
		if (!gc_view_image_dead(v, v->images.items[i]))
			r = walk_image(&w, v->images.items[i], e);
		if (r < 0)
			return r;
		p.done = i + 1;
		if (progress)
			progress(ctx, &p);
	}
	return 0;
}
