/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/record.h"
#include "lib/repo/pack.h"
#include "lib/repo/pack_ahead.h"

/* What an encrypted entry is longer than the frame in it. */
#define SEALED_EXTRA \
	(sizeof(struct record_head) + sizeof(struct repo_sealed_head) + REPO_SEAL_EXTRA)

struct repo_source {
	struct repo *repo;
	struct pack_ahead *ahead;
	uint64_t chunk_size;
};

static void source_free(void *ctx)
{
	struct repo_source *s = ctx;

	if (!s)
		return;
	pack_ahead_free(s->ahead);
	free(s);
}

static uint32_t source_extra(const struct repo_source *s)
{
	return s->repo->crypt ? (uint32_t)SEALED_EXTRA : 0;
}

/* @place's bytes, opened, into @ret (allocated); @want is read with it (NULL: what lies beside it). */
static int source_read(const struct repo_source *s, const struct repo_place *place,
		       const struct image_span *want, void **ret, size_t *ret_len, struct err *e)
{
	const uint32_t len = le32_get(place->entry.frame_len);
	_cleanup_free_ uint8_t *stored = malloc((size_t)len + 1), *opened = NULL;
	int r;

	/* as large as an entry, which is what repo_open_entry() asks for */
	opened = malloc((size_t)len + 1);
	if (!stored || !opened)
		return err_oom(e);
	r = pack_ahead_read(s->ahead, place, want, stored, e);
	if (r >= 0)
		r = repo_open_entry(s->repo, place, stored, opened, ret_len, e);
	if (r >= 0)
		*ret = TAKE_PTR(opened);
	return r;
}

/* An image's pages lie one behind the other. */
static int source_page(void *ctx, const struct chunk_id *id, void **ret_body, size_t *ret_len,
		       struct err *e)
{
	const struct repo_source *s = ctx;
	struct repo_place place;
	int r;

	r = repo_locate(s->repo, id, REPO_KIND_PAGE, &place, e);
	if (r >= 0) {
		r = le32_get(place.entry.frame_len) <= AMBRO_PAGE_MAX + SEALED_EXTRA
			    ? source_read(s, &place, NULL, ret_body, ret_len, e)
			    : -EBADMSG;
	}
	/* the pack may be gone, and the page be in another one too */
	return r == -ENOENT || r == -EBADMSG
		       ? repo_read(s->repo, id, REPO_KIND_PAGE, ret_body, ret_len, e)
		       : r;
}

static int source_find(void *ctx, const struct chunk_id *id, struct image_place *ret, struct err *e)
{
	const struct repo_source *s = ctx;
	struct repo_place place;
	uint32_t len;
	int r;

	r = repo_locate(s->repo, id, REPO_KIND_CHUNK, &place, e);
	if (r < 0)
		return r;
	len = le32_get(place.entry.frame_len);
	/* a frame of 0 bytes is refused by the reader */
	*ret = (struct image_place){
		.container = place.pack,
		.offset = le32_get(place.entry.offset),
		.frame_len = len > source_extra(s) ? len - source_extra(s) : 0,
		.plain_len = le32_get(place.entry.plain_len),
	};
	return 0;
}

/* The pack is gone, or damaged there: the chunk may be in another one too. */
static int source_frame_elsewhere(const struct repo_source *s, const struct image_run *run,
				  void *frame, struct err *e)
{
	_cleanup_free_ void *bytes = NULL;
	size_t len;
	int r;

	r = repo_read(s->repo, &run->id, REPO_KIND_CHUNK, &bytes, &len, e);
	if (r < 0)
		return r == -ENOENT ? (e ? (e->code = -EBADMSG) : -EBADMSG) : r;
	if (len != run->frame_len) {
		return err_set(e, -EBADMSG,
			       "a chunk was moved in the repository while it was read: try again");
	}
	memcpy(frame, bytes, len);
	return 0;
}

static int source_frame(void *ctx, const struct image_run *run, void *frame, struct err *e)
{
	const struct repo_source *s = ctx;
	_cleanup_free_ void *opened = NULL;
	struct repo_place place = {
		.pack = run->container,
		.kind = REPO_KIND_CHUNK,
		.entry = { .offset = le32((uint32_t)run->offset),
			   .frame_len = le32(run->frame_len + source_extra(s)),
			   .plain_len = le32(run->plain_len) },
	};
	struct image_span want = run->piece;
	size_t len = 0;
	int r;

	/* it ends with a frame, which is longer here */
	if (want.length)
		want.length += source_extra(s);
	crypt_name(s->repo->crypt, &run->id, &place.entry.name);
	r = source_read(s, &place, &want, &opened, &len, e);
	if (r >= 0 && len != run->frame_len)
		r = -EBADMSG;
	if (r == -ENOENT || r == -EBADMSG)
		return source_frame_elsewhere(s, run, frame, e);
	if (r >= 0 && opened)
		memcpy(frame, opened, len);
	return r;
}

/* Pages and chunks are shared within and between images, so how many there are says nothing about one image. */
static int source_check_use(void *ctx, uint64_t pages, uint64_t chunks, struct err *e)
{
	(void)ctx;
	(void)pages;
	(void)chunks;
	(void)e;
	return 0;
}

static void source_where(void *ctx, const struct image_run *run, char *buf, size_t size)
{
	const struct repo_source *s = ctx;
	char name[PACK_NAME_SIZE];

	snprintf(buf, size, "byte %" PRIu64 " of %s", run->offset,
		 pack_name(repo_index_pack(s->repo->index, run->container)->hash, name));
}

static const struct image_source_ops repo_source_ops = {
	.page = source_page,
	.find = source_find,
	.frame = source_frame,
	.check_use = source_check_use,
	.where = source_where,
	.free = source_free,
};

int repo_source_open(struct repo *r, const struct repo_image *i, struct image_reader **ret,
		     struct err *e)
{
	const uint64_t size = i->manifest->stored_bytes;
	struct repo_source *s = calloc(1, sizeof(*s));
	_cleanup_free_ char *text = NULL;
	struct manifest *m = NULL;
	size_t len;
	int n;

	if (!s || pack_ahead_new(r, &s->ahead) < 0) {
		source_free(s);
		return err_oom(e);
	}
	s->repo = r;
	s->chunk_size = i->manifest->chunk_size;
	n = manifest_to_json(i->manifest, &text, &len, e);
	if (n >= 0)
		n = manifest_from_json(text, len, &m, e);
	if (n < 0) {
		source_free(s);
		return n;
	}
	n = image_reader_new(&repo_source_ops, s, m, 0, size, ret);
	return n < 0 ? err_oom(e) : 0;
}
