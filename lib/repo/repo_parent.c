/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_parent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/codec.h"
#include "lib/image/image_reader.h"
#include "lib/image/tree.h"
#include "lib/repo/repo_source.h"

/* Chunk numbers have at most 48 bits, 12 of them per level. */
#define DEPTH_MAX 4u

/* The page of one level that was read last: leaves are asked for one after the other. */
struct parent_level {
	uint8_t *body; /* NULL: none */
	size_t len;
	uint32_t region;
	uint64_t number;
	struct page_view view;
};

struct repo_parent {
	struct repo *repo;
	const struct repo_image *image;
	const struct page_source *pages; /* NULL: the repository's */
	char *manifest;
	size_t manifest_len;
	struct parent_level levels[DEPTH_MAX];
	/* for chunks */
	struct image_reader *reader;
	struct image_cursor *cursor;
	uint32_t cursor_region;
	struct codec *codec;
	void *frame;
	struct err failure;
};

int repo_parent_new(struct repo *r, const struct repo_image *i, const struct page_source *pages,
		    struct repo_parent **ret, struct err *e)
{
	_cleanup_(repo_parent_freep) struct repo_parent *p = calloc(1, sizeof(*p));
	int n;

	if (!p)
		return err_oom(e);
	p->repo = r;
	p->image = i;
	p->pages = pages;
	n = manifest_to_json(i->manifest, &p->manifest, &p->manifest_len, e);
	if (n >= 0)
		n = repo_source_open(r, i, &p->reader, e);
	if (n < 0)
		return n;
	p->frame = malloc(image_reader_frame_max(p->reader));
	if (!p->frame || codec_new(CODEC_LEVEL_DEFAULT, &p->codec) < 0)
		return err_oom(e);
	*ret = TAKE_PTR(p);
	return 0;
}

void repo_parent_free(struct repo_parent *p)
{
	if (!p)
		return;
	image_cursor_free(p->cursor);
	image_reader_free(p->reader);
	codec_free(p->codec);
	for (unsigned int i = 0; i < DEPTH_MAX; i++)
		free(p->levels[i].body);
	free(p->manifest);
	free(p->frame);
	free(p);
}

const struct err *repo_parent_failure(const struct repo_parent *p)
{
	return &p->failure;
}

static int parent_manifest(void *ctx, const char **ret, size_t *ret_len)
{
	const struct repo_parent *p = ctx;

	*ret = p->manifest;
	*ret_len = p->manifest_len;
	return 0;
}

/* ---- pages -------------------------------------------------------------------------------------- */

/* How many chunks one entry of a page of @level speaks of. */
static uint64_t level_span(unsigned int level)
{
	uint64_t span = 1;

	while (level--)
		span *= AMBRO_PAGE_FANOUT;
	return span;
}

static uint32_t level_count(uint64_t chunks, unsigned int level, uint64_t number)
{
	const uint64_t entries = (chunks - 1) / level_span(level) + 1;

	return (uint32_t)MIN(entries - number * AMBRO_PAGE_FANOUT, (uint64_t)AMBRO_PAGE_FANOUT);
}

/* Have page @number of @level, whose id is @id, in p->levels[level]. */
static int parent_load(struct repo_parent *p, unsigned int level, uint32_t region, uint64_t number,
		       uint32_t count, const struct chunk_id *id)
{
	struct parent_level *l = &p->levels[level];
	struct parent_level now = { .region = region, .number = number };
	struct chunk_id found;
	void *body = NULL;
	int r;

	if (l->body && l->region == region && l->number == number)
		return 0;
	r = p->pages ? p->pages->read(p->pages->ctx, id, &body, &now.len, &p->failure)
		     : repo_read(p->repo, id, REPO_KIND_PAGE, &body, &now.len, &p->failure);
	now.body = body;
	/* to the agent, "no such thing" would mean that it asked for a wrong number */
	if (r == -ENOENT)
		return -EBADMSG;
	if (r < 0)
		return r;
	chunk_id_of(now.body, now.len, &found);
	if (!chunk_id_equal(&found, id) ||
	    page_parse(now.body, now.len, level, count, &now.view) < 0) {
		free(now.body);
		return err_set(&p->failure, -EBADMSG,
			       "a page of the parent image is not the right one");
	}
	free(l->body);
	*l = now;
	return 0;
}

static ssize_t parent_page(void *ctx, uint32_t region, uint64_t number, void *ret)
{
	struct repo_parent *p = ctx;
	const struct manifest *m = p->image->manifest;
	struct chunk_id id;
	uint64_t chunks;

	if (region >= m->n_regions)
		return -ENOENT;
	chunks = region_chunks(m->regions[region].length, m->chunk_size);
	if (number > (chunks - 1) / AMBRO_PAGE_FANOUT || m->regions[region].depth > DEPTH_MAX)
		return -ENOENT;
	id = m->regions[region].root;
	for (unsigned int level = m->regions[region].depth; level-- > 0;) {
		/* page @number is entry @number of level 1, counted through */
		const uint64_t entry = level ? number / level_span(level - 1) : 0;
		const uint64_t page = level ? entry / AMBRO_PAGE_FANOUT : number;
		enum chunk_state state;
		int r = parent_load(p, level, region, page, level_count(chunks, level, page), &id);

		if (r < 0)
			return r;
		if (!level)
			break;
		state = page_entry(&p->levels[level].view, entry % AMBRO_PAGE_FANOUT, &id);
		if (state != CHUNK_DATA) {
			return (ssize_t)page_make_uniform(0, level_count(chunks, 0, number), state,
							  ret);
		}
	}
	memcpy(ret, p->levels[0].body, p->levels[0].len);
	return (ssize_t)p->levels[0].len;
}

/* ---- chunks ------------------------------------------------------------------------------------- */

static int parent_cursor(struct repo_parent *p, uint32_t region)
{
	if (p->cursor && p->cursor_region == region)
		return 0;
	image_cursor_free(TAKE_PTR(p->cursor));
	p->cursor_region = region;
	return image_cursor_new(p->reader, region, &p->cursor);
}

static ssize_t parent_chunk(void *ctx, uint32_t region, uint64_t number, void *ret)
{
	struct repo_parent *p = ctx;
	struct image_run run;
	int r;

	if (region >= p->image->manifest->n_regions)
		return -ENOENT;
	if (p->repo->crypt && crypt_rights(p->repo->crypt) != CRYPT_RIGHTS_FULL)
		return -EACCES;
	r = parent_cursor(p, region);
	if (r >= 0)
		r = image_cursor_at(p->cursor, number, &run, &p->failure);
	if (r < 0)
		return r;
	if (r == 0 || run.state != CHUNK_DATA)
		return -ENOENT;
	r = image_reader_chunk(p->reader, &run, p->codec, p->frame, ret, &p->failure);
	return r < 0 ? r : (ssize_t)run.plain_len;
}

const struct parent_server_ops repo_parent_ops = {
	.manifest = parent_manifest,
	.page = parent_page,
	.chunk = parent_chunk,
};
