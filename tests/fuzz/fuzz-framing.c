/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sequence of frames and the seek table. Input: flags (bits 0 and 1: what the image requires; bit 2: mend the records'
 * checks; bit 3: the INDEX has the first chunk at another place; bit 4: it is an increment), log2 of the disk's size, the
 * number of frames (2 bytes), then the frames with the seek table at the end.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/io.h"
#include "lib/image/framing.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mend.h"

#define FLAG_MEND   4u
#define FLAG_INDEX  8u
#define FLAG_PARENT 16u

/* An INDEX of one chunk: that of the first CHUNK record, said to be at the file's beginning. */
static struct image_index *make_index(const uint8_t *image, size_t size)
{
	struct {
		struct ambro_index head;
		struct ambro_location location;
	} body = { .head = { .chunks = le64(1) } };
	struct image_index *x = NULL;
	void *owned = malloc(sizeof(body));
	struct record_head head;

	body.location.frame_len = body.location.plain_len = le32(1);
	for (size_t i = 0; i + sizeof(head) + sizeof(struct ambro_chunk) <= size; i++) {
		memcpy(&head, image + i, sizeof(head));
		if (memcmp(head.record.magic, AMBRO_RECORD_MAGIC, 4) != 0 ||
		    head.record.type != AMBRO_RECORD_CHUNK)
			continue;
		memcpy(&body.location.id,
		       image + i + sizeof(head) + offsetof(struct ambro_chunk, id),
		       sizeof(body.location.id));
		break;
	}
	if (!owned)
		return NULL;
	memcpy(owned, &body, sizeof(body));
	if (image_index_new(owned, sizeof(body), &(struct image_span){ 0, 1 }, 1u << 16, &x, NULL) <
	    0)
		return NULL;
	return x;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(image_index_freep) struct image_index *x = NULL;
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ uint8_t *image = NULL;
	struct framing f = { 0 };
	struct image_io io;
	struct err e = { 0 };
	uint64_t table;
	int r;

	if (size < 4)
		return 0;
	f.require = data[0] & AMBRO_REQUIRE_WHOLE;
	if (data[0] & FLAG_PARENT)
		f.require |= AMBRO_REQUIRE_PARENT;
	f.disk_size = UINT64_C(1) << data[1] % 63;
	f.frames = (uint64_t)data[2] | (uint64_t)data[3] << 8;
	table = f.frames * sizeof(struct ambro_seek_entry) + sizeof(struct ambro_skippable);
	if (table > size - 4)
		return 0;
	f.table_offset = size - 4 - table;
	image = malloc(size);
	fd = memfd_create("image", MFD_CLOEXEC);
	if (!image || fd < 0)
		return 0;
	memcpy(image, data + 4, size - 4);
	if (data[0] & FLAG_MEND)
		mend(image, f.table_offset, MEND_CHECKS);
	FUZZ_CHECK(io_write_all(fd, image, size - 4) == 0);
	x = make_index(data[0] & FLAG_INDEX ? image : NULL, data[0] & FLAG_INDEX ? size - 4 : 0);
	if (!x)
		return 0;
	FUZZ_CHECK(image_io_file(fd, &io, &e) == 0);
	f.io = &io;
	f.index = x;
	r = framing_check(&f, &e);
	FUZZ_CHECK(r == 0 || (r == -EBADMSG && e.code == r && *e.text));
	return 0;
}
