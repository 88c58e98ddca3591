/* SPDX-License-Identifier: GPL-2.0-or-later */
/* repo-bench - what the programs share that measure repositories: image streams out of thin air. Whatever fails ends it. */
#pragma once

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/io.h"
#include "lib/image/image_writer.h"
#include "lib/repo/ingest.h"
#include "lib/repo/repo.h"

static inline void bench_die(const char *what, int r, const struct err *e)
{
	fprintf(stderr, "%s: %s\n", what, e && e->code ? e->text : strerror(-r));
	exit(1);
}
/* @r negative: the end. */
static inline int bench_ok(const char *what, int r, const struct err *e)
{
	if (r < 0)
		bench_die(what, r, e);
	return r;
}

static inline uint64_t bench_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static inline double bench_seconds(void)
{
	return (double)io_now_ns() / 1e9;
}

/* A disk of one region, all of it in use. */
struct bench_stream {
	const char *host;
	uint64_t chunks, chunk_size, time_ns;
	const struct manifest *parent; /* NULL: a whole image */
	uint64_t step;		       /* with a parent: each @step-th chunk is spoken of */
	/* the frame of chunk @index, good until the next call, and its id */
	size_t (*chunk)(void *ctx, uint64_t index, struct chunk_id *ret_id, const void **ret_frame);
	void *ctx;
	int fd; /* where to */
};

static inline int bench_sink(void *ctx, const void *buf, size_t len)
{
	return io_write_all(*(int *)ctx, buf, len);
}

static inline void *bench_stream_write(void *arg)
{
	struct bench_stream *s = arg;
	const struct image_sink sink = { bench_sink, &s->fd };
	struct image_writer *w = NULL;
	struct manifest *m = NULL;
	struct err e = { 0 };
	const uint64_t id[2] = { bench_mix(s->time_ns), bench_mix((uint64_t)(uintptr_t)s) };

	bench_ok("manifest", manifest_new(1, &m), NULL);
	m->chunk_size = (uint32_t)s->chunk_size;
	m->logical_sector = 512;
	m->created_ns = m->instant_ns = s->time_ns;
	m->disk_size = s->chunks * s->chunk_size;
	m->hostname = strdup(s->host);
	m->path = strdup("/dev/vda");
	m->regions[0].kind = REGION_WHOLE;
	m->regions[0].length = m->disk_size;
	memcpy(m->image_id, id, sizeof(m->image_id));
	m->has_parent = s->parent;
	if (s->parent)
		memcpy(m->parent_id, s->parent->image_id, sizeof(m->parent_id));
	bench_ok("image_writer_new",
		 image_writer_new(&sink, m,
				  s->parent ? AMBRO_REQUIRE_WHOLE | AMBRO_REQUIRE_PARENT : 0, &w,
				  &e),
		 &e);
	if (s->parent) {
		bench_ok("run", image_writer_run(w, 0, 0, s->chunks, CHUNK_SAME, &e), &e);
	}
	for (uint64_t i = 0; i < s->chunks; i += s->parent ? s->step : 1) {
		struct chunk_id name;
		const void *frame;
		const size_t len = s->chunk(s->ctx, i, &name, &frame);

		bench_ok("chunk", image_writer_chunk(w, 0, i, &name, frame, len, &e), &e);
	}
	bench_ok("image_writer_finish", image_writer_finish(w, &e), &e);
	image_writer_free(w);
	manifest_free(m);
	close(s->fd);
	return NULL;
}

/* Through a pipe into the repository, whose index is loaded. */
static inline struct repo_image *bench_ingest(struct repo *r, struct bench_stream *s,
					      const struct repo_image *parent,
					      struct ingest_result *ret)
{
	struct ingest_settings in = { .repo = r,
				      .host = s->host,
				      .disk = "vda",
				      .parent = parent,
				      .grace_ns = REPO_GRACE_NS };
	struct repo_image *image = NULL;
	struct err e = { 0 };
	pthread_t writer;
	int fds[2];

	if (pipe(fds) < 0)
		bench_die("pipe", -errno, NULL);
	in.fd = fds[0];
	s->fd = fds[1];
	s->parent = parent ? parent->manifest : NULL;
	bench_ok("thread", -pthread_create(&writer, NULL, bench_stream_write, s), NULL);
	bench_ok("ingest", ingest_run(&in, &image, ret, &e), &e);
	pthread_join(writer, NULL);
	close(fds[0]);
	return image;
}
