/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ingest-fixture - a repository in memory behind a store that fails on purpose, for tests of what fills and reads it. */
#pragma once

#include <sys/uio.h>

#include "lib/repo/ingest.h"
#include "lib/repo/repo_source.h"
#include "lib/repo/store.h"
#include "tests/unit/image-fixture.h"

#define FIXTURE_GRACE_NS (UINT64_C(3600) * 1000000000)

/* An empty repository with the fixture's chunks in @s; it is encrypted when there is a @crypt. Both are taken over. */
static inline struct repo *repo_fixture_new(struct store *s, struct crypt *crypt)
{
	const struct repo_format format = { .id = "repository-test",
					    .chunk_shift = AMBRO_CHUNK_SHIFT_MIN,
					    .encrypted = crypt != NULL,
					    .created_ns = 1 };
	struct repo *r = NULL;
	struct err e = { 0 };

	assert_int_equal(repo_init(s, &format, &e), 0);
	assert_int_equal(repo_open(s, &r, &e), 0);
	if (crypt)
		assert_int_equal(repo_unlock(r, crypt, &e), 0);
	assert_int_equal(repo_load_index(r, &e), 0);
	return r;
}

/* One in memory; *ret_fault is the store in front, which stays the repository's. */
static inline struct repo *repo_fixture_memory(struct store **ret_fault)
{
	struct store *memory = NULL;

	assert_int_equal(store_memory_new(&memory), 0);
	assert_int_equal(store_fault_new(memory, ret_fault), 0);
	return repo_fixture_new(*ret_fault, NULL);
}

/* Ingest @stream; settings other than repo and fd may be in @more (NULL: none). */
static inline int ingest_bytes(struct repo *r, const struct iovec *stream,
			       const struct ingest_settings *more, struct repo_image **ret,
			       struct ingest_result *result, struct err *e)
{
	struct ingest_settings s = more ? *more : (struct ingest_settings){ 0 };
	_cleanup_close_ int fd = image_memfd(stream->iov_base, stream->iov_len);

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	s.repo = r;
	s.fd = fd;
	s.grace_ns = s.grace_ns ? s.grace_ns : FIXTURE_GRACE_NS;
	return ingest_run(&s, ret, result, e);
}

/* All of an image of the repository. 0 with *ret_disk (disk_size bytes, to be freed), or the first error. */
static inline int repo_read_back(struct repo *r, const struct repo_image *i, uint8_t **ret_disk,
				 struct err *e)
{
	_cleanup_(image_reader_freep) struct image_reader *reader = NULL;
	_cleanup_free_ uint8_t *disk = NULL;
	const struct manifest *m;
	int n = repo_source_open(r, i, &reader, e);

	if (n < 0)
		return n;
	m = image_reader_manifest(reader);
	disk = calloc(m->disk_size, 1);
	assert_non_null(disk);
	for (uint32_t k = 0; k < m->n_regions; k++) {
		n = region_read_back(reader, k, disk, e);
		if (n < 0)
			return n;
	}
	*ret_disk = TAKE_PTR(disk);
	return 0;
}

/* How many images are listed; all of them must be whole. */
static inline size_t repo_images_count(struct repo *r)
{
	struct repo_images list = { 0 };
	struct err e = { 0 };
	size_t n;

	assert_int_equal(repo_images_load(r, false, &list, &e), 0);
	assert_int_equal(list.damaged, 0);
	n = list.count;
	repo_images_done(&list);
	return n;
}

static const uint64_t server_lengths[] = { 512, FIXTURE_CHUNK * 20 + 1, 4097, FIXTURE_CHUNK * 9 };

/* All that a repository's image needs in its manifest. */
static inline struct fixture server_fixture(void)
{
	struct fixture f = fixture_new(server_lengths, ARRAY_SIZE(server_lengths));

	f.manifest->hostname = strdup("web1.example");
	f.manifest->path = strdup("/dev/vda");
	f.manifest->instant_ns = f.manifest->created_ns + 5;
	return f;
}

static inline int fixture_ingest(struct fixture *f, struct repo *r, struct repo_image **ret,
				 struct ingest_result *result)
{
	struct err e = { 0 };
	int n = ingest_bytes(r, &(struct iovec){ f->image.data, f->image.len }, NULL, ret, result,
			     &e);

	/* whatever fails says so */
	if (n < 0) {
		assert_int_equal(e.code, n);
		assert_true(*e.text);
	}
	return n;
}

static inline void assert_restores(struct repo *r, const struct repo_image *image,
				   const uint8_t *disk, uint64_t size)
{
	_cleanup_free_ uint8_t *found = NULL;
	struct err e = { 0 };

	assert_int_equal(repo_load_index(r, &e), 0);
	assert_int_equal(repo_read_back(r, image, &found, &e), 0);
	assert_memory_equal(found, disk, size);
}

/* A delta stream against @parent: every @step-th chunk of it is new, one is zeros now, all else is the same. */
static inline void fixture_write_delta(struct fixture *f, const struct manifest *parent,
				       uint64_t step, uint64_t seed)
{
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	const struct image_sink sink = bytes_sink(&f->image);
	struct manifest *m = f->manifest;
	struct err e = { 0 };

	f->image.len = 0;
	m->has_parent = true;
	memcpy(m->parent_id, parent->image_id, sizeof(m->parent_id));
	m->image_id[1] = (uint8_t)seed;
	m->instant_ns++;
	assert_int_equal(
		image_writer_new(&sink, m, AMBRO_REQUIRE_WHOLE | AMBRO_REQUIRE_PARENT, &w, &e), 0);
	for (uint32_t i = 0; i < m->n_regions; i++) {
		const uint64_t chunks = region_chunks(m->regions[i].length, m->chunk_size);

		assert_int_equal(image_writer_run(w, i, 0, chunks, CHUNK_SAME, &e), 0);
		for (uint64_t j = seed % step; j < chunks; j += step) {
			fill_noise(fixture_chunk(f, i, j), fixture_chunk_len(f, i, j), seed + j);
			assert_int_equal(fixture_put(f, w, i, j), 0);
		}
		if (chunks > 5) {
			memset(fixture_chunk(f, i, 4), 0, fixture_chunk_len(f, i, 4));
			assert_int_equal(image_writer_run(w, i, 4, 1, CHUNK_ZERO, &e), 0);
		}
	}
	assert_int_equal(image_writer_finish(w, &e), 0);
}
