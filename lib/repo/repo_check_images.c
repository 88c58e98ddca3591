/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The images of repo_check.h: is all there that they need, and what is not hurts which bytes?
 *
 * Images share most of their trees, so the first walk goes below each page only once, for all images together. Only when it
 * found something wrong are all images walked in full, each by itself, to say what is hurt.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hex.h"
#include "lib/repo/repo_check_private.h"
#include "lib/repo/repo_walk.h"

struct image_walk {
	struct check *check;
	const struct repo_image *image;
	char name[REPO_IMAGE_NAME_MAX];
	bool full; /* the second walk: go everywhere, report */
	bool hurt;
	/* a stretch of what cannot be restored, while it grows */
	uint32_t region;
	uint64_t from, to; /* bytes of the region */
	char what[ERR_TEXT_MAX];
};

static void walk_end_stretch(struct image_walk *w)
{
	const struct manifest_region *region = &w->image->manifest->regions[w->region];
	const struct repo_damage d = {
		.what = w->what,
		.image = w->name,
		.of = w->image,
		.region = w->region,
		.partition = region->partition,
		.offset = region->start + w->from,
		.length = w->to - w->from,
	};

	if (w->to > w->from)
		check_report(w->check, &d);
	w->from = w->to = 0;
}

static void walk_add_stretch(struct image_walk *w, uint32_t region, uint64_t first, uint64_t chunks,
			     const char *what)
{
	const struct manifest *m = w->image->manifest;
	const uint64_t from = first * m->chunk_size;
	const uint64_t to = MIN((first + chunks) * m->chunk_size, m->regions[region].length);

	w->hurt = true;
	if (!w->full)
		return;
	if (w->to == w->from || w->region != region || w->to != from) {
		walk_end_stretch(w);
		w->region = region;
		w->from = from;
		snprintf(w->what, sizeof(w->what), "%s", what);
	}
	w->to = to;
}

/* A place of @id that is not known to be bad. 0 or -ENOENT, or an error. */
static int walk_find(struct image_walk *w, const struct chunk_id *id, enum repo_kind kind,
		     struct repo_place *ret, struct err *e)
{
	const struct check *c = w->check;
	uint64_t after = UINT64_MAX;
	struct chunk_id name;

	crypt_name(c->repo->crypt, id, &name);
	for (;;) {
		int r = repo_index_find(c->repo->index, &name, &after, ret, e);

		if (r < 0)
			return r;
		after = ret->ordinal;
		if (ret->kind == kind && !check_is_bad(c, ret->ordinal))
			return 0;
	}
}

static int walk_on_chunk(void *ctx, const struct chunk_id *id, uint32_t region, uint64_t index,
			 struct err *e)
{
	struct image_walk *w = ctx;
	struct repo_place p;
	int r = walk_find(w, id, REPO_KIND_CHUNK, &p, e);

	if (r == -ENOENT) {
		walk_add_stretch(w, region, index, 1, "a chunk is damaged or missing");
		r = 0;
	}
	return r;
}

static int walk_on_page(void *ctx, const struct chunk_id *id, const struct repo_walk_place *at,
			void **ret_body, size_t *ret_len, struct err *e)
{
	struct image_walk *w = ctx;
	struct check *c = w->check;
	struct repo_place p;
	int r;

	(void)at;
	if (cancel_raised(c->settings->cancel))
		return err_set(e, -ECANCELED, "interrupted");
	r = walk_find(w, id, REPO_KIND_PAGE, &p, e);
	if (r < 0)
		return r;
	if (!w->full && c->seen[p.ordinal / 64] >> (p.ordinal % 64) & 1)
		return 0;
	c->seen[p.ordinal / 64] |= UINT64_C(1) << (p.ordinal % 64);
	r = repo_read(c->repo, id, REPO_KIND_PAGE, ret_body, ret_len, e);
	return r < 0 ? r : 1;
}

static int walk_on_lost(void *ctx, const struct chunk_id *id, const struct repo_walk_place *at,
			int error, struct err *why)
{
	struct image_walk *w = ctx;

	(void)id;
	if (error != -EBADMSG && error != -ENOENT && error != -EIO && error != -ENODATA)
		return error;
	walk_add_stretch(w, at->region, at->first, at->chunks,
			 error == -ENOENT ? "a page of the hash tree is damaged or missing"
					  : why->text);
	return 0;
}

static int walk_image(struct image_walk *w, struct err *e)
{
	static const struct repo_walk_ops ops = {
		.page = walk_on_page,
		.chunk = walk_on_chunk,
		.lost = walk_on_lost,
	};
	struct check *c = w->check;
	int r = repo_walk_image(w->image->manifest, &ops, w, e);

	walk_end_stretch(w);
	if (r == -EBADMSG) {
		check_report_object(c, "index/", "cannot be used, see 'ambroctl repo repair': %s",
				    e ? e->text : "it is damaged");
		w->hurt = true;
		r = 0;
	}
	return r;
}

/* All images; *ret_hurt counts those that are not whole. */
static int walk_images(struct check *c, const struct repo_images *l, bool full, uint64_t *ret_hurt,
		       struct err *e)
{
	*ret_hurt = 0;
	for (size_t i = 0; i < l->count; i++) {
		struct image_walk w = { .check = c, .image = l->items[i], .full = full };
		int r;

		repo_image_name(w.image, w.name);
		r = walk_image(&w, e);
		if (r < 0)
			return r;
		*ret_hurt += w.hurt;
	}
	return 0;
}

static bool image_was_reported(const struct check *c, const uint8_t hash[REPO_NAME_HASH])
{
	for (size_t i = 0; i < c->n_bad_images; i++) {
		if (!memcmp(c->bad_images[i], hash, REPO_NAME_HASH))
			return true;
	}
	return false;
}

/* Those that are as they were written, but are no image, or none that we can read. */
static int check_unreadable(struct check *c, const struct repo_images *l, struct err *e)
{
	for (size_t i = 0; i < l->damaged; i++) {
		struct repo_image *image = NULL;
		char hex[2 * REPO_NAME_HASH + 1], name[STORE_NAME_MAX];
		struct err why = { 0 };
		const char *what = why.text;
		int r;

		if (image_was_reported(c, l->damaged_hashes[i]))
			continue;
		snprintf(name, sizeof(name), "images/%s",
			 hex_encode(l->damaged_hashes[i], REPO_NAME_HASH, hex));
		/* the list has words for the first one only */
		r = repo_image_get(c->repo, l->damaged_hashes[i], &image, &why);
		repo_image_free(image);
		if (r == -ENOMEM)
			return err_oom(e);
		if (r == -ENOENT)
			continue;
		/* the words begin with the name */
		if (!strncmp(what, name, strlen(name)))
			what += strlen(name);
		what += strspn(what, ": ");
		check_report_object(c, name, "%s", *what ? what : "cannot be read each time");
	}
	return 0;
}

int check_images(struct check *c, struct err *e)
{
	_cleanup_(repo_images_done) struct repo_images images = { 0 };
	uint64_t hurt;
	int r;

	if (!check_can_open(c))
		return 0;
	r = repo_images_load(c->repo, true, &images, e);
	if (r < 0)
		return r;
	r = check_unreadable(c, &images, e);
	if (r < 0)
		return r;
	c->result->images_hurt = images.damaged;
	if (!c->indexed)
		return 0;
	c->result->walked = true;
	r = walk_images(c, &images, false, &hurt, e);
	if (r >= 0 && hurt)
		r = walk_images(c, &images, true, &hurt, e);
	c->result->images_hurt += hurt;
	return r;
}
