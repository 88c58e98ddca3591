// SPDX-License-Identifier: GPL-2.0-or-later
/* Small packs are joined (lib/repo/gc_plan): in order, so that their number stays bounded, killed at every change. */
#include "tests/unit/gc-fixture.h"

#define JOIN_IMAGES 6
#define JOIN_SEED   100u

/* Image number @k: six chunks that all have, and one of its own. */
static void capture_number(const struct scene *s, unsigned int k, uint64_t time_ns, uint8_t *hash)
{
	const unsigned int seeds[] = { 1, 2, 3, 4, 5, 6, JOIN_SEED + k };

	capture(s, seeds, ARRAY_SIZE(seeds), time_ns, hash);
}

/* Made in an order that is not that of their times. */
static struct cast join_begin(const struct scene *s)
{
	struct cast c = { 0 };

	for (unsigned int i = 0; i < JOIN_IMAGES; i++) {
		const unsigned int k = i * 5 % JOIN_IMAGES;

		capture_number(s, k, SCENE_T0 - (JOIN_IMAGES - k) * SCENE_HOUR, k == 0 ? c.a : c.b);
	}
	return c;
}

static int join_step(struct repo *r, const struct cast *c, int step, struct err *e)
{
	switch (step) {
	case 0: /* all are copied and marked */
		return prune_at(r, SCENE_T0 + SCENE_HOUR, NULL, e);
	case 1:
		return gc_forget(r, &c->a, 1, SCENE_T0 + 2 * SCENE_HOUR, e);
	default: /* image A goes, and they; then the notes */
		return prune_at(r, SCENE_T0 + 2 * (uint64_t)(step - 1) * DAY, NULL, e);
	}
}

static const size_t join_images[] = { 6, 6, 5, 5, 5, 5 };
static const struct script joining = { join_begin, join_step, join_images, ARRAY_SIZE(join_images),
				       SCENE_T0 + 14 * DAY };

static void test_killed(void **state)
{
	static const enum store_fault faults[] = { STORE_FAULT_DEAD, STORE_FAULT_DEAD_AFTER,
						   STORE_FAULT_FAIL, STORE_FAULT_LOST_REPLY };

	small_many = 5;
	for (size_t f = 0; f < ARRAY_SIZE(faults); f++)
		assert_true(killed_anywhere(&joining, false, faults[f]) > 50);
	small_many = 0;
}

/* ---- what comes of it -------------------------------------------------------------------------------- */

struct mixed {
	uint32_t chunks[64], pages[64]; /* by pack of the index */
};

static int count_kinds(void *ctx, uint64_t ordinal, uint32_t pack, const struct repo_entry *entry)
{
	struct mixed *m = ctx;

	(void)ordinal;
	assert_true(pack < ARRAY_SIZE(m->chunks));
	if (le32_get(entry->plain_len) & REPO_ENTRY_PAGE) {
		m->pages[pack]++;
	} else {
		m->chunks[pack]++;
	}
	return 0;
}

/* Where the chunk that only image number @k has is. */
static struct repo_place place_of(struct repo *r, unsigned int k)
{
	uint8_t plain[SCENE_CHUNK];
	struct repo_place p = { 0 };
	struct chunk_id id;
	struct err e = { 0 };

	scene_plain(JOIN_SEED + k, plain);
	chunk_id_of(plain, sizeof(plain), &id);
	assert_int_equal(repo_find(r, &id, REPO_KIND_CHUNK, &p, &e), 0);
	return p;
}

static void test_order(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_new(encrypted);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		struct mixed m = { 0 };
		struct repo_place last;
		struct gc_result g;
		struct err e = { 0 };

		small_many = 7;
		join_begin(&s);
		prune(&s, SCENE_T0 + SCENE_HOUR, &g);
		assert_int_equal(g.packs_marked, 0);
		small_many = 6;
		prune(&s, SCENE_T0 + SCENE_HOUR, &g);
		assert_int_equal(g.packs_joined, 6);
		assert_int_equal(g.packs_marked, 6);
		prune(&s, SCENE_T0 + 2 * DAY, &g);
		assert_int_equal(g.packs_deleted, 6);
		assert_int_equal(scene_verify(&s), JOIN_IMAGES);
		/* one of pages, one of chunks */
		assert_int_equal(scene_count(&s, "packs/"), 2);
		assert_int_equal(repo_load_index(r, &e), 0);
		assert_int_equal(repo_index_each(r->index, count_kinds, &m, &e), 0);
		for (size_t i = 0; i < ARRAY_SIZE(m.pages); i++)
			assert_true(!m.pages[i] || !m.chunks[i]);
		/* what the newest image needs, then the rest from the oldest on */
		last = place_of(r, JOIN_IMAGES - 1);
		for (unsigned int k = 0; k < JOIN_IMAGES - 1; k++) {
			const struct repo_place p = place_of(r, k);

			assert_int_equal(p.pack, last.pack);
			assert_true(le32_get(p.entry.offset) > le32_get(last.entry.offset));
			last = p;
		}
		settle(&s, SCENE_T0 + 4 * DAY);
		small_many = 0;
	}
}

/* No more than was allowed is copied, of the oldest; nothing when nothing is to be copied. */
static void test_limits(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	struct gc_settings g = settings_at(SCENE_T0 + SCENE_HOUR);
	struct gc_object mark = { .kind = GC_MARK };
	struct repo_place p;
	struct gc_result res;
	struct err e = { 0 };

	join_begin(&s);
	g.small_many = 2;
	g.repack_dead_percent = 100;
	assert_int_equal(gc_prune(r, &g, &res, &e), 0);
	assert_int_equal(res.packs_marked, 0);
	g.repack_dead_percent = 99;
	g.max_repack_bytes = 1;
	assert_int_equal(gc_prune(r, &g, &res, &e), 0);
	assert_int_equal(res.packs_marked, 0);
	/* half of them, or so */
	g.max_repack_bytes = res.bytes * 2 / 3;
	assert_int_equal(gc_prune(r, &g, &res, &e), 0);
	assert_true(res.packs_joined >= 3 && res.packs_joined < JOIN_IMAGES);
	assert_int_equal(repo_load_index(r, &e), 0);
	p = place_of(r, JOIN_IMAGES - 1);
	memcpy(mark.hash, repo_index_pack(r->index, p.pack)->hash, sizeof(mark.hash));
	assert_int_equal(gc_object_get(s.memory, r->format.id, NULL, &mark, &e), -ENOENT);
	assert_int_equal(scene_verify(&s), JOIN_IMAGES);
}

/* Two months of increments, one each day, and a prune after each: all are kept, and few packs. */
static void test_chain(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	size_t most = 0, left;

	for (unsigned int day = 0; day < 60; day++) {
		capture_number(&s, day, SCENE_T0 + day * DAY, NULL);
		prune(&s, SCENE_T0 + day * DAY + SCENE_HOUR, NULL);
		left = scene_count(&s, "packs/");
		most = left > most ? left : most;
		if (day % 10 == 9)
			assert_int_equal(scene_verify(&s), day + 1);
	}
	print_message("%zu packs at most, %zu in the end\n", most, left);
	/* fewer than are joined, as many that wait for their grace period, and what they became */
	assert_true(most < 2 * GC_SMALL_MANY_DEFAULT + 2);
	settle(&s, SCENE_T0 + 61 * DAY);
	assert_int_equal(scene_verify(&s), 60);
	assert_true(scene_count(&s, "packs/") < GC_SMALL_MANY_DEFAULT);
}

/* With a grace of 0, too, it comes to an end. */
static void test_at_once(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(true);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	struct gc_settings g = settings_at(SCENE_T0);
	struct gc_result res;
	struct err e = { 0 };

	join_begin(&s);
	g.grace_ns = 0;
	g.small_many = 3;
	assert_int_equal(gc_prune(r, &g, &res, &e), 0);
	assert_int_equal(res.packs_joined, JOIN_IMAGES);
	assert_int_equal(res.packs_deleted, JOIN_IMAGES);
	assert_int_equal(scene_count(&s, "packs/"), 2);
	assert_int_equal(scene_count(&s, "gc/"), 0);
	assert_int_equal(scene_verify(&s), JOIN_IMAGES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),  cmocka_unit_test(test_limits),
		cmocka_unit_test(test_chain),  cmocka_unit_test(test_at_once),
		cmocka_unit_test(test_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
