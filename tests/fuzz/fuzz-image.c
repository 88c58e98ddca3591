/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole image is opened, all its pages are walked and its chunks read, and it is verified.
 *
 * The first byte says what is mended before, because hashes would stop all changes at the door: bit 0, the
 * check of every record that can be found; bit 1, the TRAILER's hashes too.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/io.h"
#include "lib/image/image_reader.h"
#include "lib/image/record.h"
#include "lib/image/verify.h"
#include "tests/fuzz/fuzz.h"

#define MEND_CHECKS 1u
#define MEND_HASHES 2u

/* An honest tree can speak of 2^47 chunks in a few pages; nobody wants to see them all. */
#define RUNS_MAX 300

static void mend_record(uint8_t *at, size_t room)
{
	struct record_head head;
	uint64_t len;

	if (room < sizeof(head))
		return;
	memcpy(&head, at, sizeof(head));
	len = le64_get(head.record.length);
	if (len > room - sizeof(head))
		return;
	memset(head.record.check, 0, sizeof(head.record.check));
	record_check(&head.record, sizeof(head.record), at + sizeof(head), len, head.record.check);
	memcpy(at, &head, sizeof(head));
}

/* The SHA-256 of the body of the record at @offset into @ret, if there is one. */
static void mend_hash(const uint8_t *image, size_t size, uint64_t offset, uint64_t frame_len,
		      uint8_t ret[32])
{
	struct chunk_id id;

	if (offset > size || frame_len > size - offset || frame_len < sizeof(struct record_head))
		return;
	chunk_id_of(image + offset + sizeof(struct record_head),
		    frame_len - sizeof(struct record_head), &id);
	memcpy(ret, id.b, sizeof(id.b));
}

static void mend_trailer(uint8_t *image, size_t size, uint8_t *at, size_t room)
{
	struct ambro_trailer t;

	if (room < AMBRO_TRAILER_FRAME_LEN)
		return;
	memcpy(&t, at + sizeof(struct record_head), sizeof(t));
	mend_hash(image, size, le64_get(t.index_offset), le64_get(t.index_frame_len),
		  t.index_sha256);
	mend_hash(image, size, le64_get(t.manifest_offset), le64_get(t.manifest_frame_len),
		  t.manifest_sha256);
	memcpy(at + sizeof(struct record_head), &t, sizeof(t));
}

static void mend(uint8_t *image, size_t size, unsigned int how)
{
	const le32_t magic = le32(AMBRO_SKIPPABLE);

	for (size_t i = 0; i + sizeof(struct record_head) <= size; i++) {
		struct record_head head;

		if (memcmp(image + i, &magic, sizeof(magic)) != 0)
			continue;
		memcpy(&head, image + i, sizeof(head));
		if (how & MEND_HASHES && head.record.type == AMBRO_RECORD_TRAILER)
			mend_trailer(image, size, image + i, size - i);
		if (how & MEND_CHECKS)
			mend_record(image + i, size - i);
	}
}

/* Walk on by one run from *@at. */
static bool read_run(const struct image_reader *r, struct image_cursor *c, struct codec *codec,
		     uint64_t chunks, uint64_t *at)
{
	const struct manifest *m = image_reader_manifest(r);
	_cleanup_free_ uint8_t *frame = malloc(image_reader_frame_max(r) + 1);
	_cleanup_free_ uint8_t *plain = malloc(m->chunk_size);
	struct err e = { 0 };
	struct image_run run;
	int n = image_cursor_at(c, *at, &run, &e);

	if (n < 0) {
		FUZZ_CHECK(e.code == n && *e.text);
		FUZZ_CHECK(image_cursor_lost_end(c) > *at && image_cursor_lost_end(c) <= chunks);
		*at = image_cursor_lost_end(c);
		return false;
	}
	FUZZ_CHECK(n == 1 && run.index == *at && run.count > 0 && run.count <= chunks - *at);
	*at += run.count;
	if (run.state != CHUNK_DATA)
		return true;
	FUZZ_CHECK(frame && plain && run.plain_len <= m->chunk_size);
	FUZZ_CHECK(run.frame_len <= image_reader_frame_max(r));
	return image_reader_chunk(r, &run, codec, frame, plain, &e) == 0;
}

/* Returns the number of runs seen; *@ret_whole when the end was reached and all was well. */
static unsigned int read_region(const struct image_reader *r, uint32_t region, struct codec *codec,
				bool *ret_whole)
{
	const struct manifest *m = image_reader_manifest(r);
	const uint64_t chunks = region_chunks(m->regions[region].length, m->chunk_size);
	_cleanup_(image_cursor_freep) struct image_cursor *c = NULL;
	unsigned int runs = 0;
	bool whole = true;
	uint64_t at = 0;

	FUZZ_CHECK(image_cursor_new(r, region, &c) == 0);
	for (; at < chunks && runs <= RUNS_MAX; runs++)
		whole &= read_run(r, c, codec, chunks, &at);
	*ret_whole = whole && at == chunks;
	return runs;
}

static void read_image(const struct image_reader *r)
{
	const struct manifest *m = image_reader_manifest(r);
	_cleanup_(codec_freep) struct codec *codec = NULL;
	struct verify_result result;
	bool whole = true, all = true;
	struct err e = { 0 };
	int n;

	if (codec_new(CODEC_LEVEL_DEFAULT, &codec) < 0)
		return;
	for (size_t i = 0; i < MIN(m->n_regions, (size_t)20); i++) {
		bool region_whole;

		if (read_region(r, (uint32_t)i, codec, &region_whole) > RUNS_MAX)
			all = false;
		whole &= region_whole;
	}
	/* both ways to read an image agree on whether it is good */
	if (!all || m->n_regions > 20)
		return;
	n = image_verify(r, 1, NULL, NULL, NULL, &result, &e);
	/* a page may say, with a good check, that it is of a later version */
	FUZZ_CHECK(whole ? n == 0 : n == -EBADMSG || n == -ENOTSUP);
	FUZZ_CHECK(n == -ENOTSUP || whole == !result.damaged_chunks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ uint8_t *image = NULL;
	struct err e = { 0 };
	int n;

	if (size < 1)
		return 0;
	image = malloc(size);
	fd = memfd_create("image", MFD_CLOEXEC);
	if (!image || fd < 0)
		return 0;
	memcpy(image, data + 1, size - 1);
	mend(image, size - 1, data[0]);
	FUZZ_CHECK(io_write_all(fd, image, size - 1) == 0);
	n = image_reader_open(fd, &r, &e);
	if (n < 0) {
		FUZZ_CHECK(e.code == n && *e.text && !r);
		return 0;
	}
	read_image(r);
	return 0;
}
