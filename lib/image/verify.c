/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/queue.h"
#include "lib/image/chunk_order.h"

/* More threads than any disk feeds; each holds one frame and one chunk, 12 MiB at most. */
#define THREADS_MAX 256u
/* Chunks in the queue for each worker: enough that none waits for the thread that walks the trees. */
#define QUEUE_PER_THREAD 4u

struct work {
	uint32_t region;
	struct image_run run;
};

struct verify {
	const struct image_reader *reader;
	const struct manifest *manifest;
	struct cancel *cancel;
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
	uint64_t total; /* estimate */
	struct queue queue;
	struct chunk_order *chunks; /* of the thread that walks the trees, as the next two */
	uint64_t pages, data_met;
	atomic_uint_fast64_t done; /* bytes of data */
	atomic_int fatal;	   /* negative errno that is no damage */

	pthread_mutex_t lock; /* guards what follows */
	struct verify_result result;
	struct err fatal_err;
};

/* Only what says that the image's bytes are wrong or gone is damage. */
static bool is_damage(int r)
{
	return r == -EBADMSG || r == -EIO || r == -ENODATA;
}

static void verify_failed(struct verify *v, const struct work *w, uint64_t count, int r,
			  const struct err *e)
{
	const struct manifest_region *region = &v->manifest->regions[w->region];
	const uint64_t offset = region->start + w->run.index * v->manifest->chunk_size;
	struct verify_result *result = &v->result;
	const char *what = e->text;
	char where[64];

	/* a cursor says where it was; workers do not */
	snprintf(where, sizeof(where), "region %" PRIu32 ", chunk %" PRIu64, w->region,
		 w->run.index);
	if (!strncmp(what, where, strlen(where)) && !strncmp(what + strlen(where), ": ", 2))
		what += strlen(where) + 2;
	pthread_mutex_lock(&v->lock);
	if (!is_damage(r)) {
		v->fatal_err = *e;
		atomic_store(&v->fatal, r);
	} else if (!result->damaged_chunks || offset < result->first_offset) {
		result->first_offset = offset;
		snprintf(result->first_damage, sizeof(result->first_damage),
			 "%s (byte %" PRIu64 " of the disk): %.350s", where, offset, what);
	}
	if (is_damage(r))
		result->damaged_chunks += count;
	pthread_mutex_unlock(&v->lock);
}

struct worker {
	struct verify *verify;
	pthread_t thread;
	struct codec *codec;
	void *frame, *plain;
};

static void worker_check(struct worker *k, const struct work *w)
{
	struct verify *v = k->verify;
	struct err e = { 0 };
	int r = image_reader_chunk(v->reader, &w->run, k->codec, k->frame, k->plain, &e);

	if (r < 0) {
		verify_failed(v, w, 1, r, &e);
	} else {
		pthread_mutex_lock(&v->lock);
		v->result.data_chunks++;
		v->result.plain_bytes += w->run.plain_len;
		pthread_mutex_unlock(&v->lock);
	}
	atomic_fetch_add(&v->done, w->run.plain_len);
}

static void *worker_main(void *arg)
{
	struct worker *k = arg;
	struct verify *v = k->verify;
	struct work *w;

	while ((w = queue_pop(&v->queue))) {
		if (!cancel_raised(v->cancel) && !atomic_load(&v->fatal))
			worker_check(k, w);
		free(w);
	}
	return NULL;
}

static void verify_report(struct verify *v)
{
	uint64_t done = atomic_load(&v->done);

	if (v->progress)
		v->progress(v->ctx, MIN(done, v->total), v->total);
}

static int verify_push(struct verify *v, const struct work *w)
{
	struct work *copy = malloc(sizeof(*copy));
	int r;

	if (!copy)
		return -ENOMEM;
	*copy = *w;
	r = queue_push(&v->queue, copy);
	if (r < 0)
		free(copy);
	return r;
}

/* All chunks that were met so far to the workers, as they are stored. */
static int verify_push_met(struct verify *v)
{
	struct work w = { 0 };
	int r = 0;

	if (!chunk_order_sort(v->chunks))
		return 0;
	while (r >= 0 && chunk_order_next(v->chunks, &w.region, &w.run)) {
		if (cancel_raised(v->cancel))
			return -ECANCELED;
		r = atomic_load(&v->fatal);
		if (r >= 0)
			r = verify_push(v, &w);
		verify_report(v);
	}
	return r;
}

/* The walk may go on? Otherwise all from @w on is damaged. */
static bool verify_in_bounds(struct verify *v, const struct image_cursor *cursor,
			     const struct work *w, uint64_t chunks)
{
	struct err e = { 0 };
	int r = image_reader_check_use(v->reader, v->pages + image_cursor_pages(cursor),
				       v->data_met, &e);

	if (r < 0)
		verify_failed(v, w, chunks - w->run.index, r, &e);
	return r >= 0;
}

static int verify_region(struct verify *v, uint32_t region)
{
	const struct manifest_region *m = &v->manifest->regions[region];
	const uint64_t chunks = region_chunks(m->length, v->manifest->chunk_size);
	_cleanup_(image_cursor_freep) struct image_cursor *cursor = NULL;
	struct work w = { .region = region };
	int r;

	r = image_cursor_new(v->reader, region, &cursor);
	if (r < 0)
		return r;
	for (uint64_t at = 0; at < chunks;) {
		struct err e = { 0 };

		if (cancel_raised(v->cancel))
			return -ECANCELED;
		if (atomic_load(&v->fatal))
			return atomic_load(&v->fatal);
		r = image_cursor_at(cursor, at, &w.run, &e);
		w.run.index = at;
		v->data_met += r >= 0 && w.run.state == CHUNK_DATA;
		if (!verify_in_bounds(v, cursor, &w, chunks))
			break;
		if (r < 0) {
			at = image_cursor_lost_end(cursor);
			verify_failed(v, &w, at - w.run.index, r, &e);
			continue;
		}
		at += w.run.count;
		if (w.run.state != CHUNK_DATA || chunk_order_add(v->chunks, region, &w.run))
			continue;
		r = verify_push_met(v);
		if (r < 0)
			return r;
	}
	v->pages += image_cursor_pages(cursor);
	return 0;
}

static int workers_start(struct verify *v, struct worker *workers, unsigned int n,
			 unsigned int *ret_started)
{
	for (unsigned int i = 0; i < n; i++) {
		struct worker *k = &workers[i];
		int r;

		k->verify = v;
		k->frame = malloc(image_reader_frame_max(v->reader) + 1);
		k->plain = malloc(v->manifest->chunk_size);
		if (!k->frame || !k->plain)
			return -ENOMEM;
		r = codec_new(CODEC_LEVEL_DEFAULT, &k->codec);
		if (r < 0)
			return r;
		r = -pthread_create(&k->thread, NULL, worker_main, k);
		if (r < 0)
			return r;
		*ret_started = i + 1;
	}
	return 0;
}

static void workers_free(struct worker *workers, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		codec_free(workers[i].codec);
		free(workers[i].frame);
		free(workers[i].plain);
	}
	free(workers);
}

/* Of all states. */
static uint64_t verify_chunks(const struct manifest *m)
{
	uint64_t n = 0;

	for (size_t i = 0; i < m->n_regions; i++)
		n += region_chunks(m->regions[i].length, m->chunk_size);
	return n;
}

static int verify_run(struct verify *v, unsigned int threads)
{
	struct worker *workers = calloc(threads, sizeof(*workers));
	unsigned int started = 0;
	int r;

	if (!workers || chunk_order_new(verify_chunks(v->manifest), &v->chunks) < 0) {
		free(workers);
		return -ENOMEM;
	}
	r = workers_start(v, workers, threads, &started);
	for (uint32_t i = 0; i < v->manifest->n_regions && r >= 0; i++)
		r = verify_region(v, i);
	if (r >= 0)
		r = verify_push_met(v);
	queue_close(&v->queue);
	for (unsigned int i = 0; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	workers_free(workers, threads);
	if (r >= 0 && cancel_raised(v->cancel))
		return -ECANCELED;
	return r < 0 ? r : atomic_load(&v->fatal);
}

/* What the manifest says, as far as it is possible: it decides nothing but the progress shown. */
static uint64_t verify_estimate(const struct manifest *m)
{
	uint64_t bytes;

	if (__builtin_mul_overflow(m->data_chunks, m->chunk_size, &bytes))
		return m->disk_size;
	return MIN(bytes, m->disk_size);
}

/* NOLINTNEXTLINE(readability-function-size): as many parameters as there are facts */
int image_verify(const struct image_reader *r, unsigned int threads, struct cancel *c,
		 void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
		 struct verify_result *ret, struct err *e)
{
	struct verify v = { .reader = r, .manifest = image_reader_manifest(r), .cancel = c };
	struct err framing = { 0 };
	int n;

	if (!threads)
		threads = (unsigned int)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
	threads = MIN(threads, THREADS_MAX);
	v.progress = progress;
	v.ctx = ctx;
	v.total = verify_estimate(v.manifest);
	n = queue_init(&v.queue, (size_t)threads * QUEUE_PER_THREAD);
	if (n < 0)
		return err_oom(e);
	pthread_mutex_init(&v.lock, NULL);
	n = verify_run(&v, threads);
	chunk_order_free(v.chunks);
	pthread_mutex_destroy(&v.lock);
	queue_done(&v.queue);
	if (n < 0 && n == v.fatal_err.code) {
		return err_set(e, n, "the image could not be checked to its end: %.400s",
			       v.fatal_err.text);
	}
	if (n < 0)
		return err_set_errno(e, n, "the image could not be checked to its end");
	v.result.chunks = verify_chunks(v.manifest);
	if (progress)
		progress(ctx, v.total, v.total);
	*ret = v.result;
	if (v.result.damaged_chunks)
		return err_set(e, -EBADMSG, "%s", v.result.first_damage);
	n = image_reader_check_framing(r, c, &framing);
	if (n < 0 && e)
		*e = framing;
	if (n == -EBADMSG)
		snprintf(ret->first_damage, sizeof(ret->first_damage), "%s", framing.text);
	return n;
}
