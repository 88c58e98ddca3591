/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream, front to back, and the trees of what it says. Input: flags (bit 0: mend the records' checks; bit 1: mend the
 * TRAILER's hashes), then the stream.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/io.h"
#include "lib/image/manifest.h"
#include "lib/repo/stream_log.h"
#include "lib/repo/stream_reader.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mend.h"

/* Trees of more chunks than this only cost time. */
#define TREE_CHUNKS_MAX (UINT64_C(1) << 24)

static void trees_make(struct stream_log *log, const struct manifest *m)
{
	struct tree **trees = calloc(m->n_regions, sizeof(struct tree *));

	FUZZ_CHECK(trees);
	for (size_t i = 0; i < m->n_regions; i++) {
		FUZZ_CHECK(tree_new(region_chunks(m->regions[i].length, m->chunk_size),
				    &trees[i]) == 0);
	}
	FUZZ_CHECK(stream_log_apply(log, trees) == 0);
	for (size_t i = 0; i < m->n_regions; i++)
		tree_free(trees[i]);
	free(trees);
}

static void item_check(const struct stream_reader *s, const struct stream_item *i)
{
	const struct stream_header *h = stream_reader_header(s);
	uint8_t sum = 0;

	if (i->type == AMBRO_RECORD_CHUNK) {
		FUZZ_CHECK(i->frame_len && i->frame_len <= UINT64_C(2) << h->chunk_shift);
		/* every byte that is promised is there */
		for (uint32_t k = 0; k < i->frame_len; k++)
			sum ^= ((const uint8_t *)i->frame)[k];
	}
	for (size_t k = 0; k < i->body_len; k++)
		sum ^= ((const uint8_t *)i->body)[k];
	if (i->type == AMBRO_RECORD_CHUNK || i->type == AMBRO_RECORD_RUN)
		FUZZ_CHECK(i->region < h->regions && i->count && i->plain_len <= h->disk_size);
	if (sum == 1)
		(void)getpid();
}

/* What an ingest keeps of a stream. */
struct taken {
	struct stream_log *log;
	struct manifest *m;
};

static void taken_done(struct taken *t)
{
	stream_log_free(t->log);
	manifest_free(t->m);
}

static int take_manifest(struct taken *t, const struct stream_header *h,
			 const struct stream_item *i, struct err *e)
{
	int r = manifest_from_json(i->body, i->body_len, &t->m, e);

	if (r < 0)
		return r;
	if (t->m->disk_size != h->disk_size || t->m->chunk_size != UINT64_C(1) << h->chunk_shift)
		return err_set(e, -EBADMSG, "another disk");
	return stream_log_check(t->log, t->m, e);
}

static int take_item(struct taken *t, const struct stream_header *h, const struct stream_item *i,
		     struct err *e)
{
	const bool ordered = !(h->require & AMBRO_REQUIRE_RESENT);
	int r = 0;

	switch (i->type) {
	case AMBRO_RECORD_HEADER:
		FUZZ_CHECK(!t->log);
		FUZZ_CHECK(stream_log_new(h->regions, h->chunk_shift, ordered, &t->log) == 0);
		return 0;
	case AMBRO_RECORD_CHUNK:
		r = stream_log_chunk(t->log, i->region, i->index, i->plain_len, &i->id);
		if (r < 0)
			return err_set(e, r, "a chunk");
		FUZZ_CHECK(stream_log_remember(t->log) == 0 && stream_log_knows(t->log, &i->id));
		return 0;
	case AMBRO_RECORD_RUN:
		r = stream_log_run(t->log, i->region, i->index, i->count, i->plain_len, i->state);
		return r < 0 ? err_set(e, r, "a run") : 0;
	case AMBRO_RECORD_MANIFEST:
		return take_manifest(t, h, i, e);
	default:
		return 0;
	}
}

/* What an ingest does with a stream, without a repository. */
static int stream_take(struct stream_reader *s, struct taken *t, struct err *e)
{
	struct stream_item i;
	int r;

	do {
		r = stream_reader_next(s, &i, e);
		if (r > 0) {
			int n;

			item_check(s, &i);
			n = take_item(t, stream_reader_header(s), &i, e);
			if (n < 0)
				r = n;
		}
	} while (r > 0);
	FUZZ_CHECK(r == 0 || (e->code == r && *e->text));
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(stream_reader_freep) struct stream_reader *s = NULL;
	_cleanup_(taken_done) struct taken t = { 0 };
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ uint8_t *image = NULL;
	struct err e = { 0 };
	int r;

	if (size < 1)
		return 0;
	image = malloc(size);
	fd = memfd_create("stream", MFD_CLOEXEC);
	if (!image || fd < 0)
		return 0;
	memcpy(image, data + 1, size - 1);
	mend(image, size - 1,
	     data[0] & MEND_HASHES ? MEND_HASHES | MEND_CHECKS : data[0] & MEND_CHECKS);
	FUZZ_CHECK(io_write_all(fd, image, size - 1) == 0 && lseek(fd, 0, SEEK_SET) == 0);
	FUZZ_CHECK(stream_reader_new(fd, NULL, &s) == 0);
	r = stream_take(s, &t, &e);
	FUZZ_CHECK(r == 0 || r == -EBADMSG || r == -ENODATA || r == -ENOTSUP);
	if (r < 0)
		return 0;
	FUZZ_CHECK(t.m && stream_reader_bytes(s) == size - 1);
	if (t.m->disk_size / t.m->chunk_size < TREE_CHUNKS_MAX)
		trees_make(t.log, t.m);
	return 0;
}
