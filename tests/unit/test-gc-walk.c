/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What images need (lib/repo/gc_walk.c), however many names are looked up together. */
#include "tests/unit/gc-fixture.h"

#define BATCHES_MAX 40u

/* Half of it is in several images, as chunks and as pages. */
static void images_new(const struct scene *s)
{
	static const unsigned int seeds[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1, 2, 3 };
	uint8_t hash[REPO_NAME_HASH];

	for (size_t i = 0; i < 5; i++) {
		capture(s, seeds + i, ARRAY_SIZE(seeds) - i, SCENE_T0 - (9 - i) * SCENE_HOUR, hash);
	}
}

static void walk(struct repo *r, size_t batch, struct gc_view *ret)
{
	struct err e = { 0 };

	assert_int_equal(view_at(r, SCENE_T0, ret, &e), 0);
	ret->batch = batch;
	if (gc_view_walk(ret, NULL, NULL, NULL, &e) < 0)
		fail_msg("%zu at once: %s", batch, e.text);
}

static void assert_chose_the_same(const struct repo *r, const struct gc_view *a,
				  const struct gc_view *b)
{
	assert_int_equal(a->chosen, b->chosen);
	assert_int_equal(a->walked, b->walked);
	assert_int_equal(a->n_packs, b->n_packs);
	for (uint64_t i = 0; i < repo_index_entries(r->index); i++)
		assert_int_equal(gc_view_is_live(a, i), gc_view_is_live(b, i));
	for (size_t i = 0; i < a->n_packs; i++) {
		assert_int_equal(a->packs[i].live, b->packs[i].live);
		assert_int_equal(a->packs[i].live_bytes, b->packs[i].live_bytes);
		assert_int_equal(a->packs[i].first_use, b->packs[i].first_use);
	}
}

static void the_same_is_chosen_however_many_names_are_looked_up_together(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_new(encrypted);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		struct gc_view all;

		images_new(&s);
		walk(r, 0, &all);
		assert_int_equal(all.walked, 5);
		assert_true(all.chosen > 12);
		for (size_t batch = 1; batch < BATCHES_MAX; batch++) {
			struct gc_view v;

			walk(r, batch, &v);
			assert_chose_the_same(r, &all, &v);
			gc_view_done(&v);
		}
		gc_view_done(&all);
	}
}

static int count_live_chunk(void *ctx, uint64_t ordinal, uint32_t pack,
			    const struct repo_entry *entry)
{
	const struct gc_view *v = ctx;
	const bool page = le32_get(entry->plain_len) & REPO_ENTRY_PAGE;
	unsigned int seed;
	bool needed = page;

	(void)pack;
	if (!gc_view_is_live(v, ordinal)) {
		assert_false(gc_view_is_newest(v, ordinal));
		return 0;
	}
	/* the newest image, the last one, has chunks 5 to 12 and 1 to 3; the first one all, so only 4 is not needed */
	for (seed = 1; seed <= 12 && !page; seed++) {
		uint8_t plain[SCENE_CHUNK];
		struct chunk_id id, name;

		scene_plain(seed, plain);
		chunk_id_of(plain, sizeof(plain), &id);
		crypt_name(v->repo->crypt, &id, &name);
		if (!memcmp(&name, &entry->name, sizeof(name)))
			needed = seed != 4;
	}
	if (!page)
		assert_int_equal(gc_view_is_newest(v, ordinal), needed);
	return 0;
}

/* Whatever the batch: what the newest image needs, all of it and nothing else, also what older ones need too. */
static void what_the_newest_image_needs_is_known(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_new(encrypted);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);

		images_new(&s);
		for (size_t batch = 0; batch < BATCHES_MAX; batch += 3) {
			uint64_t chunks = 0;
			struct err e = { 0 };
			struct gc_view v;

			walk(r, batch, &v);
			assert_int_equal(repo_index_each(r->index, count_live_chunk, &v, &e), 0);
			for (size_t i = 0; i < v.n_packs; i++)
				chunks += v.packs[i].newest.chunks;
			assert_int_equal(chunks, 11);
			gc_view_done(&v);
		}
	}
}

struct first_pack {
	char name[STORE_NAME_MAX + 1];
};

static int on_pack(void *ctx, const char *name, uint64_t size)
{
	struct first_pack *p = ctx;

	if (!*p->name)
		snprintf(p->name, sizeof(p->name), "%s", name);
	return size ? 0 : -EINVAL;
}

/* Also when it is found out long after that image was walked. */
static void what_is_missing_is_told_with_an_image_that_needs_it(void **state)
{
	for (size_t batch = 0; batch < BATCHES_MAX; batch += 3) {
		_cleanup_scene_ struct scene s = scene_new(false);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		struct first_pack pack = { 0 };
		struct err e = { 0 };
		struct gc_view v;

		images_new(&s);
		assert_int_equal(store_list(s.memory, "packs/", on_pack, &pack, NULL), 0);
		assert_int_equal(store_del(s.memory, pack.name, NULL), 0);
		assert_int_equal(view_at(r, SCENE_T0, &v, &e), 0);
		v.batch = batch;
		assert_int_equal(gc_view_walk(&v, NULL, NULL, NULL, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "/2023-11-14T"));
		assert_non_null(strstr(e.text, "which is in no pack that is there"));
		gc_view_done(&v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_is_chosen_however_many_names_are_looked_up_together),
		cmocka_unit_test(what_the_newest_image_needs_is_known),
		cmocka_unit_test(what_is_missing_is_told_with_an_image_that_needs_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
