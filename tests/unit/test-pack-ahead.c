/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <pthread.h>

#include "lib/repo/pack_ahead.h"
#include "tests/unit/ingest-fixture.h"

#define CHUNKS UINT64_C(800) /* 50 MiB that do not compress */

/* A repository with one such image, and where its chunks are, in order. */
struct ahead_fixture {
	struct fixture f;
	struct repo *repo;
	struct store *fault;
	struct repo_place places[CHUNKS];
};

static struct ahead_fixture *ahead_fixture_new(void)
{
	const uint64_t one[] = { FIXTURE_CHUNK * CHUNKS };
	struct ahead_fixture *x = calloc(1, sizeof(*x));
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	struct image_sink sink;
	struct ingest_result result;
	struct err e = { 0 };

	x->f = fixture_new(one, 1);
	sink = bytes_sink(&x->f.image);
	fill_noise(x->f.disk, x->f.manifest->disk_size, 1);
	assert_int_equal(image_writer_new(&sink, x->f.manifest, 0, &w, NULL), 0);
	for (uint64_t i = 0; i < CHUNKS; i++)
		assert_int_equal(fixture_put(&x->f, w, 0, i), 0);
	assert_int_equal(image_writer_finish(w, NULL), 0);
	x->repo = repo_fixture_memory(&x->fault);
	assert_int_equal(ingest_bytes(x->repo, &(struct iovec){ x->f.image.data, x->f.image.len },
				      NULL, NULL, &result, &e),
			 0);
	assert_int_equal(repo_load_index(x->repo, &e), 0);
	for (uint64_t i = 0; i < CHUNKS; i++) {
		struct chunk_id id;

		chunk_id_of(fixture_chunk(&x->f, 0, i), FIXTURE_CHUNK, &id);
		assert_int_equal(repo_find(x->repo, &id, REPO_KIND_CHUNK, &x->places[i], &e), 0);
	}
	return x;
}

static void ahead_fixture_free(struct ahead_fixture *x)
{
	repo_free(x->repo);
	fixture_done(&x->f);
	free(x);
}

static void read_and_compare(struct ahead_fixture *x, struct pack_ahead *a, uint64_t i)
{
	const uint32_t len = le32_get(x->places[i].entry.frame_len);
	_cleanup_free_ uint8_t *got = malloc(len), *want = malloc(len);
	struct err e = { 0 };

	assert_int_equal(pack_ahead_read(a, &x->places[i], NULL, got, &e), 0);
	assert_int_equal(repo_read_stored(x->repo, &x->places[i], want, &e), 0);
	assert_memory_equal(got, want, len);
}

static uint64_t gets_of(const struct ahead_fixture *x)
{
	return store_fault_counts(x->fault).gets;
}

static void reading_on_takes_few_reads_of_the_store(void **state)
{
	struct ahead_fixture *x = ahead_fixture_new();
	_cleanup_(pack_ahead_freep) struct pack_ahead *a = NULL;
	uint64_t before;

	assert_int_equal(pack_ahead_new(x->repo, &a), 0);
	before = gets_of(x);
	for (uint64_t i = 0; i < CHUNKS; i++)
		read_and_compare(x, a, i);
	/* CHUNKS of them are the comparison's; 50 MiB in pieces that soon have 8 MiB */
	assert_in_range(gets_of(x) - before - CHUNKS, 7, 12);
	ahead_fixture_free(x);
}

static void jumping_about_reads_little_for_each_chunk(void **state)
{
	struct ahead_fixture *x = ahead_fixture_new();
	_cleanup_(pack_ahead_freep) struct pack_ahead *a = NULL;
	struct store_counts before, after;

	assert_int_equal(pack_ahead_new(x->repo, &a), 0);
	before = store_fault_counts(x->fault);
	/* from the end to the front, 3 MiB apart */
	for (uint64_t i = CHUNKS - 1; i > 50; i -= 50)
		read_and_compare(x, a, i);
	after = store_fault_counts(x->fault);
	assert_true(after.get_bytes - before.get_bytes <
		    (after.gets - before.gets) / 2 * (PACK_AHEAD_FIRST + 2 * FIXTURE_CHUNK));
	ahead_fixture_free(x);
}

struct reading_thread {
	struct ahead_fixture *x;
	struct pack_ahead *a;
	uint64_t first;
	pthread_t thread;
	bool wrong;
};

static void *reading_thread(void *arg)
{
	struct reading_thread *t = arg;
	uint64_t state = t->first + 1;

	for (uint64_t n = 0; n < 2 * CHUNKS && !t->wrong; n++) {
		const uint64_t i = n < CHUNKS ? (t->first + n) % CHUNKS
					      : fixture_random(&state) % CHUNKS;
		const uint32_t len = le32_get(t->x->places[i].entry.frame_len);
		_cleanup_free_ uint8_t *got = malloc(len), *want = malloc(len);

		t->wrong = !got || !want ||
			   pack_ahead_read(t->a, &t->x->places[i], NULL, got, NULL) < 0 ||
			   repo_read_stored(t->x->repo, &t->x->places[i], want, NULL) < 0 ||
			   memcmp(got, want, len) != 0;
	}
	return NULL;
}

static void many_threads_get_the_right_bytes(void **state)
{
	struct ahead_fixture *x = ahead_fixture_new();
	_cleanup_(pack_ahead_freep) struct pack_ahead *a = NULL;
	struct reading_thread threads[6] = { 0 };

	assert_int_equal(pack_ahead_new(x->repo, &a), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		threads[i].x = x;
		threads[i].a = a;
		threads[i].first = i / 2 * 100;
		assert_int_equal(
			pthread_create(&threads[i].thread, NULL, reading_thread, &threads[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i].thread, NULL);
		assert_false(threads[i].wrong);
	}
	ahead_fixture_free(x);
}

/* All of it, in pieces that are told. */
static void read_told(struct ahead_fixture *x, struct pack_ahead *a, uint64_t from, uint64_t to)
{
	const uint64_t begin = le32_get(x->places[from].entry.offset);
	const struct repo_entry *last = &x->places[to - 1].entry;
	const struct image_span want = { begin, le32_get(last->offset) + le32_get(last->frame_len) -
							begin };

	for (uint64_t i = from; i < to; i++) {
		const uint32_t len = le32_get(x->places[i].entry.frame_len);
		_cleanup_free_ uint8_t *got = malloc(len);
		struct chunk_id id;

		assert_int_equal(pack_ahead_read(a, &x->places[i], &want, got, NULL), 0);
		/* what does not compress stands in the frame as it is */
		chunk_id_of(fixture_chunk(&x->f, 0, i), FIXTURE_CHUNK, &id);
		assert_true(memmem(got, len, fixture_chunk(&x->f, 0, i), 1024));
	}
}

static void what_is_told_is_read_in_one_go_and_nothing_else(void **state)
{
	struct ahead_fixture *x = ahead_fixture_new();
	_cleanup_(pack_ahead_freep) struct pack_ahead *a = NULL;
	struct store_counts before, after;

	assert_int_equal(pack_ahead_new(x->repo, &a), 0);
	before = store_fault_counts(x->fault);
	read_told(x, a, 10, 12);
	read_told(x, a, 12, 100);
	read_told(x, a, 500, 501);
	after = store_fault_counts(x->fault);
	assert_int_equal(after.gets - before.gets, 3);
	assert_in_range(after.get_bytes - before.get_bytes, 91 * FIXTURE_CHUNK,
			91 * (FIXTURE_CHUNK + 512));
	ahead_fixture_free(x);
}

static void what_is_told_wrongly_does_no_harm(void **state)
{
	struct ahead_fixture *x = ahead_fixture_new();
	const uint32_t at = le32_get(x->places[20].entry.offset);
	const uint32_t size = repo_index_pack(x->repo->index, x->places[20].pack)->size;
	const struct image_span wrong[] = {
		{ 0, 0 },
		{ at, 1 },
		{ at + 1, FIXTURE_CHUNK * 2 },
		{ 0, at },
		{ at, UINT64_MAX },
		{ UINT64_MAX, 2 },
		{ UINT64_MAX - 8, at + 8 + FIXTURE_CHUNK },
		{ 0, size },
		{ at, size - at + UINT64_C(1) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		const uint32_t len = le32_get(x->places[20].entry.frame_len);
		_cleanup_(pack_ahead_freep) struct pack_ahead *a = NULL;
		_cleanup_free_ uint8_t *got = malloc(len), *want = malloc(len);
		struct store_counts before = store_fault_counts(x->fault), after;

		assert_int_equal(pack_ahead_new(x->repo, &a), 0);
		assert_int_equal(pack_ahead_read(a, &x->places[20], &wrong[i], got, NULL), 0);
		after = store_fault_counts(x->fault);
		assert_int_equal(after.gets - before.gets, 1);
		assert_int_equal(after.get_bytes - before.get_bytes, PACK_AHEAD_FIRST);
		assert_int_equal(repo_read_stored(x->repo, &x->places[20], want, NULL), 0);
		assert_memory_equal(got, want, len);
	}
	ahead_fixture_free(x);
}

/* A disk with a bad sector: what touches byte @bad of any object cannot be read. */
struct bad_store {
	struct store base;
	struct store *below;
	uint64_t bad;
	unsigned int failures;
	int error;
};

static int bad_get(struct store *s, const char *name, uint64_t offset, void *buf, size_t len,
		   struct err *e)
{
	struct bad_store *b = (struct bad_store *)s;

	if (offset <= b->bad && b->bad - offset < len) {
		b->failures++;
		return err_set(e, b->error, "a bad sector");
	}
	return store_get(b->below, name, offset, buf, len, e);
}

static void a_bad_sector_takes_what_lies_on_it_and_no_more(void **state)
{
	static const struct store_ops ops = { .get = bad_get };
	struct ahead_fixture *x = ahead_fixture_new();
	_cleanup_(pack_ahead_freep) struct pack_ahead *a = NULL;
	struct bad_store bad = { .base = { &ops }, .below = x->repo->store, .error = -EIO };
	const struct repo_entry *first = &x->places[10].entry, *last = &x->places[59].entry;
	const struct image_span want = { le32_get(first->offset),
					 le32_get(last->offset) + le32_get(last->frame_len) -
						 le32_get(first->offset) };
	struct err e = { 0 };

	bad.bad = le32_get(x->places[40].entry.offset) + 100;
	assert_int_equal(pack_ahead_new(x->repo, &a), 0);
	x->repo->store = &bad.base;
	for (uint64_t i = 10; i < 60; i++) {
		const uint32_t len = le32_get(x->places[i].entry.frame_len);
		_cleanup_free_ uint8_t *got = malloc(len);

		assert_int_equal(pack_ahead_read(a, &x->places[i], &want, got, &e),
				 i == 40 ? -EIO : 0);
	}
	/* the piece once, and the chunk: who reads a bad sector waits for long */
	assert_int_equal(bad.failures, 2);
	/* a pack that is gone is no such thing */
	bad.error = -ENOENT;
	bad.bad = le32_get(x->places[700].entry.offset);
	assert_int_equal(pack_ahead_read(a, &x->places[700], NULL,
					 &(uint8_t[2 * FIXTURE_CHUNK]){ 0 }, &e),
			 -ENOENT);
	assert_int_equal(e.code, -ENOENT);
	assert_int_equal(bad.failures, 3);
	x->repo->store = bad.below;
	ahead_fixture_free(x);
}

static void a_place_behind_the_end_of_its_pack_is_refused(void **state)
{
	struct ahead_fixture *x = ahead_fixture_new();
	_cleanup_(pack_ahead_freep) struct pack_ahead *a = NULL;
	struct repo_place place = x->places[CHUNKS - 1];
	uint8_t byte[16];
	struct err e = { 0 };

	assert_int_equal(pack_ahead_new(x->repo, &a), 0);
	place.entry.offset = le32(UINT32_MAX - 8);
	place.entry.frame_len = le32(sizeof(byte));
	assert_int_equal(pack_ahead_read(a, &place, NULL, byte, &e), -EBADMSG);
	ahead_fixture_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reading_on_takes_few_reads_of_the_store),
		cmocka_unit_test(jumping_about_reads_little_for_each_chunk),
		cmocka_unit_test(many_threads_get_the_right_bytes),
		cmocka_unit_test(what_is_told_is_read_in_one_go_and_nothing_else),
		cmocka_unit_test(what_is_told_wrongly_does_no_harm),
		cmocka_unit_test(a_bad_sector_takes_what_lies_on_it_and_no_more),
		cmocka_unit_test(a_place_behind_the_end_of_its_pack_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
