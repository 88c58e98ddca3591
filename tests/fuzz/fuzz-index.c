/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An INDEX. Input: log2 of the chunk size, and of the length of the file it speaks of (a byte each), then the body. What is
 * accepted must find every id it holds, at a place inside the file.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/codec.h"
#include "lib/image/image_index.h"
#include "tests/fuzz/fuzz.h"

static void check_place(const struct image_place *p, const struct image_span *within,
			uint64_t plain_max)
{
	FUZZ_CHECK(p->frame_len && p->plain_len && p->plain_len <= plain_max);
	FUZZ_CHECK(p->offset >= within->offset &&
		   p->offset + p->frame_len <= within->offset + within->length);
}

static void check_use(const struct image_index *x, uint64_t pages, uint64_t chunks)
{
	FUZZ_CHECK(image_index_check_use(x, pages, chunks, NULL) == 0);
	FUZZ_CHECK(image_index_check_use(x, pages + 1, 0, NULL) < 0);
	FUZZ_CHECK(image_index_check_use(x, 0, chunks + 1, NULL) < 0);
}

static void check_all(const struct image_index *x, const uint8_t *body,
		      const struct image_span *within, uint64_t chunk_size)
{
	struct ambro_index head;
	uint64_t chunks, pages;

	memcpy(&head, body, sizeof(head));
	body += sizeof(head);
	chunks = le64_get(head.chunks);
	pages = le64_get(head.pages);
	for (uint64_t i = 0; i < chunks + pages; i++) {
		struct ambro_location l;
		struct image_place p;
		int r;

		memcpy(&l, body + i * sizeof(l), sizeof(l));
		r = i < chunks ? image_index_chunk(x, &l.id, &p) : image_index_page(x, &l.id, &p);
		FUZZ_CHECK(r == 0);
		check_place(&p, within, i < chunks ? chunk_size : AMBRO_PAGE_MAX);
	}
	check_use(x, pages, chunks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(image_index_freep) struct image_index *x = NULL;
	struct image_span within = { 112, 0 };
	uint64_t chunk_size;
	struct err e = { 0 };
	uint8_t *body;

	if (size < 2)
		return 0;
	chunk_size = UINT64_C(1) << (AMBRO_CHUNK_SHIFT_MIN + data[0] % 7);
	within.length = UINT64_C(1) << data[1] % 60;
	body = malloc(size);
	if (!body)
		return 0;
	memcpy(body, data + 2, size - 2);
	if (image_index_new(body, size - 2, &within, chunk_size, &x, &e) < 0) {
		FUZZ_CHECK(e.code < 0 && *e.text);
		return 0;
	}
	check_all(x, data + 2, &within, chunk_size);
	return 0;
}
