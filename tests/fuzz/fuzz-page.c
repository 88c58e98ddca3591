/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A page of the hash tree. Input: the level and the count to expect (1 and 2 bytes), then the body. An accepted
 * page of level 0 is made again from what the view says, and must come out byte for byte.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lib/image/tree.h"
#include "tests/fuzz/fuzz.h"

struct made {
	const uint8_t *body;
	size_t len;
	unsigned int pages;
};

static int compare_page(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	struct made *m = ctx;

	(void)id;
	FUZZ_CHECK(len == m->len && !memcmp(page, m->body, len));
	m->pages++;
	return 0;
}

static void rebuild(const struct page_view *v, const uint8_t *body, size_t len)
{
	_cleanup_(tree_freep) struct tree *t = NULL;
	struct made m = { body, len, 0 };
	struct chunk_id root;
	uint32_t rank = 0;

	if (tree_new(v->count, &t) < 0)
		return;
	for (uint32_t i = 0; i < v->count; i++) {
		bool data = v->states[i] == CHUNK_DATA;

		FUZZ_CHECK(tree_set(t, i, v->states[i], data ? &v->ids[rank] : NULL) == 0);
		rank += data;
	}
	FUZZ_CHECK(rank == v->n_ids);
	FUZZ_CHECK(tree_emit(t, compare_page, &m, &root) == 0 && m.pages == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct page_view v;
	unsigned int level;
	uint64_t count;

	if (size < 3)
		return 0;
	level = data[0];
	count = (uint64_t)data[1] | (uint64_t)data[2] << 8;
	if (page_parse_delta(data + 3, size - 3, level, count, &v) < 0) {
		FUZZ_CHECK(page_parse(data + 3, size - 3, level, count, &v) < 0);
		return 0;
	}
	/* a whole image's has no SAME */
	if (!memchr(v.states, CHUNK_SAME, v.count))
		FUZZ_CHECK(page_parse(data + 3, size - 3, level, count, &v) == 0);
	FUZZ_CHECK(v.level == level && v.count == count);
	FUZZ_CHECK((const uint8_t *)(v.ids + v.n_ids) == data + size);
	if (level == 0)
		rebuild(&v, data + 3, size - 3);
	return 0;
}
