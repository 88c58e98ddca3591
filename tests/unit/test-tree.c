/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <malloc.h>

#include "lib/image/tree.h"
#include "tests/unit/image-fixture.h"

static struct chunk_id id_of_number(uint64_t n)
{
	struct chunk_id id;

	chunk_id_of(&n, sizeof(n), &id);
	return id;
}

/* Every page that came out. */
struct pages {
	struct page {
		uint8_t *body;
		size_t len;
		struct chunk_id id;
	} items[64];
	size_t count;
	int fail_at; /* -1: never */
};

static int pages_add(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	struct pages *p = ctx;
	struct page *item = &p->items[p->count];

	if ((int)p->count == p->fail_at)
		return -EPIPE;
	assert_true(p->count < ARRAY_SIZE(p->items));
	item->body = malloc(len);
	memcpy(item->body, page, len);
	item->len = len;
	chunk_id_of(page, len, &item->id);
	assert_true(chunk_id_equal(&item->id, id));
	p->count++;
	return 0;
}

static void pages_done(struct pages *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->items[i].body);
}

static const struct page *pages_find(const struct pages *p, const struct chunk_id *id)
{
	for (size_t i = 0; i < p->count; i++) {
		if (chunk_id_equal(&p->items[i].id, id))
			return &p->items[i];
	}
	fail_msg("a page refers to one that was not given out");
	return NULL;
}

/* The state of a chunk as a reader finds it. */
static enum chunk_state pages_get(const struct pages *p, const struct chunk_id *root,
				  uint64_t chunks, uint64_t index, struct chunk_id *ret_id)
{
	struct chunk_id id = *root;

	for (unsigned int level = tree_depth(chunks); level-- > 0;) {
		uint64_t span = UINT64_C(1) << (12 * level);
		uint64_t entries = (chunks - 1) / span + 1, entry = index / span;
		uint64_t first = entry / 4096 * 4096;
		const struct page *page = pages_find(p, &id);
		struct page_view v;
		uint32_t rank = 0;

		assert_int_equal(page_parse(page->body, page->len, level,
					    MIN(entries - first, UINT64_C(4096)), &v),
				 0);
		for (uint32_t i = 0; i < entry - first; i++)
			rank += v.states[i] == CHUNK_DATA;
		if (v.states[entry - first] != CHUNK_DATA)
			return v.states[entry - first];
		id = v.ids[rank];
	}
	*ret_id = id;
	return CHUNK_DATA;
}

static void depth_grows_with_powers_of_4096(void **state)
{
	assert_int_equal(tree_depth(1), 1);
	assert_int_equal(tree_depth(4096), 1);
	assert_int_equal(tree_depth(4097), 2);
	assert_int_equal(tree_depth(4096 * 4096), 2);
	assert_int_equal(tree_depth(4096 * 4096 + 1), 3);
	assert_int_equal(tree_depth(UINT64_C(1) << 36), 3);
	assert_int_equal(tree_depth((UINT64_C(1) << 36) + 1), 4);
	assert_int_equal(tree_depth(UINT64_MAX), 6);
}

static void a_tree_of_no_chunks_is_refused(void **state)
{
	struct tree *t = NULL;

	assert_int_equal(tree_new(0, &t), -EINVAL);
	tree_free(t);
}

static void it_remembers_whatever_was_said_last(void **state)
{
	const uint64_t chunks = 4096 * 3 + 100;
	_cleanup_(tree_freep) struct tree *t = NULL;
	uint8_t *states = calloc(chunks, 1);
	uint64_t *numbers = calloc(chunks, sizeof(*numbers));
	uint64_t seed = 12345;
	struct pages p = { .fail_at = -1 };
	struct chunk_id root, id;

	assert_int_equal(tree_new(chunks, &t), 0);
	for (uint64_t i = 0; i < 60000; i++) {
		uint64_t at = fixture_random(&seed) % chunks;
		enum chunk_state s = fixture_random(&seed) % 4;
		uint64_t n = 1 + fixture_random(&seed) % 30;

		if (fixture_random(&seed) % 50 == 0 && s != CHUNK_DATA) {
			n = MIN(n * 300, chunks - at);
			assert_int_equal(tree_set_run(t, at, n, s), 0);
			memset(states + at, s, n);
			continue;
		}
		id = id_of_number(i);
		assert_int_equal(tree_set(t, at, s, &id), 0);
		states[at] = (uint8_t)s;
		numbers[at] = i;
	}
	assert_int_equal(tree_emit(t, pages_add, &p, &root), 0);
	for (uint64_t i = 0; i < chunks; i++) {
		struct chunk_id want = id_of_number(numbers[i]);

		assert_int_equal(tree_get(t, i, NULL), states[i]);
		assert_int_equal(tree_get(t, i, &id), states[i]);
		if (states[i] == CHUNK_DATA)
			assert_true(chunk_id_equal(&id, &want));
		if (i % 37)
			continue;
		assert_int_equal(pages_get(&p, &root, chunks, i, &id), states[i]);
		if (states[i] == CHUNK_DATA)
			assert_true(chunk_id_equal(&id, &want));
	}
	pages_done(&p);
	free(states);
	free(numbers);
}

static void leaves_come_before_parents_and_the_root_last(void **state)
{
	_cleanup_(tree_freep) struct tree *t = NULL;
	struct pages p = { .fail_at = -1 };
	struct chunk_id id = id_of_number(1), root;

	assert_int_equal(tree_new(4096 * 4096 + 1, &t), 0);
	assert_int_equal(tree_set(t, 4096 * 4096, CHUNK_DATA, &id), 0);
	assert_int_equal(tree_set(t, 5, CHUNK_DATA, &id), 0);
	assert_int_equal(tree_set(t, 9000, CHUNK_BAD, NULL), 0);
	assert_int_equal(tree_emit(t, pages_add, &p, &root), 0);
	/* leaves 0, 2 and 4096; their parents 0 and 1; the root */
	assert_int_equal(p.count, 6);
	assert_true(chunk_id_equal(&p.items[5].id, &root));
	assert_int_equal(p.items[0].body[0], 0);
	assert_int_equal(p.items[2].body[0], 0);
	assert_int_equal(p.items[3].body[0], 1);
	assert_int_equal(p.items[4].body[0], 1);
	assert_int_equal(p.items[5].body[0], 2);
	assert_int_equal(pages_get(&p, &root, 4096 * 4096 + 1, 9000, &id), CHUNK_BAD);
	assert_int_equal(pages_get(&p, &root, 4096 * 4096 + 1, 77777, &id), CHUNK_FREE);
	pages_done(&p);
}

static void equal_trees_have_equal_roots_however_they_were_made(void **state)
{
	_cleanup_(tree_freep) struct tree *a = NULL, *b = NULL;
	struct pages pa = { .fail_at = -1 }, pb = { .fail_at = -1 };
	struct chunk_id root_a, root_b, id = id_of_number(7);

	assert_int_equal(tree_new(10000, &a), 0);
	assert_int_equal(tree_new(10000, &b), 0);
	assert_int_equal(tree_set_run(a, 0, 10000, CHUNK_ZERO), 0);
	for (uint64_t i = 10000; i-- > 0;) {
		assert_int_equal(tree_set(b, i, CHUNK_DATA, &id), 0);
		assert_int_equal(tree_set(b, i, CHUNK_ZERO, NULL), 0);
	}
	assert_int_equal(tree_emit(a, pages_add, &pa, &root_a), 0);
	assert_int_equal(tree_emit(b, pages_add, &pb, &root_b), 0);
	assert_true(chunk_id_equal(&root_a, &root_b));
	/* all zero: only the root is stored */
	assert_int_equal(pa.count, 1);
	assert_int_equal(pb.count, 1);
	pages_done(&pa);
	pages_done(&pb);
}

static void a_failing_sink_ends_it(void **state)
{
	_cleanup_(tree_freep) struct tree *t = NULL;
	struct chunk_id root, id = id_of_number(7);

	assert_int_equal(tree_new(10000, &t), 0);
	assert_int_equal(tree_set(t, 0, CHUNK_DATA, &id), 0);
	assert_int_equal(tree_set(t, 9999, CHUNK_DATA, &id), 0);
	for (int i = 0; i < 3; i++) {
		struct pages p = { .fail_at = i };

		assert_int_equal(tree_emit(t, pages_add, &p, &root), -EPIPE);
		pages_done(&p);
	}
}

static size_t heap_in_use(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static void memory_follows_what_is_used(void **state)
{
	const uint64_t chunks = UINT64_C(16) << 20; /* 16 TiB of 1 MiB */
	const size_t before = heap_in_use();
	_cleanup_(tree_freep) struct tree *t = NULL;
	uint64_t seed = 99;

	assert_int_equal(tree_new(chunks, &t), 0);
	assert_int_equal(tree_set_run(t, 0, chunks, CHUNK_ZERO), 0);
	assert_int_equal(tree_set_run(t, 1000, chunks - 1000, CHUNK_FREE), 0);
	/* 1 GiB in 1024 chunks, each somewhere else */
	for (int i = 0; i < 1024; i++) {
		struct chunk_id id = id_of_number((uint64_t)i);

		assert_int_equal(tree_set(t, fixture_random(&seed) % chunks, CHUNK_DATA, &id), 0);
	}
	/* the sanitizers' allocators do not tell */
	if (heap_in_use() != before)
		assert_true(heap_in_use() - before < 6 << 20);
}

static void a_damaged_page_is_refused(void **state)
{
	uint8_t body[8 + 10 + 2 * 32 + 1] = { 0 };
	const size_t len = sizeof(body) - 1;
	struct page_view v;

	body[4] = 10;
	body[8] = CHUNK_DATA;
	body[9] = CHUNK_BAD;
	body[10] = CHUNK_ZERO;
	body[17] = CHUNK_DATA;
	assert_int_equal(page_parse(body, len, 0, 10, &v), 0);
	assert_int_equal(v.n_ids, 2);
	assert_int_equal(v.count, 10);
	assert_ptr_equal(v.ids, body + 18);
	/* another length, level or count than expected */
	for (size_t n = 0; n <= len + 1; n++)
		assert_int_equal(page_parse(body, n, 0, 10, &v), n == len ? 0 : -EBADMSG);
	assert_int_equal(page_parse(body, len, 1, 10, &v), -EBADMSG);
	assert_int_equal(page_parse(body, len, 0, 11, &v), -EBADMSG);
	assert_int_equal(page_parse(body, len, 0, 0, &v), -EBADMSG);
	assert_int_equal(page_parse(body, len, 0, 4097, &v), -EBADMSG);
	assert_int_equal(page_parse(body, len, 0, UINT64_MAX, &v), -EBADMSG);
	/* a state that does not exist, or not at this level */
	body[10] = 4;
	assert_int_equal(page_parse(body, len, 0, 10, &v), -EBADMSG);
	body[10] = 0;
	body[0] = 1;
	assert_int_equal(page_parse(body, len, 1, 10, &v), -EBADMSG);
	body[9] = CHUNK_FREE;
	assert_int_equal(page_parse(body, len, 1, 10, &v), 0);
	body[2] = 1;
	assert_int_equal(page_parse(body, len, 1, 10, &v), -EBADMSG);
}

static void a_delta_s_page_may_say_same(void **state)
{
	uint8_t body[8 + 10 + 32] = { 0 };
	struct page_view v;

	body[4] = 10;
	body[8] = CHUNK_SAME;
	body[9] = CHUNK_DATA;
	memset(body + 18, 7, 32);
	assert_int_equal(page_parse(body, sizeof(body), 0, 10, &v), -EBADMSG);
	assert_int_equal(page_parse_delta(body, sizeof(body), 0, 10, &v), 0);
	assert_int_equal(v.n_ids, 1);
	body[0] = 1;
	assert_int_equal(page_parse(body, sizeof(body), 1, 10, &v), -EBADMSG);
	assert_int_equal(page_parse_delta(body, sizeof(body), 1, 10, &v), 0);
	body[8] = CHUNK_BAD;
	assert_int_equal(page_parse_delta(body, sizeof(body), 1, 10, &v), -EBADMSG);
	body[8] = 5;
	assert_int_equal(page_parse_delta(body, sizeof(body), 1, 10, &v), -EBADMSG);
}

static void entries_of_a_page_are_found(void **state)
{
	uint8_t body[AMBRO_PAGE_MAX] = { 0 };
	struct chunk_id id = { 0 };
	struct page_view v;
	size_t len = page_make_uniform(1, 4096, CHUNK_ZERO, body);

	assert_int_equal(page_parse(body, len, 1, 4096, &v), 0);
	assert_int_equal(page_entry(&v, 4095, &id), CHUNK_ZERO);
	len = page_make_uniform(0, 3, CHUNK_FREE, body);
	assert_int_equal(len, 8 + 3);
	body[8 + 1] = body[8 + 2] = CHUNK_DATA;
	memset(body + 11, 1, 32);
	memset(body + 43, 2, 32);
	assert_int_equal(page_parse(body, len + 64, 0, 3, &v), 0);
	assert_int_equal(page_entry(&v, 0, NULL), CHUNK_FREE);
	assert_int_equal(page_entry(&v, 1, &id), CHUNK_DATA);
	assert_int_equal(id.b[0], 1);
	assert_int_equal(page_entry(&v, 2, &id), CHUNK_DATA);
	assert_int_equal(id.b[31], 2);
	assert_int_equal(page_entry(&v, 2, NULL), CHUNK_DATA);
}

/* Whole leaves of SAME cost neither memory nor pages, and are SAME in the page above. */
static void what_is_the_same_takes_no_page(void **state)
{
	const uint64_t chunks = 4096 * 4 + 5;
	_cleanup_(tree_freep) struct tree *t = NULL;
	struct chunk_id root, id = id_of_number(1), got;
	struct pages p = { .fail_at = -1 };
	struct page_view v;

	assert_int_equal(tree_new(chunks, &t), 0);
	assert_int_equal(tree_set_run(t, 10, chunks - 10, CHUNK_SAME), 0);
	assert_int_equal(tree_set(t, 4096 * 2 + 7, CHUNK_DATA, &id), 0);
	assert_int_equal(tree_set(t, 4096 * 3 + 7, CHUNK_DATA, &id), 0);
	assert_int_equal(tree_set(t, 4096 * 3 + 7, CHUNK_SAME, NULL), 0);
	assert_int_equal(tree_count(t, CHUNK_SAME), chunks - 10 - 1);
	assert_int_equal(tree_count(t, CHUNK_FREE), 10);
	assert_int_equal(tree_count(t, CHUNK_DATA), 1);
	assert_int_equal(tree_get(t, 4096 * 2 + 8, NULL), CHUNK_SAME);
	assert_int_equal(tree_emit(t, pages_add, &p, &root), 0);
	/* two leaves that say more than one thing, and the root */
	assert_int_equal(p.count, 3);
	assert_int_equal(page_parse(p.items[2].body, p.items[2].len, 1, 5, &v), -EBADMSG);
	assert_int_equal(page_parse_delta(p.items[2].body, p.items[2].len, 1, 5, &v), 0);
	assert_int_equal(page_entry(&v, 0, &got), CHUNK_DATA);
	assert_int_equal(page_entry(&v, 1, &got), CHUNK_SAME);
	assert_int_equal(page_entry(&v, 2, &got), CHUNK_DATA);
	assert_true(chunk_id_equal(&got, &p.items[1].id));
	assert_int_equal(page_entry(&v, 3, &got), CHUNK_SAME);
	assert_int_equal(page_entry(&v, 4, &got), CHUNK_SAME);
	pages_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(depth_grows_with_powers_of_4096),
		cmocka_unit_test(a_tree_of_no_chunks_is_refused),
		cmocka_unit_test(it_remembers_whatever_was_said_last),
		cmocka_unit_test(leaves_come_before_parents_and_the_root_last),
		cmocka_unit_test(equal_trees_have_equal_roots_however_they_were_made),
		cmocka_unit_test(a_failing_sink_ends_it),
		cmocka_unit_test(memory_follows_what_is_used),
		cmocka_unit_test(a_damaged_page_is_refused),
		cmocka_unit_test(a_delta_s_page_may_say_same),
		cmocka_unit_test(entries_of_a_page_are_found),
		cmocka_unit_test(what_is_the_same_takes_no_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
