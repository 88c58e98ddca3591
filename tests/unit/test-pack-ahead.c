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

	assert_int_equal(pack_ahead_read(a, &x->places[i], got, &e), 0);
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
			   pack_ahead_read(t->a, &t->x->places[i], got, NULL) < 0 ||
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
	assert_int_equal(pack_ahead_read(a, &place, byte, &e), -EBADMSG);
	ahead_fixture_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reading_on_takes_few_reads_of_the_store),
		cmocka_unit_test(jumping_about_reads_little_for_each_chunk),
		cmocka_unit_test(many_threads_get_the_right_bytes),
		cmocka_unit_test(a_place_behind_the_end_of_its_pack_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
