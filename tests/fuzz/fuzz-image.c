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
#include "lib/image/verify.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mend.h"

/* An honest tree can speak of 2^47 chunks in a few pages; nobody wants to see them all. */
#define RUNS_MAX 300

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
	if (n == -ENOTSUP) {
		FUZZ_CHECK(!whole);
		return;
	}
	FUZZ_CHECK(n == 0 || n == -EBADMSG);
	/* what stands between the chunks only verify looks at, and how often the trees use them */
	if (whole && result.damaged_chunks)
		FUZZ_CHECK(strstr(result.first_damage, "of the INDEX"));
	if (!whole)
		FUZZ_CHECK(result.damaged_chunks > 0);
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
