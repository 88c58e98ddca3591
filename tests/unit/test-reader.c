/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/reader.h"
#include "agent/usedmap.h"
#include "lib/base/io.h"
#include "lib/image/image_writer.h"
#include "tests/unit/whole-manifest.h"

#define CHUNK  (64u << 10)
#define CHUNKS 40u
#define SIZE   ((uint64_t)CHUNKS * CHUNK)
/* Where the file of the source ends; the rest of the source is unreadable. */
#define END (SIZE / 4 * 3 + 8192)
/* Bytes per second: half a second for all of it. */
#define LIMIT (SIZE * 2)

/*
 * A queue in memory: what was started completes in reverse order, when it is waited for. What cannot be read is
 * what lies behind the end of the file.
 */
struct backward {
	struct read_queue base;
	int fd;
	unsigned int n;
	struct {
		unsigned int number;
		void *buffer;
		uint32_t length;
		uint64_t offset;
	} jobs[READ_QUEUE_DEPTH];
};

static void backward_start(struct read_queue *q, unsigned int number, void *buffer, uint32_t length,
			   uint64_t offset)
{
	struct backward *b = (struct backward *)q;

	b->jobs[b->n].number = number;
	b->jobs[b->n].buffer = buffer;
	b->jobs[b->n].length = length;
	b->jobs[b->n++].offset = offset;
}

static int backward_reap(struct read_queue *q, bool wait, struct read_done *ret)
{
	struct backward *b = (struct backward *)q;

	if (!wait)
		return 0;
	assert_true(b->n > 0);
	b->n--;
	ret[0].number = b->jobs[b->n].number;
	ret[0].result = (int)io_pread_some(b->fd, b->jobs[b->n].buffer, b->jobs[b->n].length,
					   b->jobs[b->n].offset);
	return 1;
}

static void backward_free(struct read_queue *q)
{
	assert_int_equal(((struct backward *)q)->n, 0);
	free(q);
}

static const struct read_queue_ops backward_ops = {
	.name = "backward",
	.start = backward_start,
	.reap = backward_reap,
	.free = backward_free,
};

static struct read_queue *backward_new(int fd)
{
	struct backward *b = calloc(1, sizeof(*b));

	b->base.ops = &backward_ops;
	b->fd = fd;
	return &b->base;
}

/* A source of one region, and all that reads it into an image that nobody keeps. */
struct fixture {
	int source;
	struct cancel cancel;
	struct capture_status status;
	struct layout layout;
	struct layout_region region;
	struct usedmap map;
	struct usedmap_region mapped;
	struct plan *plan;
	struct manifest *manifest;
	struct image_writer *writer;
	struct pipeline *pipeline;
	struct reader *reader;
};

static int sink_write(void *ctx, const void *buf, size_t len)
{
	(void)ctx;
	(void)buf;
	(void)len;
	return 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct image_sink sink = { sink_write, f };
	struct pipeline_settings s = {
		.chunk_size = CHUNK,
		.slots = 16,
		.base_slots = 16,
		.threads = 2,
		.level = 1,
		.in_disk_order = true,
	};
	struct err e;

	f->source = memfd_create("source", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->source, END), 0);
	assert_int_equal(cancel_init(&f->cancel), 0);
	f->region.length = SIZE;
	f->layout = (struct layout){ .size = SIZE, .regions = &f->region, .n_regions = 1 };
	assert_int_equal(extent_set_add(&f->mapped.used, 0, SIZE), 0);
	f->map = (struct usedmap){ &f->mapped, 1 };
	assert_int_equal(plan_new(&f->layout, &f->map, CHUNK, &f->plan), 0);
	f->manifest = whole_manifest(SIZE, CHUNK);
	assert_int_equal(image_writer_new(&sink, f->manifest, 0, &f->writer, &e), 0);
	s.manifest = f->manifest;
	s.writer = f->writer;
	s.cancel = &f->cancel;
	assert_int_equal(pipeline_new(&s, &f->pipeline, &e), 0);
	*state = f;
	return 0;
}

static void start(struct fixture *f, bool ignore_errors, uint64_t limit)
{
	struct reader_settings s = {
		.fd = f->source,
		.name = "the source",
		.size = SIZE,
		.sector_size = 512,
		.ignore_errors = ignore_errors,
		.pipeline = f->pipeline,
		.status = &f->status,
		.cancel = &f->cancel,
		.queue = backward_new(f->source),
		.limit = limit,
		.idle = limit,
	};
	struct err e;

	assert_int_equal(reader_new(&s, &f->reader, &e), 0);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	reader_free(f->reader);
	pipeline_free(f->pipeline);
	image_writer_free(f->writer);
	manifest_free(f->manifest);
	plan_free(f->plan);
	extent_set_done(&f->mapped.used);
	cancel_done(&f->cancel);
	close(f->source);
	free(f);
	return 0;
}

static void of_many_failed_reads_the_lowest_is_told(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	char expected[64];

	start(f, false, 0);
	assert_int_equal(reader_pass(f->reader, f->plan, plan_used(f->plan), true, &e), -EIO);
	snprintf(expected, sizeof(expected), "at byte %llu (sector %llu)", (unsigned long long)END,
		 (unsigned long long)END / 512);
	assert_non_null(strstr(e.text, expected));
}

static void unreadable_places_are_noted_exactly(void **state)
{
	struct fixture *f = *state;
	const struct extent_set *bad;
	struct err e = { 0 };

	start(f, true, 0);
	assert_int_equal(reader_pass(f->reader, f->plan, plan_used(f->plan), true, &e), 0);
	bad = reader_bad(f->reader);
	assert_int_equal(bad->count, 1);
	assert_int_equal(bad->items[0].start, END);
	assert_int_equal(bad->items[0].length, SIZE - END);
	assert_int_equal(atomic_load(&f->status.bad), SIZE - END);
	assert_int_equal(pipeline_finish(f->pipeline, &e), 0);
}

static void a_place_that_can_be_read_later_is_no_longer_bad(void **state)
{
	struct fixture *f = *state;
	struct extent last = { SIZE - CHUNK, CHUNK };
	struct extent_set again = { .items = &last, .count = 1 };
	struct err e = { 0 };

	start(f, true, 0);
	assert_int_equal(reader_pass(f->reader, f->plan, plan_used(f->plan), true, &e), 0);
	assert_int_equal(ftruncate(f->source, SIZE), 0);
	assert_int_equal(reader_pass(f->reader, f->plan, &again, false, &e), 0);
	assert_int_equal(extent_set_total(reader_bad(f->reader)), SIZE - END - CHUNK);
	assert_int_equal(atomic_load(&f->status.bad), SIZE - END - CHUNK);
}

/* Half a second by the limit, less what it may be ahead. */
static void a_limit_is_kept(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	uint64_t began;

	start(f, true, LIMIT);
	assert_int_equal(ftruncate(f->source, SIZE), 0);
	began = io_now_ns();
	assert_int_equal(reader_pass(f->reader, f->plan, plan_used(f->plan), true, &e), 0);
	assert_true(io_now_ns() - began > UINT64_C(350000000));
	/* how fast the source is, not how fast it may be read: a freeze is planned by it */
	assert_true(reader_rate(f->reader) > LIMIT * 3);
	assert_int_equal(pipeline_finish(f->pipeline, &e), 0);
}

/* With the limit it would take a month. */
static void who_is_in_a_hurry_has_no_limit(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };

	start(f, true, 1);
	assert_int_equal(ftruncate(f->source, SIZE), 0);
	reader_hurry(f->reader, true);
	assert_int_equal(reader_pass(f->reader, f->plan, plan_used(f->plan), true, &e), 0);
	assert_int_equal(pipeline_finish(f->pipeline, &e), 0);
}

static void a_wait_for_the_limit_ends_when_cancelled(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };

	start(f, true, 1);
	assert_int_equal(ftruncate(f->source, SIZE), 0);
	cancel_raise(&f->cancel);
	assert_int_equal(reader_pass(f->reader, f->plan, plan_used(f->plan), true, &e), -ECANCELED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(of_many_failed_reads_the_lowest_is_told, setup,
						teardown),
		cmocka_unit_test_setup_teardown(unreadable_places_are_noted_exactly, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_place_that_can_be_read_later_is_no_longer_bad,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_limit_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(who_is_in_a_hurry_has_no_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(a_wait_for_the_limit_ends_when_cancelled, setup,
						teardown),
	};

	return cmocka_run_group_tests_name("reader", tests, NULL, NULL);
}
