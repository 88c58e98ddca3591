/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <pthread.h>

#include "tests/unit/ingest-fixture.h"

/* ---- full images -------------------------------------------------------------------------------- */

static void a_full_image_is_stored_and_comes_back(void **state)
{
	for (uint64_t require = 0; require <= AMBRO_REQUIRE_WHOLE; require++) {
		_cleanup_fixture_ struct fixture f = server_fixture();
		_cleanup_(repo_image_freep) struct repo_image *image = NULL;
		_cleanup_(repo_freep) struct repo *r = NULL;
		struct ingest_result result;
		struct store *fault;

		fixture_write(&f, require);
		r = repo_fixture_memory(&fault);
		assert_int_equal(fixture_ingest(&f, r, &image, &result), 0);
		assert_int_equal(result.stream_bytes, f.image.len);
		assert_int_equal(result.chunks, f.manifest->data_chunks);
		assert_int_equal(image->all_chunks, f.manifest->data_chunks);
		assert_string_equal(image->host, "web1.example");
		assert_string_equal(image->disk, "vda");
		assert_int_equal(image->time_ns, f.manifest->instant_ns);
		assert_int_equal(repo_images_count(r), 1);
		assert_restores(r, image, f.disk, f.manifest->disk_size);
	}
}

static void the_second_image_of_the_same_disk_costs_no_pack(void **state)
{
	_cleanup_fixture_ struct fixture f = server_fixture();
	_cleanup_(repo_image_freep) struct repo_image *first = NULL, *second = NULL;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct ingest_result result;
	struct store *fault;
	struct err e = { 0 };

	fixture_write(&f, 0);
	r = repo_fixture_memory(&fault);
	assert_int_equal(fixture_ingest(&f, r, &first, &result), 0);
	assert_int_equal(repo_load_index(r, &e), 0);
	f.manifest->image_id[0]++;
	f.manifest->instant_ns++;
	fixture_write(&f, 0);
	assert_int_equal(fixture_ingest(&f, r, &second, &result), 0);
	assert_int_equal(result.new_chunks, 0);
	assert_int_equal(result.new_bytes, 0);
	assert_int_equal(result.packs, 0);
	assert_int_equal(result.known_chunks, result.chunks);
	assert_int_equal(repo_images_count(r), 2);
	assert_restores(r, second, f.disk, f.manifest->disk_size);
}

static void a_chunk_that_comes_often_is_stored_once(void **state)
{
	const uint64_t one[] = { FIXTURE_CHUNK * 50 };
	_cleanup_fixture_ struct fixture f = fixture_new(one, 1);
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(repo_freep) struct repo *r = NULL;
	const struct image_sink sink = bytes_sink(&f.image);
	struct ingest_result result;
	struct store *fault;

	assert_int_equal(image_writer_new(&sink, f.manifest, 0, &w, NULL), 0);
	for (uint64_t i = 0; i < 50; i++) {
		fill_noise(fixture_chunk(&f, 0, i), FIXTURE_CHUNK, i % 3);
		assert_int_equal(fixture_put(&f, w, 0, i), 0);
	}
	assert_int_equal(image_writer_finish(w, NULL), 0);
	r = repo_fixture_memory(&fault);
	assert_int_equal(fixture_ingest(&f, r, &image, &result), 0);
	assert_int_equal(result.chunks, 50);
	assert_int_equal(result.new_chunks, 3);
	assert_int_equal(result.known_chunks, 47);
	assert_true(result.new_bytes < 4 * FIXTURE_CHUNK);
	assert_restores(r, image, f.disk, f.manifest->disk_size);
}

static void more_than_one_pack_is_filled_and_indexed(void **state)
{
	/* 150 MiB that do not compress: three packs of chunks, one of pages */
	const uint64_t one[] = { FIXTURE_CHUNK * 2400 };
	_cleanup_fixture_ struct fixture f = fixture_new(one, 1);
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(repo_freep) struct repo *r = NULL;
	const struct image_sink sink = bytes_sink(&f.image);
	struct ingest_result result;
	struct store *fault;

	fill_noise(f.disk, f.manifest->disk_size, 1);
	assert_int_equal(image_writer_new(&sink, f.manifest, 0, &w, NULL), 0);
	for (uint64_t i = 0; i < 2400; i++)
		assert_int_equal(fixture_put(&f, w, 0, i), 0);
	assert_int_equal(image_writer_finish(w, NULL), 0);
	r = repo_fixture_memory(&fault);
	assert_int_equal(fixture_ingest(&f, r, &image, &result), 0);
	assert_int_equal(result.packs, 4);
	assert_int_equal(result.new_chunks, 2400);
	/* the format, four packs, one index file, the image */
	assert_int_equal(store_fault_counts(fault).puts, 7);
	assert_restores(r, image, f.disk, f.manifest->disk_size);
	/* 150 MiB in pieces that grow to 4 MiB, and not 2400 of them */
	assert_true(store_fault_counts(fault).gets < 120);
}

/* ---- what is refused ---------------------------------------------------------------------------- */

static void other_chunk_sizes_are_refused(void **state)
{
	_cleanup_fixture_ struct fixture f = server_fixture();
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct ingest_result result;
	struct store *fault;

	f.manifest->chunk_size = FIXTURE_CHUNK * 2;
	free(f.disk);
	f.disk = calloc(f.manifest->disk_size + FIXTURE_CHUNK * 2, 1);
	fixture_write(&f, 0);
	r = repo_fixture_memory(&fault);
	assert_int_equal(fixture_ingest(&f, r, NULL, &result), -EINVAL);
	assert_int_equal(repo_images_count(r), 0);
}

static void a_capture_beyond_the_grace_period_commits_nothing(void **state)
{
	_cleanup_fixture_ struct fixture f = server_fixture();
	const struct ingest_settings s = { .grace_ns = 1 };
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct ingest_result result;
	struct store *fault;
	struct err e = { 0 };

	fixture_write(&f, 0);
	r = repo_fixture_memory(&fault);
	assert_int_equal(ingest_bytes(r, &(struct iovec){ f.image.data, f.image.len }, &s, NULL,
				      &result, &e),
			 -ESTALE);
	assert_int_equal(repo_images_count(r), 0);
	/* nor does an index file name packs that prune may have taken for strays by now: nobody may count on them */
	assert_int_equal(repo_load_index(r, &e), 0);
	assert_int_equal(repo_index_files(r->index), 0);
	assert_int_equal(fixture_ingest(&f, r, NULL, &result), 0);
	assert_int_equal(result.known_chunks + result.new_chunks, result.chunks);
	assert_true(result.new_chunks > 0);
	assert_int_equal(repo_images_count(r), 1);
}

static void a_machine_that_slept_has_lost_that_time(void **state)
{
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct store *fault;
	struct err e = { 0 };

	r = repo_fixture_memory(&fault);
	assert_int_equal(repo_in_time(r, FIXTURE_GRACE_NS, &e), 0);
	/* by the clock that goes on in its sleep, and by the one that was put right after its hypervisor's pause */
	r->loaded_ns -= FIXTURE_GRACE_NS;
	assert_int_equal(repo_in_time(r, FIXTURE_GRACE_NS, &e), -ESTALE);
	r->loaded_ns += FIXTURE_GRACE_NS;
	r->loaded_realtime_ns -= FIXTURE_GRACE_NS;
	assert_int_equal(repo_in_time(r, FIXTURE_GRACE_NS, &e), -ESTALE);
	/* a clock that was put back says nothing */
	r->loaded_realtime_ns += 2 * FIXTURE_GRACE_NS;
	assert_int_equal(repo_in_time(r, FIXTURE_GRACE_NS, &e), 0);
}

static void tags_that_no_image_may_have_are_refused_before_anything_is_read(void **state)
{
	const char *const tags[] = { "daily", "not good", NULL };
	const struct ingest_settings s = { .tags = tags };
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct store *fault;
	struct err e = { 0 };

	r = repo_fixture_memory(&fault);
	assert_int_equal(ingest_bytes(r, &(struct iovec){ 0 }, &s, NULL, NULL, &e), -EINVAL);
}

/* ---- increments --------------------------------------------------------------------------------- */

static uint64_t manifest_data_count(struct repo *r, const struct repo_image *image)
{
	_cleanup_(image_reader_freep) struct image_reader *reader = NULL;
	struct image_run run;
	uint64_t n = 0;

	assert_int_equal(repo_source_open(r, image, &reader, NULL), 0);
	for (uint32_t i = 0; i < image->manifest->n_regions; i++) {
		_cleanup_(image_cursor_freep) struct image_cursor *c = NULL;

		assert_int_equal(image_cursor_new(reader, i, &c), 0);
		for (uint64_t at = 0; image_cursor_at(c, at, &run, NULL) > 0; at += run.count)
			n += run.state == CHUNK_DATA;
	}
	return n;
}

static void a_chain_of_increments_gives_whole_images(void **state)
{
	_cleanup_fixture_ struct fixture f = server_fixture();
	struct repo_image *images[6] = { 0 };
	uint8_t *disks[6] = { 0 };
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct ingest_result result;
	struct store *fault;
	struct err e = { 0 };

	r = repo_fixture_memory(&fault);
	fixture_write(&f, AMBRO_REQUIRE_RESENT);
	for (unsigned int i = 0; i < ARRAY_SIZE(images); i++) {
		if (i)
			fixture_write_delta(&f, images[i - 1]->manifest, 3 + i, i);
		assert_int_equal(fixture_ingest(&f, r, &images[i], &result), 0);
		assert_int_equal(!!result.same_chunks, i > 0);
		assert_int_equal(repo_load_index(r, &e), 0);
		assert_int_equal(images[i]->manifest->data_chunks,
				 manifest_data_count(r, images[i]));
		disks[i] = malloc(f.manifest->disk_size);
		memcpy(disks[i], f.disk, f.manifest->disk_size);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(images); i++) {
		assert_restores(r, images[i], disks[i], f.manifest->disk_size);
		repo_image_free(images[i]);
		free(disks[i]);
	}
}

static void an_increment_without_its_parent_is_refused(void **state)
{
	_cleanup_fixture_ struct fixture f = server_fixture();
	_cleanup_(repo_image_freep) struct repo_image *parent = NULL;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct ingest_settings s = { 0 };
	struct ingest_result result;
	struct store *fault;
	struct err e = { 0 };

	r = repo_fixture_memory(&fault);
	fixture_write(&f, 0);
	assert_int_equal(fixture_ingest(&f, r, &parent, &result), 0);
	fixture_write_delta(&f, parent->manifest, 3, 1);
	/* another image is offered as the parent */
	parent->manifest->image_id[2] ^= 1;
	s.parent = parent;
	assert_int_equal(ingest_bytes(r, &(struct iovec){ f.image.data, f.image.len }, &s, NULL,
				      &result, &e),
			 -ENOENT);
	fixture_write_delta(&f, parent->manifest, 3, 2);
	assert_int_equal(fixture_ingest(&f, r, NULL, &result), -ENOENT);
	assert_int_equal(repo_images_count(r), 1);
}

/* ---- with keys ----------------------------------------------------------------------------------- */

static struct repo *encrypted_fixture(struct crypt *keys)
{
	struct store *memory = NULL;

	assert_int_equal(store_memory_new(&memory), 0);
	return repo_fixture_new(memory, keys);
}

static void an_encrypted_repository_gives_back_what_it_took(void **state)
{
	_cleanup_fixture_ struct fixture f = server_fixture();
	_cleanup_(repo_image_freep) struct repo_image *first = NULL, *second = NULL;
	_cleanup_free_ uint8_t *disk = malloc(f.manifest->disk_size);
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct ingest_result result;
	struct crypt *keys = NULL;
	struct err e = { 0 };

	assert_int_equal(crypt_new(&keys, &e), 0);
	r = encrypted_fixture(keys);
	fixture_write(&f, 0);
	memcpy(disk, f.disk, f.manifest->disk_size);
	assert_int_equal(fixture_ingest(&f, r, &first, &result), 0);
	assert_int_equal(repo_load_index(r, &e), 0);
	fixture_write_delta(&f, first->manifest, 3, 1);
	assert_int_equal(fixture_ingest(&f, r, &second, &result), 0);
	assert_true(result.same_chunks > 0);
	assert_restores(r, first, disk, f.manifest->disk_size);
	assert_restores(r, second, f.disk, f.manifest->disk_size);
}

static void who_may_only_write_can_add_a_full_image_and_read_none(void **state)
{
	_cleanup_fixture_ struct fixture f = server_fixture();
	_cleanup_(repo_image_freep) struct repo_image *image = NULL, *again = NULL;
	_cleanup_free_ uint8_t *disk = NULL;
	_cleanup_(repo_freep) struct repo *r = NULL;
	uint8_t secrets[CRYPT_SECRETS_SIZE];
	struct crypt *keys = NULL, *write = NULL, *full = NULL;
	struct ingest_result result;
	struct err e = { 0 };

	assert_int_equal(crypt_new(&keys, &e), 0);
	crypt_export(keys, CRYPT_RIGHTS_WRITE, secrets);
	assert_int_equal(crypt_import(secrets, &write, &e), 0);
	crypt_export(keys, CRYPT_RIGHTS_FULL, secrets);
	assert_int_equal(crypt_import(secrets, &full, &e), 0);
	crypt_free(keys);
	r = encrypted_fixture(write);
	fixture_write(&f, 0);
	assert_int_equal(fixture_ingest(&f, r, &image, &result), 0);
	assert_int_equal(repo_load_index(r, &e), 0);
	assert_int_equal(repo_read_back(r, image, &disk, &e), -EACCES);
	/* it knows what is there all the same */
	f.manifest->image_id[0]++;
	fixture_write(&f, 0);
	assert_int_equal(fixture_ingest(&f, r, &again, &result), 0);
	assert_int_equal(result.new_bytes, 0);
	assert_int_equal(repo_unlock(r, full, &e), 0);
	assert_restores(r, image, f.disk, f.manifest->disk_size);
	assert_restores(r, again, f.disk, f.manifest->disk_size);
}

/* ---- from a pipe -------------------------------------------------------------------------------- */

struct feeder {
	int fd;
	const struct bytes *image;
	size_t len;
};

static void *feeder_thread(void *arg)
{
	struct feeder *f = arg;

	/* the reader may be gone */
	io_write_all(f->fd, f->image->data, f->len);
	f->fd = close_fd(f->fd);
	return NULL;
}

static void a_pipe_is_read_to_its_end(void **state)
{
	_cleanup_fixture_ struct fixture f = server_fixture();
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct ingest_settings s = { .grace_ns = FIXTURE_GRACE_NS };
	struct feeder feeder = { .image = &f.image };
	struct cancel cancel;
	struct err e = { 0 };
	struct store *fault;
	pthread_t thread;
	int fds[2];

	fixture_write(&f, AMBRO_REQUIRE_WHOLE);
	feeder.len = f.image.len;
	assert_int_equal(cancel_init(&cancel), 0);
	assert_int_equal(pipe(fds), 0);
	feeder.fd = fds[1];
	assert_int_equal(pthread_create(&thread, NULL, feeder_thread, &feeder), 0);
	s.repo = r = repo_fixture_memory(&fault);
	s.fd = fds[0];
	s.cancel = &cancel;
	assert_int_equal(ingest_run(&s, &image, NULL, &e), 0);
	pthread_join(thread, NULL);
	close(fds[0]);
	cancel_done(&cancel);
	assert_restores(r, image, f.disk, f.manifest->disk_size);
}

static void a_cancelled_capture_ends_while_it_waits(void **state)
{
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct ingest_settings s = { .grace_ns = FIXTURE_GRACE_NS };
	struct cancel cancel;
	struct err e = { 0 };
	struct store *fault;
	int fds[2];

	assert_int_equal(cancel_init(&cancel), 0);
	assert_int_equal(pipe(fds), 0);
	s.repo = r = repo_fixture_memory(&fault);
	s.fd = fds[0];
	s.cancel = &cancel;
	cancel_raise(&cancel);
	assert_int_equal(ingest_run(&s, NULL, NULL, &e), -ECANCELED);
	close(fds[0]);
	close(fds[1]);
	cancel_done(&cancel);
	assert_int_equal(repo_images_count(r), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_image_is_stored_and_comes_back),
		cmocka_unit_test(the_second_image_of_the_same_disk_costs_no_pack),
		cmocka_unit_test(a_chunk_that_comes_often_is_stored_once),
		cmocka_unit_test(more_than_one_pack_is_filled_and_indexed),
		cmocka_unit_test(other_chunk_sizes_are_refused),
		cmocka_unit_test(a_capture_beyond_the_grace_period_commits_nothing),
		cmocka_unit_test(a_machine_that_slept_has_lost_that_time),
		cmocka_unit_test(tags_that_no_image_may_have_are_refused_before_anything_is_read),
		cmocka_unit_test(a_chain_of_increments_gives_whole_images),
		cmocka_unit_test(an_increment_without_its_parent_is_refused),
		cmocka_unit_test(an_encrypted_repository_gives_back_what_it_took),
		cmocka_unit_test(who_may_only_write_can_add_a_full_image_and_read_none),
		cmocka_unit_test(a_pipe_is_read_to_its_end),
		cmocka_unit_test(a_cancelled_capture_ends_while_it_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
