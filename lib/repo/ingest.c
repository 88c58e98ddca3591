/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The invariants and steps are in ingest.h. */
#include "lib/repo/ingest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/io.h"
#include "lib/image/codec.h"
#include "lib/image/tree.h"
#include "lib/repo/ingest_packs.h"
#include "lib/repo/ingest_trees.h"
#include "lib/repo/stream_log.h"
#include "lib/repo/stream_reader.h"

/* Progress is told once in so many bytes. */
#define PROGRESS_BYTES (UINT64_C(4) << 20)
/* 4 PiB in chunks of 64 KiB, 64 PiB in those of 1 MiB */
#define INGEST_CHUNKS_MAX (UINT64_C(1) << 36)
/* as repo_image_json.c takes them */
#define IMAGE_TAGS_MAX ((size_t)256)

struct ingest {
	const struct ingest_settings *settings;
	struct stream_reader *reader;
	struct stream_log *log;
	struct ingest_packs *packs;
	struct manifest *manifest;
	struct repo_images images; /* loaded only to look for the parent */
	const struct repo_image *parent;
	struct codec *codec; /* check_chunks */
	uint8_t *plain;
	uint64_t told; /* bytes of the stream at the last progress */
	struct ingest_result result;
};

static void ingest_done(struct ingest *g)
{
	ingest_packs_free(g->packs);
	stream_log_free(g->log);
	stream_reader_free(g->reader);
	manifest_free(g->manifest);
	repo_images_done(&g->images);
	codec_free(g->codec);
	free(g->plain);
}

static void ingest_tell(struct ingest *g, bool now)
{
	const struct ingest_settings *s = g->settings;

	g->result.stream_bytes = stream_reader_bytes(g->reader);
	g->result.new_bytes = ingest_packs_bytes(g->packs);
	g->result.packs = ingest_packs_count(g->packs);
	if (!s->progress || (!now && g->result.stream_bytes - g->told < PROGRESS_BYTES))
		return;
	g->told = g->result.stream_bytes;
	s->progress(s->progress_ctx, g->result.stream_bytes, g->result.new_bytes);
}

/* ---- the stream --------------------------------------------------------------------------------- */

static int ingest_header(struct ingest *g, struct err *e)
{
	const struct stream_header *h = stream_reader_header(g->reader);
	const struct repo_format *format = &g->settings->repo->format;

	if (h->chunk_shift != format->chunk_shift) {
		return err_set(e, -EINVAL,
			       "the image has chunks of %u KiB, the repository those of %u KiB: "
			       "captured with 'capture --chunk-size %uK' it would fit, and a "
			       "repository for this one is made with 'repo init --chunk-size %uK'",
			       1u << (h->chunk_shift - 10), 1u << (format->chunk_shift - 10),
			       1u << (format->chunk_shift - 10), 1u << (h->chunk_shift - 10));
	}
	/* a tree takes 16 bytes for each 4096 chunks even when it is empty */
	if (h->disk_size >> h->chunk_shift > INGEST_CHUNKS_MAX) {
		return err_set(e, -EFBIG,
			       "a disk of %" PRIu64 " bytes is too large for chunks of %u KiB",
			       h->disk_size, 1u << (h->chunk_shift - 10));
	}
	if (stream_log_new(h->regions, h->chunk_shift, !(h->require & AMBRO_REQUIRE_RESENT),
			   &g->log) < 0)
		return err_oom(e);
	if (!g->settings->check_chunks)
		return 0;
	g->plain = malloc((size_t)1 << h->chunk_shift);
	if (!g->plain || codec_new(CODEC_LEVEL_DEFAULT, &g->codec) < 0)
		return err_oom(e);
	return 0;
}

static int ingest_said(int r, const struct stream_item *i, struct err *e)
{
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0) {
		return err_set(e, r,
			       "chunk %" PRIu64 " of region %" PRIu32
			       " is out of order, or not as long as it was said before",
			       i->index, i->region);
	}
	return 0;
}

static int ingest_check_chunk(struct ingest *g, const struct stream_item *i, struct err *e)
{
	struct chunk_id found;
	int r = codec_decompress(g->codec, i->frame, i->frame_len, g->plain, i->plain_len);

	if (r == -ENOMEM)
		return err_oom(e);
	if (r >= 0)
		chunk_id_of(g->plain, i->plain_len, &found);
	if (r < 0 || !chunk_id_equal(&found, &i->id)) {
		return err_set(e, -EBADMSG, "chunk %" PRIu64 " of region %" PRIu32 " is damaged",
			       i->index, i->region);
	}
	return 0;
}

static int ingest_chunk(struct ingest *g, const struct stream_item *i, struct err *e)
{
	struct repo_place place;
	bool known;
	int r;

	r = ingest_said(stream_log_chunk(g->log, i->region, i->index, i->plain_len, &i->id), i, e);
	if (r >= 0 && g->settings->check_chunks)
		r = ingest_check_chunk(g, i, e);
	if (r < 0)
		return r;
	g->result.chunks++;
	known = stream_log_knows(g->log, &i->id);
	if (!known) {
		r = repo_find(g->settings->repo, &i->id, REPO_KIND_CHUNK, &place, e);
		if (r < 0 && r != -ENOENT)
			return r;
		known = r >= 0;
	}
	if (known) {
		g->result.known_chunks++;
		return 0;
	}
	r = ingest_packs_add(g->packs, REPO_KIND_CHUNK, &i->id, (uint32_t)i->plain_len, i->frame,
			     i->frame_len, e);
	if (r < 0)
		return r;
	g->result.new_chunks++;
	return stream_log_remember(g->log) < 0 ? err_oom(e) : 0;
}

static int ingest_manifest(struct ingest *g, const struct stream_item *i, struct err *e)
{
	const struct stream_header *h = stream_reader_header(g->reader);
	const struct manifest *m;
	int r;

	r = manifest_from_json(i->body, i->body_len, &g->manifest, e);
	if (r < 0)
		return r;
	m = g->manifest;
	if (memcmp(m->image_id, h->image_id, sizeof(m->image_id)) != 0 ||
	    m->disk_size != h->disk_size || m->logical_sector != h->sector_size ||
	    m->chunk_size != UINT64_C(1) << h->chunk_shift || m->created_ns != h->created_ns ||
	    m->n_regions != h->regions) {
		return err_set(e, -EBADMSG, "the MANIFEST and the HEADER contradict each other");
	}
	return stream_log_check(g->log, m, e);
}

static int ingest_item(struct ingest *g, const struct stream_item *i, struct err *e)
{
	switch (i->type) {
	case AMBRO_RECORD_HEADER:
		return ingest_header(g, e);
	case AMBRO_RECORD_CHUNK:
		return ingest_chunk(g, i, e);
	case AMBRO_RECORD_RUN:
		return ingest_said(stream_log_run(g->log, i->region, i->index, i->count,
						  i->plain_len, i->state),
				   i, e);
	case AMBRO_RECORD_MANIFEST:
		return ingest_manifest(g, i, e);
	default:
		/* pages are made anew; the others have been checked */
		return 0;
	}
}

static int ingest_stream(struct ingest *g, struct err *e)
{
	struct stream_item item;
	int r;

	for (;;) {
		if (cancel_raised(g->settings->cancel))
			return err_set(e, -ECANCELED, "cancelled");
		r = stream_reader_next(g->reader, &item, e);
		if (r <= 0)
			return r;
		r = ingest_item(g, &item, e);
		if (r < 0)
			return r;
		ingest_tell(g, false);
	}
}

/* ---- the parent --------------------------------------------------------------------------------- */

static int ingest_find_parent(struct ingest *g, struct err *e)
{
	const struct ingest_settings *s = g->settings;
	const struct manifest *m = g->manifest;
	int r;

	if (!m->has_parent)
		return err_set(e, -EBADMSG, "the stream is an increment that names no parent");
	g->parent = s->parent;
	if (!g->parent) {
		r = repo_images_load(s->repo, false, &g->images, e);
		if (r < 0)
			return r;
		for (size_t i = 0; i < g->images.count && !g->parent; i++) {
			const struct repo_image *image = g->images.items[i];

			if (!memcmp(image->manifest->image_id, m->parent_id, sizeof(m->parent_id)))
				g->parent = image;
		}
	}
	if (!g->parent ||
	    memcmp(g->parent->manifest->image_id, m->parent_id, sizeof(m->parent_id)) != 0) {
		return err_set(e, -ENOENT,
			       "the image that this increment was made against is not in the "
			       "repository");
	}
	return ingest_parent_check(m, g->parent->manifest, e);
}

/* ---- the end ------------------------------------------------------------------------------------ */

static int ingest_pages(struct ingest *g, struct err *e)
{
	const bool delta = stream_reader_header(g->reader)->require & AMBRO_REQUIRE_PARENT;
	struct ingest_trees t = { .repo = g->settings->repo,
				  .packs = g->packs,
				  .log = g->log,
				  .manifest = g->manifest,
				  .parent_pages = g->settings->parent_pages,
				  .on_page = g->settings->on_page,
				  .on_page_ctx = g->settings->on_page_ctx,
				  .cancel = g->settings->cancel };
	int r;

	if (delta) {
		r = ingest_find_parent(g, e);
		if (r < 0)
			return r;
		t.parent = g->parent->manifest;
	}
	/* a restore reads the pages of an image one after the other */
	r = ingest_packs_turn(g->packs, e);
	if (r >= 0)
		r = ingest_trees_make(&t, e);
	g->result.same_chunks = t.same_chunks;
	return r;
}

static int ingest_check_tags(const char *const *tags, struct err *e)
{
	size_t n = 0;

	for (; tags && tags[n]; n++) {
		if (!repo_image_word_valid(tags[n])) {
			return err_set(e, -EINVAL,
				       "'%s' is no tag: letters, digits, '_', '-' and '.', at most "
				       "%d of them",
				       tags[n], REPO_IMAGE_WORD_MAX);
		}
	}
	if (n > IMAGE_TAGS_MAX)
		return err_set(e, -EINVAL, "%zu tags are too many", n);
	return 0;
}

static int image_tags(const char *const *tags, char ***ret)
{
	size_t n = 0;

	while (tags && tags[n])
		n++;
	*ret = calloc(n + 1, sizeof(**ret));
	for (size_t i = 0; *ret && i < n; i++) {
		(*ret)[i] = strdup(tags[i]);
		if (!(*ret)[i])
			return -ENOMEM;
	}
	return *ret ? 0 : -ENOMEM;
}

static int ingest_image(struct ingest *g, struct repo_image **ret, struct err *e)
{
	const struct ingest_settings *s = g->settings;
	_cleanup_(repo_image_freep) struct repo_image *i = calloc(1, sizeof(*i));

	if (!i || image_tags(s->tags, &i->tags) < 0)
		return err_oom(e);
	i->host = repo_image_word(s->host ? s->host : g->manifest->hostname);
	i->disk = s->disk ? repo_image_word(s->disk)
			  : repo_image_disk_word(g->manifest->path, g->manifest->model);
	if (!i->host || !i->disk)
		return err_oom(e);
	i->manifest = TAKE_PTR(g->manifest);
	i->time_ns = i->manifest->instant_ns ? i->manifest->instant_ns : i->manifest->created_ns;
	i->new_chunks = g->result.new_chunks;
	i->new_bytes = g->result.new_bytes;
	i->all_chunks = i->manifest->data_chunks;
	*ret = TAKE_PTR(i);
	return 0;
}

static int ingest_commit(struct ingest *g, struct repo_image **ret, struct err *e)
{
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	int r;

	r = ingest_packs_finish(g->packs, true, e);
	ingest_tell(g, true);
	if (r >= 0)
		r = ingest_image(g, &image, e);
	if (r >= 0 && g->settings->before_commit)
		r = g->settings->before_commit(g->settings->before_commit_ctx);
	if (r >= 0)
		r = repo_in_time(g->settings->repo, g->settings->grace_ns, e);
	if (r >= 0)
		r = repo_image_put(g->settings->repo, image, e);
	if (r >= 0 && ret)
		*ret = TAKE_PTR(image);
	return r;
}

/* What came whole need not be sent again, unless there is reason to doubt it, or nobody wants to wait. */
static void ingest_salvage(struct ingest *g, int r)
{
	struct err ignored = { 0 };

	if (r == -EBADMSG || r == -ENOTSUP || r == -EINVAL)
		return;
	ingest_packs_finish(g->packs, r != -ECANCELED, &ignored);
	ingest_tell(g, true);
}

int ingest_run(const struct ingest_settings *s, struct repo_image **ret_image,
	       struct ingest_result *ret, struct err *e)
{
	_cleanup_(ingest_done) struct ingest g = { .settings = s };
	int r = ingest_check_tags(s->tags, e);

	if (r < 0)
		return r;
	if (stream_reader_new(s->fd, s->cancel, &g.reader) < 0)
		return err_oom(e);
	r = ingest_packs_new(s->repo, s->grace_ns, &g.packs, e);
	if (r < 0)
		return r;
	r = ingest_stream(&g, e);
	if (r >= 0)
		r = ingest_pages(&g, e);
	if (r >= 0) {
		r = ingest_commit(&g, ret_image, e);
	} else {
		ingest_salvage(&g, r);
	}
	if (ret)
		*ret = g.result;
	return r;
}
