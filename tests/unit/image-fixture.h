/* SPDX-License-Identifier: GPL-2.0-or-later */
/* image-fixture - small images in memory, for the tests of lib/image. Setting up asserts; nothing leaks. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/image/codec.h"
#include "lib/image/image_reader.h"
#include "lib/image/image_writer.h"
#include "lib/image/manifest.h"

#define FIXTURE_CHUNK (UINT64_C(1) << AMBRO_CHUNK_SHIFT_MIN)

struct bytes {
	uint8_t *data;
	size_t len, allocated;
};

struct fixture {
	struct manifest *manifest;
	uint8_t *disk; /* what the image has to give back */
	struct bytes image;
	struct codec *codec;
};

static inline int bytes_add(void *ctx, const void *buf, size_t len)
{
	struct bytes *b = ctx;

	if (!len)
		return 0;
	if (b->len + len > b->allocated) {
		b->allocated = (b->len + len) * 2;
		b->data = realloc(b->data, b->allocated);
		assert_non_null(b->data);
	}
	memcpy(b->data + b->len, buf, len);
	b->len += len;
	return 0;
}

static inline struct image_sink bytes_sink(struct bytes *b)
{
	return (struct image_sink){ bytes_add, b };
}

static inline struct fixture fixture_new(const uint64_t *lengths, size_t n)
{
	struct fixture f = { 0 };
	struct manifest *m;

	assert_int_equal(manifest_new(n, &f.manifest), 0);
	m = f.manifest;
	m->chunk_size = FIXTURE_CHUNK;
	m->logical_sector = 512;
	m->created_ns = UINT64_C(1700000000123456789);
	memcpy(m->image_id, "0123456789abcdef", sizeof(m->image_id));
	for (size_t i = 0; i < n; i++) {
		m->regions[i].kind = i % 2 ? REGION_PARTITION : REGION_GAP;
		m->regions[i].partition = (unsigned int)(i % 2 ? i : 0);
		m->regions[i].start = m->disk_size;
		m->regions[i].length = lengths[i];
		m->disk_size += lengths[i];
	}
	f.disk = calloc(m->disk_size, 1);
	assert_non_null(f.disk);
	assert_int_equal(codec_new(CODEC_LEVEL_DEFAULT, &f.codec), 0);
	return f;
}

static inline void fixture_done(struct fixture *f)
{
	manifest_free(f->manifest);
	codec_free(f->codec);
	free(f->disk);
	free(f->image.data);
	*f = (struct fixture){ 0 };
}
#define _cleanup_fixture_ _cleanup_(fixture_done)

static inline uint64_t fixture_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Text-like bytes that compress. */
static inline void fill_text(uint8_t *p, size_t len, uint64_t seed)
{
	uint64_t state = seed * 2 + 1;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)("etaoin shrdlu\n"[fixture_random(&state) % 14]);
}

static inline void fill_noise(uint8_t *p, size_t len, uint64_t seed)
{
	uint64_t state = seed * 2 + 1;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(fixture_random(&state) >> 24);
}

static inline uint8_t *fixture_chunk(const struct fixture *f, uint32_t region, uint64_t index)
{
	return f->disk + f->manifest->regions[region].start + index * f->manifest->chunk_size;
}

static inline uint32_t fixture_chunk_len(const struct fixture *f, uint32_t region, uint64_t index)
{
	return region_chunk_len(f->manifest->regions[region].length, f->manifest->chunk_size,
				index);
}

/* Write what @f->disk holds at that place as a data chunk. */
static inline int fixture_put(struct fixture *f, struct image_writer *w, uint32_t region,
			      uint64_t index)
{
	const uint8_t *plain = fixture_chunk(f, region, index);
	const uint32_t len = fixture_chunk_len(f, region, index);
	const size_t size = codec_bound(len);
	_cleanup_free_ uint8_t *frame = malloc(size);
	struct chunk_id id;
	ssize_t n;

	assert_non_null(frame);
	chunk_id_of(plain, len, &id);
	n = codec_compress(f->codec, plain, len, frame, size);
	assert_true(n > 0);
	return image_writer_chunk(w, region, index, &id, frame, (size_t)n, NULL);
}

/* Fill the disk with a bit of everything and write all of it in order. */
static inline void fixture_write(struct fixture *f, uint64_t require)
{
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	const struct image_sink sink = bytes_sink(&f->image);
	const struct manifest *m = f->manifest;
	struct err e = { 0 };

	f->image.len = 0;
	assert_int_equal(image_writer_new(&sink, f->manifest, require, &w, &e), 0);
	for (uint32_t i = 0; i < m->n_regions; i++) {
		const uint64_t chunks = region_chunks(m->regions[i].length, m->chunk_size);

		for (uint64_t j = 0; j < chunks; j++) {
			uint8_t *plain = fixture_chunk(f, i, j);
			uint32_t len = fixture_chunk_len(f, i, j);

			switch ((i + j) % 6) {
			case 1:
				assert_int_equal(image_writer_run(w, i, j, 1, CHUNK_FREE, &e), 0);
				continue;
			case 2:
				assert_int_equal(image_writer_run(w, i, j, 1, CHUNK_ZERO, &e), 0);
				continue;
			case 3:
				assert_int_equal(image_writer_run(w, i, j, 1, CHUNK_BAD, &e), 0);
				continue;
			case 4:
				fill_noise(plain, len, i * UINT64_C(1000) + j);
				break;
			default:
				fill_text(plain, len, i * UINT64_C(1000) + j);
				break;
			}
			assert_int_equal(fixture_put(f, w, i, j), 0);
		}
	}
	assert_int_equal(image_writer_finish(w, &e), 0);
	assert_int_equal(image_writer_bytes(w), f->image.len);
}

static inline int image_memfd(const void *data, size_t len)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, data, len), 0);
	return fd;
}

/* All data chunks of a region into @disk (zeroed). Returns 0 or the first error. */
static inline int region_read_back(const struct image_reader *r, uint32_t region, uint8_t *disk,
				   struct err *e)
{
	const struct manifest *m = image_reader_manifest(r);
	_cleanup_(image_cursor_freep) struct image_cursor *c = NULL;
	_cleanup_(codec_freep) struct codec *codec = NULL;
	_cleanup_free_ uint8_t *frame = malloc(image_reader_frame_max(r) + 1);
	_cleanup_free_ uint8_t *plain = malloc(m->chunk_size);
	struct image_run run;
	int n = 1;

	assert_int_equal(image_cursor_new(r, region, &c), 0);
	assert_int_equal(codec_new(1, &codec), 0);
	for (uint64_t i = 0; n > 0; i += n > 0 ? run.count : 0) {
		n = image_cursor_at(c, i, &run, e);
		if (n <= 0 || run.state != CHUNK_DATA)
			continue;
		n = image_reader_chunk(r, &run, codec, frame, plain, e);
		if (n < 0)
			return n;
		memcpy(disk + m->regions[region].start + i * m->chunk_size, plain, run.plain_len);
		n = 1;
	}
	return n;
}

/* Open and read everything. 0 with *@ret_disk (disk_size bytes, to be freed), or the first error. */
static inline int image_read_back(const void *image, size_t len, uint8_t **ret_disk, struct err *e)
{
	_cleanup_close_ int fd = image_memfd(image, len);
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	_cleanup_free_ uint8_t *disk = NULL;
	const struct manifest *m;
	int n;

	n = image_reader_open(fd, &r, e);
	if (n < 0)
		return n;
	m = image_reader_manifest(r);
	disk = calloc(m->disk_size, 1);
	assert_non_null(disk);
	for (uint32_t i = 0; i < m->n_regions; i++) {
		n = region_read_back(r, i, disk, e);
		if (n < 0)
			return n;
	}
	*ret_disk = TAKE_PTR(disk);
	return 0;
}
