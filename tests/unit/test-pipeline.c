/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/pipeline.h"
#include "lib/base/io.h"
#include "lib/image/image_reader.h"
#include "tests/unit/whole-manifest.h"

#define CHUNK  (64u << 10)
#define CHUNKS 200u

/* An image of one region into a memfd; `limit` bytes fit, then the sink fails with -ENOSPC. */
struct fixture {
	int fd;
	size_t limit, written;
	struct cancel cancel;
	struct manifest *manifest;
	struct image_writer *writer;
	struct pipeline *pipeline;
};

static int sink_write(void *ctx, const void *buf, size_t len)
{
	struct fixture *f = ctx;

	if (f->written + len > f->limit)
		return -ENOSPC;
	f->written += len;
	return io_write_all(f->fd, buf, len);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->fd = memfd_create("image", MFD_CLOEXEC);
	f->limit = SIZE_MAX;
	assert_int_equal(cancel_init(&f->cancel), 0);
	f->manifest = whole_manifest(CHUNKS * CHUNK, CHUNK);
	*state = f;
	return 0;
}

static void start(struct fixture *f, uint64_t require)
{
	struct image_sink sink = { sink_write, f };
	struct pipeline_settings s = {
		.chunk_size = CHUNK,
		.slots = 32,
		.base_slots = 8,
		.threads = 3,
		.level = 1,
		.in_disk_order = !require,
		.manifest = f->manifest,
		.cancel = &f->cancel,
	};
	struct err e;

	assert_int_equal(image_writer_new(&sink, f->manifest, require, &f->writer, &e), 0);
	s.writer = f->writer;
	assert_int_equal(pipeline_new(&s, &f->pipeline, &e), 0);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pipeline_free(f->pipeline);
	image_writer_free(f->writer);
	manifest_free(f->manifest);
	cancel_done(&f->cancel);
	close(f->fd);
	free(f);
	return 0;
}

/* Every 7th chunk is zero, every 5th is never submitted; the others say their number. */
static void fill(uint8_t *plain, uint64_t index, uint32_t salt)
{
	memset(plain, 0, CHUNK);
	if (index % 7 == 0)
		return;
	for (uint32_t i = 0; i < CHUNK; i += 4) {
		uint32_t v = (uint32_t)index * 2654435761u + i * salt;

		memcpy(plain + i, &v, 4);
	}
}

static int submit(struct fixture *f, uint64_t index, uint32_t salt, struct err *e)
{
	struct pipeline_slot *slot;
	int r = pipeline_take(f->pipeline, true, &slot, e);

	if (r < 0)
		return r;
	slot->chunk =
		(struct plan_chunk){ .index = index, .offset = index * CHUNK, .length = CHUNK };
	pipeline_submit(f->pipeline, slot);
	fill(slot->plain, index, salt);
	pipeline_ready(f->pipeline, slot);
	return 0;
}

static void read_back(struct fixture *f, uint64_t index, uint8_t *plain,
		      enum chunk_state *ret_state)
{
	struct image_reader *reader;
	struct image_cursor *cursor;
	struct image_run run;
	struct codec *codec;
	uint8_t *frame;
	struct err e;

	assert_int_equal(image_reader_open(f->fd, &reader, &e), 0);
	assert_int_equal(image_cursor_new(reader, 0, &cursor), 0);
	assert_int_equal(image_cursor_at(cursor, index, &run, &e), 1);
	*ret_state = run.state;
	if (run.state == CHUNK_DATA) {
		frame = malloc(image_reader_frame_max(reader));
		assert_int_equal(codec_new(1, &codec), 0);
		assert_int_equal(image_reader_chunk(reader, &run, codec, frame, plain, &e), 0);
		codec_free(codec);
		free(frame);
	}
	image_cursor_free(cursor);
	image_reader_free(reader);
}

static void check_all(struct fixture *f, uint32_t salt, bool skipped)
{
	uint8_t want[CHUNK], got[CHUNK];
	enum chunk_state state;

	for (uint64_t i = 0; i < CHUNKS; i++) {
		read_back(f, i, got, &state);
		fill(want, i, salt);
		if (skipped && i % 5 == 0) {
			assert_int_equal(state, CHUNK_FREE);
		} else if (i % 7 == 0) {
			assert_int_equal(state, CHUNK_ZERO);
		} else {
			assert_memory_equal(want, got, CHUNK);
		}
	}
}

static void chunks_leave_in_order_and_gaps_are_free(void **state)
{
	struct fixture *f = *state;
	struct err e;

	start(f, 0);
	for (uint64_t i = 0; i < CHUNKS; i++) {
		if (i % 5)
			assert_int_equal(submit(f, i, 3, &e), 0);
	}
	assert_int_equal(pipeline_finish(f->pipeline, &e), 0);
	assert_int_equal(image_writer_finish(f->writer, &e), 0);
	check_all(f, 3, true);
}

static void the_last_word_on_a_chunk_counts(void **state)
{
	struct fixture *f = *state;
	struct err e;

	start(f, AMBRO_REQUIRE_RESENT | AMBRO_REQUIRE_SPARSE);
	for (uint64_t i = 0; i < CHUNKS; i++)
		assert_int_equal(submit(f, i, 3, &e), 0);
	assert_int_equal(pipeline_drain(f->pipeline, &e), 0);
	for (uint64_t i = CHUNKS; i > 0; i--)
		assert_int_equal(submit(f, i - 1, 9, &e), 0);
	assert_int_equal(pipeline_finish(f->pipeline, &e), 0);
	assert_int_equal(image_writer_finish(f->writer, &e), 0);
	check_all(f, 9, false);
}

static void reserved_slots_are_had_without_waiting_for_the_output(void **state)
{
	struct fixture *f = *state;
	struct pipeline_slot *slots[33];
	struct err e;

	start(f, AMBRO_REQUIRE_RESENT);
	assert_int_equal(pipeline_drain(f->pipeline, &e), 0);
	assert_int_equal(pipeline_reserve(f->pipeline, 33, &e), -E2BIG);
	assert_int_equal(pipeline_reserve(f->pipeline, 32, &e), 0);
	for (unsigned int i = 0; i < 33; i++)
		assert_int_equal(pipeline_take(f->pipeline, false, &slots[i], &e), 0);
	assert_non_null(slots[31]);
	assert_null(slots[32]);
	for (unsigned int i = 0; i < 32; i++) {
		slots[i]->chunk = (struct plan_chunk){ .index = i, .length = CHUNK };
		pipeline_submit(f->pipeline, slots[i]);
		fill(slots[i]->plain, i, 1);
		pipeline_ready(f->pipeline, slots[i]);
	}
	assert_int_equal(pipeline_drain(f->pipeline, &e), 0);
	pipeline_release(f->pipeline);
	assert_int_equal(pipeline_finish(f->pipeline, &e), 0);
}

static void an_output_that_fails_ends_everything(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	int r = 0;

	f->limit = 3 * CHUNK;
	start(f, 0);
	for (uint64_t i = 1; i < CHUNKS && r >= 0; i++)
		r = submit(f, i, 0x9E3779B1u, &e);
	if (r >= 0)
		r = pipeline_finish(f->pipeline, &e);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(e.code, -ENOSPC);
}

static void the_first_error_is_the_one_that_is_told(void **state)
{
	struct fixture *f = *state;
	struct pipeline_slot *slot;
	struct err first = { 0 }, second = { 0 }, e = { 0 };

	start(f, 0);
	err_set(&first, -EIO, "first");
	err_set(&second, -ENOSPC, "second");
	pipeline_fail(f->pipeline, &first);
	pipeline_fail(f->pipeline, &second);
	assert_int_equal(pipeline_take(f->pipeline, true, &slot, &e), -EIO);
	assert_string_equal(e.text, "first");
}

static void a_raised_cancel_stops_the_reader(void **state)
{
	struct fixture *f = *state;
	struct err e;

	start(f, 0);
	cancel_raise(&f->cancel);
	assert_int_equal(submit(f, 1, 1, &e), -ECANCELED);
}

static void it_can_be_freed_with_reads_under_way(void **state)
{
	struct fixture *f = *state;
	struct pipeline_slot *slot;
	struct err e;

	start(f, 0);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(pipeline_take(f->pipeline, true, &slot, &e), 0);
		slot->chunk = (struct plan_chunk){ .index = i, .length = CHUNK };
		pipeline_submit(f->pipeline, slot);
	}
}

#define PIPELINE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PIPELINE_TEST(chunks_leave_in_order_and_gaps_are_free),
		PIPELINE_TEST(the_last_word_on_a_chunk_counts),
		PIPELINE_TEST(reserved_slots_are_had_without_waiting_for_the_output),
		PIPELINE_TEST(an_output_that_fails_ends_everything),
		PIPELINE_TEST(the_first_error_is_the_one_that_is_told),
		PIPELINE_TEST(a_raised_cancel_stops_the_reader),
		PIPELINE_TEST(it_can_be_freed_with_reads_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
