/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_export.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/image/manifest.h"

/* Progress is told once in so many chunks or runs. */
#define PROGRESS_STEPS 64u

struct copy {
	const struct repo_export *x;
	struct manifest *manifest; /* the writer's */
	struct image_writer *writer;
	struct codec *codec;
	void *frame, *plain;
	uint64_t disk_bytes;
	unsigned int steps;
};

static void copy_done(struct copy *c)
{
	image_writer_free(c->writer);
	manifest_free(c->manifest);
	codec_free(c->codec);
	free(c->frame);
	free(c->plain);
}

static int copy_run(struct copy *c, uint32_t region, const struct image_run *run, struct err *e)
{
	int r;

	if (run->state != CHUNK_DATA)
		return image_writer_run(c->writer, region, run->index, run->count, run->state, e);
	r = image_reader_chunk(c->x->reader, run, c->codec, c->frame, c->plain, e);
	if (r < 0)
		return r;
	return image_writer_chunk(c->writer, region, run->index, &run->id, c->frame, run->frame_len,
				  e);
}

static int copy_region(struct copy *c, uint32_t region, struct err *e)
{
	const struct manifest_region *m = &c->manifest->regions[region];
	_cleanup_(image_cursor_freep) struct image_cursor *cursor = NULL;
	const struct repo_export *x = c->x;
	struct image_run run = { 0 };
	int r = image_cursor_new(x->reader, region, &cursor);

	if (r < 0)
		return r == -ENOMEM ? err_oom(e) : err_set(e, r, "region %u is too large", region);
	for (uint64_t i = 0;; i = run.index + run.count) {
		const uint64_t done = i * c->manifest->chunk_size;

		if (cancel_raised(x->cancel))
			return err_set(e, -ECANCELED, "cancelled");
		if (x->progress && c->steps++ % PROGRESS_STEPS == 0) {
			x->progress(x->progress_ctx, m->start + MIN(done, m->length),
				    image_writer_bytes(c->writer));
		}
		r = image_cursor_at(cursor, i, &run, e);
		if (r <= 0)
			return r;
		r = copy_run(c, region, &run, e);
		if (r < 0)
			return r;
	}
}

/* The writer puts roots and numbers into the manifest that it is given. */
static int copy_manifest(struct copy *c, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = manifest_to_json(image_reader_manifest(c->x->reader), &text, &len, e);

	return r < 0 ? r : manifest_from_json(text, len, &c->manifest, e);
}

static int copy_begin(struct copy *c, struct err *e)
{
	const struct manifest *m;
	uint64_t data, require;
	int r = copy_manifest(c, e);

	if (r < 0)
		return r;
	m = c->manifest;
	if (__builtin_mul_overflow(m->data_chunks, m->chunk_size, &data) || data > m->disk_size)
		data = m->disk_size;
	require = m->disk_size - data > IMAGE_SPARSE_BYTES ? AMBRO_REQUIRE_SPARSE : 0;
	c->frame = malloc(image_reader_frame_max(c->x->reader));
	c->plain = malloc(m->chunk_size);
	if (!c->frame || !c->plain || codec_new(CODEC_LEVEL_DEFAULT, &c->codec) < 0)
		return err_oom(e);
	return image_writer_new(c->x->sink, c->manifest, require, &c->writer, e);
}

int repo_export_run(const struct repo_export *x, struct err *e)
{
	_cleanup_(copy_done) struct copy c = { .x = x };
	int r = copy_begin(&c, e);

	for (uint32_t i = 0; r >= 0 && i < c.manifest->n_regions; i++)
		r = copy_region(&c, i, e);
	if (r >= 0)
		r = image_writer_finish(c.writer, e);
	if (r >= 0 && x->progress)
		x->progress(x->progress_ctx, c.manifest->disk_size, image_writer_bytes(c.writer));
	return r < 0 ? r : 0;
}
