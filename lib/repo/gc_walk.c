/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The walk of gc_view.h: from the images to the entries that they need. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hex.h"
#include "lib/image/record.h"
#include "lib/repo/gc_order.h"
#include "lib/repo/gc_view.h"
#include "lib/repo/repo_index_scan.h"
#include "lib/repo/repo_walk.h"

/*
 * Names that are looked up together, in their order, of as many images as it takes: so a block of the index is read once for
 * many of them. A hundred million different names take 25 readings of the index, 5 GB each, with this and 100 with a quarter.
 */
#define WALK_BATCH ((size_t)4 << 20)

struct walk_name {
	struct chunk_id name;
	uint32_t image; /* place in the order, of the one that needs it */
};

struct walk {
	struct gc_view *view;
	struct cancel *cancel;
	struct gc_order order;
	uint32_t image; /* the one that is walked: its place in the order */
	struct repo_index_scan *scan;
	struct walk_name *batch;
	size_t n, room;
};

static void walk_done(struct walk *w)
{
	repo_index_scan_free(w->scan);
	gc_order_done(&w->order);
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
	/* chunks come in order */
	const bool scan = kind == REPO_KIND_CHUNK;
	const struct gc_view *v = w->view;
	uint64_t after = UINT64_MAX;
	bool found = false;
	int r;

	for (;;) {
		struct repo_place p;

		r = scan ? repo_index_scan_find(w->scan, name, &after, &p, e)
			 : repo_index_find(v->repo->index, name, &after, &p, e);
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

/* The newest images come first, so what they choose is all that they need. */
static void walk_mark_newest(const struct walk *w, const struct repo_place *p, struct gc_pack *pack)
{
	const bool chunk = p->kind == REPO_KIND_CHUNK;
	const uint32_t record = chunk && !w->view->repo->crypt
					? sizeof(struct record_head) + sizeof(struct ambro_chunk)
					: 0;

	w->view->newest[p->ordinal / 64] |= UINT64_C(1) << (p->ordinal % 64);
	pack->newest.chunks += chunk;
	gc_reach_add(&pack->newest, le32_get(p->entry.offset), le32_get(p->entry.frame_len),
		     record);
}

/* The image at @image in the order needs it. Returns false when it was chosen already. */
static bool walk_mark(const struct walk *w, const struct repo_place *p, uint32_t image)
{
	const struct gc_ordered *by = &w->order.items[image];
	struct gc_view *v = w->view;
	struct gc_pack *pack = &v->packs[v->of_index[p->pack]];

	if (gc_view_is_live(v, p->ordinal))
		return false;
	v->live[p->ordinal / 64] |= UINT64_C(1) << (p->ordinal % 64);
	pack->live++;
	pack->live_bytes += le32_get(p->entry.frame_len);
	pack->first_use = MIN(pack->first_use, by->time_ns);
	if (by->newest) {
		pack->disk = MIN(pack->disk, by->disk);
		walk_mark_newest(w, p, pack);
	} else if (pack->disk == UINT32_MAX) {
		pack->disk = by->disk;
	}
	v->chosen++;
	return true;
}

/* Its name for people, read again: it was the batch before, perhaps. */
static void walk_image_name(const struct walk *w, uint32_t place, char ret[REPO_IMAGE_NAME_MAX])
{
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	const uint8_t *hash = w->view->images.items[w->order.items[place].number];
	char hex[2 * REPO_NAME_HASH + 1];

	if (repo_image_get(w->view->repo, hash, &image, NULL) >= 0 && image) {
		repo_image_name(image, ret);
	} else {
		snprintf(ret, REPO_IMAGE_NAME_MAX, "images/%s",
			 hex_encode(hash, REPO_NAME_HASH, hex));
	}
}

/* @r, in words: @name, which is a @what that the image at @place in the order needs, could not be had. */
static int walk_missing(const struct walk *w, uint32_t place, const struct chunk_id *name,
			const char *what, int r, struct err *e)
{
	char hex[2 * AMBRO_ID_SIZE + 1], image[REPO_IMAGE_NAME_MAX];

	if (r >= 0)
		return r;
	walk_image_name(w, place, image);
	if (r != -ENOENT) {
		err_prefix(e, "%s", image);
		return r;
	}
	return err_set(e, -EBADMSG,
		       "%s needs the %s %.16s, which is in no pack that is there: nothing is "
		       "deleted; see 'ambroctl repo check', or forget the image",
		       image, what, hex_encode(name->b, sizeof(name->b), hex));
}

/* ---- chunks -------------------------------------------------------------------------------------- */

/* By name, and of one name the first image first. */
static int walk_compare(const void *a, const void *b)
{
	const struct walk_name *x = a, *y = b;
	const int r = memcmp(&x->name, &y->name, sizeof(x->name));

	return r ? r : (x->image > y->image) - (x->image < y->image);
}

static size_t walk_bucket(const struct walk_name *n)
{
	return (size_t)n->name.b[0] << 8 | n->name.b[1];
}
#define WALK_BUCKETS ((size_t)1 << 16)

/*
 * In place: qsort() takes as much memory once more. First each into its bucket, where @next is the first place of each that
 * is not known to be right, and @end its end.
 */
static void walk_sort(struct walk_name *names, size_t n, uint32_t next[WALK_BUCKETS],
		      uint32_t end[WALK_BUCKETS])
{
	uint32_t sum = 0;

	memset(end, 0, WALK_BUCKETS * sizeof(*end));
	for (size_t i = 0; i < n; i++)
		end[walk_bucket(&names[i])]++;
	for (size_t b = 0; b < WALK_BUCKETS; b++) {
		next[b] = sum;
		sum += end[b];
		end[b] = sum;
	}
	for (size_t b = 0; b < WALK_BUCKETS; b++) {
		while (next[b] < end[b]) {
			const struct walk_name name = names[next[b]];
			const size_t to = walk_bucket(&name);

			names[next[b]] = names[next[to]];
			names[next[to]++] = name;
		}
	}
	for (size_t b = 0; b < WALK_BUCKETS; b++) {
		const uint32_t begin = b ? end[b - 1] : 0;

		if (end[b] - begin > 1)
			qsort(names + begin, end[b] - begin, sizeof(*names), walk_compare);
	}
}

static int walk_flush(struct walk *w, struct err *e)
{
	_cleanup_free_ uint32_t *places = malloc(2 * WALK_BUCKETS * sizeof(*places));

	if (!places)
		return err_oom(e);
	walk_sort(w->batch, w->n, places, places + WALK_BUCKETS);
	for (size_t i = 0; i < w->n; i++) {
		const struct walk_name *it = &w->batch[i];
		struct repo_place p;
		int r;

		if (i && !memcmp(&it->name, &it[-1].name, sizeof(it->name)))
			continue;
		if (i % 4096 == 0 && cancel_raised(w->cancel))
			return err_set(e, -ECANCELED, "interrupted");
		r = walk_choose(w, &it->name, REPO_KIND_CHUNK, &p, e);
		if (r < 0)
			return walk_missing(w, it->image, &it->name, "chunk", r, e);
		walk_mark(w, &p, it->image);
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
	crypt_name(w->view->repo->crypt, id, &w->batch[w->n].name);
	w->batch[w->n++].image = w->image;
	return w->n < w->room ? 0 : walk_flush(w, e);
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
		return r < 0 ? walk_missing(w, w->image, &p->entry.name, "page", r, e) : 1;
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
		return walk_missing(w, w->image, &name, "page", r, e);
	/* what is below was walked when it was chosen */
	if (!walk_mark(w, &p, w->image))
		return 0;
	return walk_read_page(w, id, &p, ret_body, ret_len, e);
}

/* ---- images -------------------------------------------------------------------------------------- */

/* At @place in the order. */
static int walk_image(struct walk *w, size_t place, struct err *e)
{
	static const struct repo_walk_ops ops = { .page = walk_on_page, .chunk = walk_on_chunk };
	struct gc_ordered *it = &w->order.items[place];
	_cleanup_(repo_image_freep) struct repo_image *image = TAKE_PTR(it->held);
	int r = 0;

	if (!image)
		r = gc_order_read(w->view, it->number, &image, e);
	if (r < 0)
		return r;
	/* another prune deleted it since it was listed */
	if (!image)
		return 0;
	w->image = (uint32_t)place;
	w->view->walked++;
	return repo_walk_image(image->manifest, &ops, w, e);
}

static int walk_all(struct walk *w, gc_progress_fn progress, void *ctx, struct err *e)
{
	struct gc_progress p = { .phase = "mark", .total = w->order.n };

	for (size_t i = 0; i < w->order.n; i++) {
		int r = 0;

		if (cancel_raised(w->cancel))
			return err_set(e, -ECANCELED, "interrupted");
		/* what an image chooses is found out when the batch is looked up, but by its place in the order */
		r = walk_image(w, i, e);
		if (r < 0)
			return r;
		p.done = i + 1;
		if (progress)
			progress(ctx, &p);
	}
	return walk_flush(w, e);
}

int gc_view_walk(struct gc_view *v, struct cancel *c, gc_progress_fn progress, void *ctx,
		 struct err *e)
{
	/* more than there are names would be no gain */
	const uint64_t room = v->batch ? v->batch
				       : MIN(WALK_BATCH, repo_index_entries(v->repo->index) + 1);
	struct gc_order order = { 0 };
	int r = gc_order_load(v, c, &order, e);
	_cleanup_(walk_done) struct walk w = {
		.view = v, .cancel = c, .order = order, .room = (size_t)room
	};

	if (r < 0)
		return r;
	/* the kernel gives what is used */
	w.batch = malloc(w.room * sizeof(*w.batch));
	w.scan = repo_index_scan_new(v->repo->index);
	if (!w.batch || !w.scan)
		return err_oom(e);
	return walk_all(&w, progress, ctx, e);
}
