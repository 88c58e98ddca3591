/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include "lib/image/tree.h"
#include "lib/repo/ingest_packs.h"
#include "lib/repo/repo_tree.h"
#include "tests/unit/ingest-fixture.h"

#define FANOUT ((uint64_t)AMBRO_PAGE_FANOUT)

static struct chunk_id random_id(uint64_t *state)
{
	struct chunk_id id;

	for (size_t i = 0; i < sizeof(id.b); i++)
		id.b[i] = (uint8_t)fixture_random(state);
	return id;
}

/* ---- pages into a repository -------------------------------------------------------------------- */

struct page_sink {
	struct ingest_packs *packs;
	unsigned int pages;
};

static int page_store(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	struct page_sink *s = ctx;

	s->pages++;
	return ingest_packs_add(s->packs, REPO_KIND_PAGE, id, (uint32_t)len, page, (uint32_t)len,
				NULL);
}

static struct page_sink page_sink_new(struct repo *r)
{
	struct page_sink s = { 0 };

	assert_int_equal(ingest_packs_new(r, UINT64_MAX, &s.packs, NULL), 0);
	return s;
}

static void page_sink_done(struct page_sink *s, struct repo *r)
{
	struct err e = { 0 };

	assert_int_equal(ingest_packs_finish(s->packs, true, &e), 0);
	ingest_packs_free(s->packs);
	assert_int_equal(repo_load_index(r, &e), 0);
}

static struct chunk_id tree_store(struct repo *r, const struct tree *t)
{
	struct page_sink sink = page_sink_new(r);
	struct chunk_id root;

	assert_int_equal(tree_emit(t, page_store, &sink, &root), 0);
	page_sink_done(&sink, r);
	return root;
}

static int page_must_be_there(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	_cleanup_free_ void *found = NULL;
	struct err e = { 0 };
	size_t found_len;

	assert_int_equal(repo_read(ctx, id, REPO_KIND_PAGE, &found, &found_len, &e), 0);
	assert_int_equal(found_len, len);
	assert_memory_equal(found, page, len);
	return 0;
}

/* ---- the naive model: a whole tree that is changed chunk by chunk -------------------------------- */

/* Do one random thing to @said, and to @model, which holds what must come out; @parent is what was there before. */
static void change_at_random(struct tree *said, struct tree *model, const struct tree *parent,
			     uint64_t *state)
{
	const uint64_t chunks = tree_chunks(model);
	const enum chunk_state states[] = { CHUNK_FREE, CHUNK_ZERO, CHUNK_BAD, CHUNK_SAME };
	const enum chunk_state to = states[fixture_random(state) % 4];
	uint64_t index = fixture_random(state) % chunks, count;
	struct chunk_id id = random_id(state);

	if (fixture_random(state) % 2) {
		assert_int_equal(tree_set(said, index, CHUNK_DATA, &id), 0);
		assert_int_equal(tree_set(model, index, CHUNK_DATA, &id), 0);
		return;
	}
	count = fixture_random(state) % 3 ? fixture_random(state) % 100 + 1
					  : fixture_random(state) % (3 * FANOUT) + 1;
	/* whole leaves now and then */
	if (fixture_random(state) % 3 == 0) {
		index -= index % FANOUT;
		count = FANOUT * (fixture_random(state) % 2 + 1);
	}
	count = MIN(count, chunks - index);
	assert_int_equal(tree_set_run(said, index, count, to), 0);
	if (to != CHUNK_SAME) {
		assert_int_equal(tree_set_run(model, index, count, to), 0);
		return;
	}
	for (uint64_t i = index; i < index + count; i++) {
		enum chunk_state was = tree_get(parent, i, &id);

		assert_int_equal(tree_set(model, i, was, &id), 0);
	}
}

static struct tree *tree_copy(const struct tree *t)
{
	struct tree *copy;
	struct chunk_id id;

	assert_int_equal(tree_new(tree_chunks(t), &copy), 0);
	for (uint64_t leaf = 0; leaf * FANOUT < tree_chunks(t); leaf++) {
		enum chunk_state all;
		struct page_view v;

		if (!tree_leaf(t, leaf, &v, &all)) {
			tree_set_run(copy, leaf * FANOUT, v.count, all);
			continue;
		}
		for (uint32_t i = 0; i < v.count; i++) {
			enum chunk_state s = tree_get(t, leaf * FANOUT + i, &id);

			assert_int_equal(tree_set(copy, leaf * FANOUT + i, s, &id), 0);
		}
	}
	return copy;
}

/* Rounds of changes, each upon what the one before made; every page is looked at. */
static void rounds_of_changes(uint64_t chunks, unsigned int changes, uint64_t seed)
{
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct tree *parent, *model, *said;
	struct chunk_id root, want;
	struct store *fault;
	uint64_t state = seed;

	r = repo_fixture_memory(&fault);
	assert_int_equal(tree_new(chunks, &parent), 0);
	root = tree_store(r, parent);
	for (unsigned int round = 0; round < 5; round++) {
		struct page_sink sink = page_sink_new(r);
		struct repo_tree q = { r, NULL, &root, page_store, &sink, NULL };
		struct repo_tree_result made;
		struct err e = { 0 };

		model = tree_copy(parent);
		assert_int_equal(tree_new(chunks, &said), 0);
		assert_int_equal(tree_set_run(said, 0, chunks, CHUNK_SAME), 0);
		for (unsigned int i = 0; i < changes; i++)
			change_at_random(said, model, parent, &state);
		q.said = said;
		assert_int_equal(repo_tree_make(&q, &made, &e), 0);
		page_sink_done(&sink, r);
		assert_int_equal(tree_emit(model, page_must_be_there, r, &want), 0);
		assert_memory_equal(&made.root, &want, sizeof(want));
		assert_int_equal(made.data, (int64_t)tree_count(model, CHUNK_DATA) -
						    (int64_t)tree_count(parent, CHUNK_DATA));
		root = made.root;
		tree_free(said);
		tree_free(parent);
		parent = model;
	}
	tree_free(parent);
}

static void random_changes_to_trees_of_one_page(void **state)
{
	rounds_of_changes(1, 2, 11);
	rounds_of_changes(77, 30, 12);
	rounds_of_changes(FANOUT, 300, 13);
}

static void random_changes_to_trees_of_two_levels(void **state)
{
	rounds_of_changes(FANOUT + 1, 50, 21);
	rounds_of_changes(FANOUT * 9, 40, 22);
	rounds_of_changes(FANOUT * 40 + 17, 25, 23);
}

static void random_changes_to_trees_of_three_levels(void **state)
{
	rounds_of_changes(FANOUT * FANOUT + 1, 20, 31);
	rounds_of_changes(FANOUT * FANOUT * 2 + 5, 30, 32);
}

/* ---- what is read, what is refused -------------------------------------------------------------- */

/* A parent of three levels with data all over, stored. */
static struct chunk_id big_parent(struct repo *r, uint64_t chunks)
{
	struct tree *t;
	struct chunk_id root;
	uint64_t state = 5;

	assert_int_equal(tree_new(chunks, &t), 0);
	for (uint64_t i = 0; i < chunks; i += FANOUT * 100 + 3) {
		struct chunk_id id = random_id(&state);

		assert_int_equal(tree_set(t, i, CHUNK_DATA, &id), 0);
	}
	root = tree_store(r, t);
	tree_free(t);
	return root;
}

static void only_pages_on_the_way_to_a_change_are_read_and_made(void **state)
{
	const uint64_t chunks = FANOUT * FANOUT * 2;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct store *fault;
	struct chunk_id root, id = { { 1 } };
	struct repo_tree_result made;
	struct page_sink sink;
	struct repo_tree q;
	struct tree *said;
	struct err e = { 0 };

	r = repo_fixture_memory(&fault);
	root = big_parent(r, chunks);
	assert_int_equal(tree_new(chunks, &said), 0);
	assert_int_equal(tree_set_run(said, 0, chunks, CHUNK_SAME), 0);
	sink = page_sink_new(r);
	q = (struct repo_tree){ r, said, &root, page_store, &sink, NULL };
	assert_int_equal(repo_tree_make(&q, &made, &e), 0);
	assert_memory_equal(&made.root, &root, sizeof(root));
	assert_int_equal(made.pages_read, 0);
	assert_int_equal(sink.pages, 0);

	assert_int_equal(tree_set(said, FANOUT * 100 + 4, CHUNK_DATA, &id), 0);
	assert_int_equal(repo_tree_make(&q, &made, &e), 0);
	assert_int_equal(made.pages_read, 3);
	assert_int_equal(sink.pages, 3);
	assert_int_equal(made.data, 1);
	page_sink_done(&sink, r);
	tree_free(said);
}

static void same_without_a_parent_is_refused(void **state)
{
	struct repo_tree_result made;
	struct repo_tree q = { 0 };
	struct tree *said;
	struct err e = { 0 };

	assert_int_equal(tree_new(9, &said), 0);
	assert_int_equal(tree_set_run(said, 3, 1, CHUNK_SAME), 0);
	q.said = said;
	assert_int_equal(repo_tree_make(&q, &made, &e), -EBADMSG);
	tree_free(said);
}

static void a_parent_whose_page_is_missing_is_refused(void **state)
{
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct chunk_id root = { { 9 } };
	struct repo_tree_result made;
	struct repo_tree q = { 0 };
	struct store *fault;
	struct tree *said;
	struct err e = { 0 };

	r = repo_fixture_memory(&fault);
	assert_int_equal(tree_new(9, &said), 0);
	assert_int_equal(tree_set_run(said, 3, 1, CHUNK_SAME), 0);
	q = (struct repo_tree){ .repo = r, .said = said, .parent = &root };
	assert_int_equal(repo_tree_make(&q, &made, &e), -EBADMSG);
	assert_int_equal(e.code, -EBADMSG);
	tree_free(said);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_changes_to_trees_of_one_page),
		cmocka_unit_test(random_changes_to_trees_of_two_levels),
		cmocka_unit_test(random_changes_to_trees_of_three_levels),
		cmocka_unit_test(only_pages_on_the_way_to_a_change_are_read_and_made),
		cmocka_unit_test(same_without_a_parent_is_refused),
		cmocka_unit_test(a_parent_whose_page_is_missing_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
