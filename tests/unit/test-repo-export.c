/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include <zstd.h>

#include "lib/image/tree.h"
#include "lib/repo/pack.h"
#include "lib/repo/repo_export.h"
#include "lib/repo/repo_parent.h"
#include "tests/unit/ingest-fixture.h"

static const uint64_t lengths[] = { 512, FIXTURE_CHUNK * 33 + 1, 4097, FIXTURE_CHUNK * 9 };

static struct fixture whole_fixture(uint64_t require)
{
	struct fixture f = fixture_new(lengths, ARRAY_SIZE(lengths));

	fixture_write(&f, require);
	return f;
}

static struct repo *fixture_repo(struct fixture *f, struct repo_image **ret)
{
	struct ingest_result result;
	struct store *fault;
	struct repo *r = repo_fixture_memory(&fault);
	struct err e = { 0 };

	assert_int_equal(ingest_bytes(r, &(struct iovec){ f->image.data, f->image.len }, NULL, ret,
				      &result, &e),
			 0);
	assert_int_equal(repo_load_index(r, &e), 0);
	return r;
}

static void repo_export_bytes(struct repo *r, const struct repo_image *image, struct bytes *ret)
{
	_cleanup_(image_reader_freep) struct image_reader *reader = NULL;
	const struct image_sink sink = bytes_sink(ret);
	struct repo_export x = { .sink = &sink };
	struct err e = { 0 };

	assert_int_equal(repo_source_open(r, image, &reader, &e), 0);
	x.reader = reader;
	assert_int_equal(repo_export_run(&x, &e), 0);
}

static void what_is_exported_decodes_to_the_disk_with_stock_zstd(void **state)
{
	for (uint64_t require = 0; require <= AMBRO_REQUIRE_WHOLE; require++) {
		_cleanup_fixture_ struct fixture f = whole_fixture(require);
		_cleanup_(repo_image_freep) struct repo_image *image = NULL;
		_cleanup_(repo_freep) struct repo *r = fixture_repo(&f, &image);
		_cleanup_free_ uint8_t *plain = malloc(f.manifest->disk_size + 1);
		ZSTD_DCtx *d = ZSTD_createDCtx();
		struct bytes out = { 0 };
		size_t n;

		repo_export_bytes(r, image, &out);
		n = ZSTD_decompressDCtx(d, plain, f.manifest->disk_size + 1, out.data, out.len);
		ZSTD_freeDCtx(d);
		assert_int_equal(n, f.manifest->disk_size);
		assert_memory_equal(plain, f.disk, f.manifest->disk_size);
		free(out.data);
	}
}

static void what_was_plain_is_exported_byte_for_byte(void **state)
{
	_cleanup_fixture_ struct fixture f = whole_fixture(0);
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(repo_freep) struct repo *r = fixture_repo(&f, &image);
	struct bytes out = { 0 };

	repo_export_bytes(r, image, &out);
	assert_int_equal(out.len, f.image.len);
	assert_memory_equal(out.data, f.image.data, out.len);
	free(out.data);
}

static void what_was_exported_can_be_taken_in_again_for_nothing(void **state)
{
	_cleanup_fixture_ struct fixture f = whole_fixture(AMBRO_REQUIRE_WHOLE);
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(repo_freep) struct repo *r = fixture_repo(&f, &image);
	const struct ingest_settings s = { .check_chunks = true };
	struct ingest_result result;
	struct bytes out = { 0 };
	struct err e = { 0 };

	repo_export_bytes(r, image, &out);
	assert_int_equal(
		ingest_bytes(r, &(struct iovec){ out.data, out.len }, &s, NULL, &result, &e), 0);
	assert_int_equal(result.new_bytes, 0);
	free(out.data);
}

static void a_damaged_chunk_ends_the_export(void **state)
{
	_cleanup_fixture_ struct fixture f = whole_fixture(0);
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(image_reader_freep) struct image_reader *reader = NULL;
	struct store *memory = NULL;
	struct ingest_result result;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct bytes out = { 0 };
	const struct image_sink sink = bytes_sink(&out);
	struct repo_export x = { .sink = &sink };
	struct repo_place place;
	struct chunk_id id;
	char hex[80];
	struct err e = { 0 };

	assert_int_equal(store_memory_new(&memory), 0);
	r = repo_fixture_new(memory, NULL);
	assert_int_equal(ingest_bytes(r, &(struct iovec){ f.image.data, f.image.len }, NULL, &image,
				      &result, &e),
			 0);
	assert_int_equal(repo_load_index(r, &e), 0);
	chunk_id_of(fixture_chunk(&f, 1, 3), FIXTURE_CHUNK, &id);
	assert_int_equal(repo_find(r, &id, REPO_KIND_CHUNK, &place, &e), 0);
	pack_name(repo_index_pack(r->index, place.pack)->hash, hex);
	assert_int_equal(store_memory_flip(memory, hex, le32_get(place.entry.offset) + 30, 1), 0);
	assert_int_equal(repo_source_open(r, image, &reader, &e), 0);
	x.reader = reader;
	assert_int_equal(repo_export_run(&x, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "packs/"));
	free(out.data);
}

/* ---- the same image as a parent ----------------------------------------------------------------- */

static void a_parent_shows_its_pages_and_chunks(void **state)
{
	_cleanup_fixture_ struct fixture f = whole_fixture(0);
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(repo_freep) struct repo *r = fixture_repo(&f, &image);
	_cleanup_(repo_parent_freep) struct repo_parent *p = NULL;
	_cleanup_free_ uint8_t *page = malloc(AMBRO_PAGE_MAX), *plain = malloc(PARENT_CHUNK_MAX);
	const struct manifest *m = f.manifest;
	struct err e = { 0 };

	assert_int_equal(repo_parent_new(r, image, NULL, &p, &e), 0);
	for (uint32_t i = 0; i < m->n_regions; i++) {
		const uint64_t chunks = region_chunks(m->regions[i].length, m->chunk_size);
		ssize_t n = repo_parent_ops.page(p, i, 0, page);
		struct chunk_id id;
		struct page_view v;

		assert_true(n > 0);
		chunk_id_of(page, (size_t)n, &id);
		assert_memory_equal(&id, &m->regions[i].root, sizeof(id));
		assert_int_equal(page_parse(page, (size_t)n, 0, chunks, &v), 0);
		for (uint64_t j = 0; j < chunks; j++) {
			n = repo_parent_ops.chunk(p, i, j, plain);
			if (page_entry(&v, (uint32_t)j, NULL) != CHUNK_DATA) {
				assert_int_equal(n, -ENOENT);
				continue;
			}
			assert_int_equal(n, fixture_chunk_len(&f, i, j));
			assert_memory_equal(plain, fixture_chunk(&f, i, j), (size_t)n);
		}
		assert_int_equal(repo_parent_ops.chunk(p, i, chunks, plain), -ENOENT);
		assert_int_equal(repo_parent_ops.page(p, i, 1, page), -ENOENT);
	}
	assert_int_equal(repo_parent_ops.page(p, 99, 0, page), -ENOENT);
	assert_int_equal(repo_parent_ops.chunk(p, 99, 0, plain), -ENOENT);
}

static void a_parent_makes_up_the_pages_that_its_tree_does_not_have(void **state)
{
	/* three leaves: the first has data, the second is all free, the last all zeros */
	const uint64_t one[] = { FIXTURE_CHUNK * (2 * AMBRO_PAGE_FANOUT + 9) };
	struct fixture f = { 0 };
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(repo_parent_freep) struct repo_parent *p = NULL;
	_cleanup_(repo_freep) struct repo *r = NULL;
	_cleanup_free_ uint8_t *page = malloc(AMBRO_PAGE_MAX);
	const struct image_sink sink = bytes_sink(&f.image);
	const enum chunk_state want[] = { CHUNK_DATA, CHUNK_FREE, CHUNK_ZERO };
	struct err e = { 0 };

	f = fixture_new(one, 1);
	fill_noise(f.disk, FIXTURE_CHUNK, 3);
	assert_int_equal(image_writer_new(&sink, f.manifest, AMBRO_REQUIRE_SPARSE, &w, &e), 0);
	assert_int_equal(fixture_put(&f, w, 0, 0), 0);
	assert_int_equal(image_writer_run(w, 0, 1, 2 * AMBRO_PAGE_FANOUT - 1, CHUNK_FREE, &e), 0);
	assert_int_equal(image_writer_run(w, 0, 2 * AMBRO_PAGE_FANOUT, 9, CHUNK_ZERO, &e), 0);
	assert_int_equal(image_writer_finish(w, &e), 0);
	r = fixture_repo(&f, &image);
	assert_int_equal(repo_parent_new(r, image, NULL, &p, &e), 0);
	for (uint64_t i = 0; i < 3; i++) {
		ssize_t n = repo_parent_ops.page(p, 0, i, page);
		struct page_view v;

		assert_true(n > 0);
		assert_int_equal(page_parse(page, (size_t)n, 0, i == 2 ? 9 : AMBRO_PAGE_FANOUT, &v),
				 0);
		assert_int_equal(v.states[0], want[i]);
	}
	assert_int_equal(repo_parent_ops.page(p, 0, 3, page), -ENOENT);
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_exported_decodes_to_the_disk_with_stock_zstd),
		cmocka_unit_test(what_was_plain_is_exported_byte_for_byte),
		cmocka_unit_test(what_was_exported_can_be_taken_in_again_for_nothing),
		cmocka_unit_test(a_damaged_chunk_ends_the_export),
		cmocka_unit_test(a_parent_shows_its_pages_and_chunks),
		cmocka_unit_test(a_parent_makes_up_the_pages_that_its_tree_does_not_have),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
