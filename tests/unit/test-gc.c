// SPDX-License-Identifier: GPL-2.0-or-later
/* Forgetting and pruning (lib/repo/gc): killed at every change, two at a time, beside a writer. */
#include "tests/unit/gc-fixture.h"

/* ---- the script: two images are forgotten one after the other, until nothing of them is left ------------ */

#define STEPS 9
#define END   (SCENE_T0 + 14 * DAY)

static int script_step(struct repo *r, const struct cast *c, int step, struct err *e)
{
	switch (step) {
	case 0:
		return gc_forget(r, &c->a, 1, SCENE_T0, e);
	case 1: /* nothing is old enough */
		return prune_at(r, SCENE_T0 + SCENE_HOUR, NULL, e);
	case 2: /* image A goes, its pack is copied and marked */
		return prune_at(r, SCENE_T0 + 2 * DAY, NULL, e);
	case 3:
		return gc_forget(r, &c->c, 1, SCENE_T0 + 2 * DAY, e);
	case 4: /* A's pack goes; image C goes, its pack is marked */
		return prune_at(r, SCENE_T0 + 4 * DAY, NULL, e);
	case 5: /* C's pack goes */
		return prune_at(r, SCENE_T0 + 6 * DAY, NULL, e);
	default: /* marks go */
		return prune_at(r, SCENE_T0 + (uint64_t)(2 * step - 4) * DAY, NULL, e);
	}
}

static const size_t images_after[STEPS] = { 3, 3, 2, 2, 1, 1, 1, 1, 1 };

static void test_script(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_new(encrypted);
		const struct cast c = cast_new(&s);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		struct err e = { 0 };

		for (int i = 0; i < STEPS; i++) {
			if (script_step(r, &c, i, &e) < 0)
				fail_msg("step %d: %s", i, e.text);
			assert_int_equal(scene_verify(&s), images_after[i]);
		}
		settle(&s, END);
		assert_int_equal(scene_verify(&s), 1);
		assert_int_equal(scene_count(&s, "packs/"), 2);
	}
}

static void test_result(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	const struct cast c = cast_new(&s);
	struct gc_result g;

	forget(&s, c.a, SCENE_T0);
	prune(&s, SCENE_T0 + SCENE_HOUR, &g);
	assert_int_equal(g.images, 3);
	assert_int_equal(g.images_waiting, 1);
	assert_int_equal(g.packs, 3);
	assert_int_equal(g.packs_marked + g.packs_deleted + g.images_deleted, 0);
	assert_int_equal(g.next_ns, SCENE_T0 + GRACE + GC_CLOCK_SLACK_NS);
	prune(&s, SCENE_T0 + 2 * DAY, &g);
	assert_int_equal(g.images, 2);
	assert_int_equal(g.images_deleted, 1);
	assert_int_equal(g.packs_repacked, 1);
	assert_int_equal(g.packs_marked, 1);
	assert_true(g.bytes_copied > 0);
	prune(&s, SCENE_T0 + 4 * DAY, &g);
	assert_int_equal(g.packs_deleted, 1);
	assert_int_equal(g.packs_waiting, 0);
}

/* ---- killed anywhere --------------------------------------------------------------------------------- */

static const struct script forgetting = { cast_new, script_step, images_after, STEPS, END };

static void test_killed(void **state)
{
	static const enum store_fault faults[] = { STORE_FAULT_DEAD, STORE_FAULT_DEAD_AFTER,
						   STORE_FAULT_FAIL, STORE_FAULT_LOST_REPLY };

	for (size_t f = 0; f < ARRAY_SIZE(faults); f++)
		assert_true(killed_anywhere(&forgetting, false, faults[f]) > 30);
	killed_anywhere(&forgetting, true, STORE_FAULT_DEAD_AFTER);
}

/* ---- two at a time ----------------------------------------------------------------------------------- */

struct second {
	const struct scene *scene;
	uint64_t at, now_ns;
	bool ran;
};

static void second_prune(void *ctx, uint64_t change)
{
	struct second *x = ctx;

	if (change != x->at || x->ran)
		return;
	x->ran = true;
	prune(x->scene, x->now_ns, NULL);
	scene_verify(x->scene);
}

/* At change @at of the prune in step @step another one runs from its beginning to its end. */
static bool run_interleaved(int step, uint64_t at, uint64_t later_ns)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	const struct cast c = cast_new(&s);
	struct scene_store *hooked = scene_store_new(s.memory);
	_cleanup_(repo_freep) struct repo *r = scene_open_on(&s, &hooked->store);
	struct second x = { .scene = &s, .at = at };
	struct err e = { 0 };

	for (int i = 0; i < STEPS; i++) {
		int n;

		if (i == step) {
			x.now_ns = SCENE_T0 +
				   (i == 2   ? 2 * DAY
				    : i == 4 ? 4 * DAY
					     : 6 * DAY) +
				   later_ns;
			hooked->changes = 0;
			hooked->hook = second_prune;
			hooked->ctx = &x;
		}
		n = script_step(r, &c, i, &e);
		hooked->hook = NULL;
		if (n == -EAGAIN)
			n = script_step(r, &c, i, &e);
		if (n < 0)
			fail_msg("change %d, step %d: %s", (int)at, i, e.text);
		assert_int_equal(scene_verify(&s), images_after[i]);
	}
	settle(&s, END);
	assert_int_equal(scene_verify(&s), 1);
	return x.ran;
}

static void test_two_prunes(void **state)
{
	static const int steps[] = { 2, 4, 5 };

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		/* its note comes first: it has seen nothing yet */
		for (uint64_t at = 1; run_interleaved(steps[i], at, 0); at++)
			;
		for (uint64_t at = 1; run_interleaved(steps[i], at, 23 * SCENE_HOUR); at++)
			;
	}
}

/* Two runs each mark what the other one prefers: neither copy is lost. */
static void test_two_favourites(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	_cleanup_(repo_freep) struct repo *one = scene_open(&s), *two = scene_open(&s);
	uint8_t hash[REPO_NAME_HASH];
	struct gc_object mark = { .kind = GC_MARK, .reason = GC_REASON_DEAD, .time_ns = SCENE_T0 };
	struct gc_view v;
	struct err e = { 0 };

	/* the same chunks twice: both writers loaded before either wrote */
	assert_int_equal(repo_load_index(one, &e), 0);
	assert_int_equal(repo_load_index(two, &e), 0);
	assert_int_equal(scene_capture(one, seeds_a, 8, SCENE_T0 - 2, hash), 0);
	assert_int_equal(scene_capture(two, (const unsigned int[]){ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, 9,
				       SCENE_T0 - 1, hash),
			 0);
	assert_int_equal(view_at(one, SCENE_T0, &v, &e), 0);
	assert_int_equal(v.n_packs, 2);
	for (size_t i = 0; i < v.n_packs; i++) {
		memcpy(mark.hash, v.packs[i].hash, sizeof(mark.hash));
		assert_int_equal(gc_object_put(s.memory, one->format.id, NULL, &mark, &e), 0);
	}
	gc_view_done(&v);
	assert_int_equal(scene_verify(&s), 2);
	prune(&s, SCENE_T0 + DAY, NULL);
	assert_int_equal(scene_verify(&s), 2);
	prune(&s, SCENE_T0 + 2 * DAY, NULL);
	assert_int_equal(scene_verify(&s), 2);
	settle(&s, END);
	assert_int_equal(scene_verify(&s), 2);
}

/* ---- beside a writer --------------------------------------------------------------------------------- */

static void test_writer(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_new(encrypted);
		const struct cast c = cast_new(&s);
		_cleanup_(repo_freep) struct repo *early = scene_open(&s), *late = scene_open(&s);
		struct gc_result g;
		struct err e = { 0 };

		forget(&s, c.a, SCENE_T0);
		forget(&s, c.c, SCENE_T0);
		assert_int_equal(repo_load_index(early, &e), 0);
		prune(&s, SCENE_T0 + 2 * DAY, &g);
		assert_int_equal(g.packs_marked, 2);
		assert_int_equal(repo_load_index(late, &e), 0);
		/* all that it needs is marked now; it does not know, and is within its time */
		assert_int_equal(scene_capture(early, seeds_a, 8, SCENE_T0 + 2 * DAY, NULL), 0);
		assert_int_equal(scene_verify(&s), 2);
		/* this one knows, and stores them anew */
		assert_int_equal(scene_capture(late, seeds_c, 3, SCENE_T0 + 2 * DAY + 1, NULL), 0);
		assert_int_equal(scene_verify(&s), 3);
		prune(&s, SCENE_T0 + 2 * DAY + SCENE_HOUR, &g);
		assert_int_equal(g.packs_deleted, 0);
		assert_int_equal(scene_verify(&s), 3);
		prune(&s, SCENE_T0 + 4 * DAY, &g);
		assert_int_equal(g.packs_deleted, 2);
		assert_int_equal(scene_verify(&s), 3);
		settle(&s, END);
		assert_int_equal(scene_verify(&s), 3);
	}
}

/* What a killed writer left goes, and what a slow one is about to name does not. */
static void test_strays(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	_cleanup_(pack_freep) struct pack *pack = NULL;
	struct scene_pack p = { .repo = r };
	struct chunk_id root;
	struct gc_result g;
	struct err e = { 0 };

	cast_new(&s);
	assert_int_equal(repo_load_index(r, &e), 0);
	assert_int_equal(pack_new(r->store, r->format.id, NULL, &pack, &e), 0);
	p.pack = pack;
	assert_int_equal(scene_fill(&p, (const unsigned int[]){ 31, 32 }, 2, &root), 0);
	assert_int_equal(scene_put_pack(&p, false, &e), 0);
	prune(&s, SCENE_T0, &g);
	assert_int_equal(g.packs_marked, 1);
	prune(&s, SCENE_T0 + SCENE_HOUR, &g);
	assert_int_equal(g.packs_deleted, 0);
	prune(&s, SCENE_T0 + 2 * DAY, &g);
	assert_int_equal(g.packs_deleted, 1);
	assert_int_equal(scene_count(&s, "gc/"), 0);
	assert_int_equal(scene_verify(&s), 3);
}

static void test_stray_gets_named(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	struct scene_store *hooked = scene_store_new(s.memory);
	_cleanup_(repo_freep) struct repo *r = scene_open_on(&s, &hooked->store);
	struct second x = { .scene = &s, .at = 1, .now_ns = SCENE_T0 };
	struct err e = { 0 };

	/* a prune between the writer's pack and its index file */
	assert_int_equal(repo_load_index(r, &e), 0);
	hooked->hook = second_prune;
	hooked->ctx = &x;
	assert_int_equal(scene_capture(r, seeds_a, 8, SCENE_T0 - 1, NULL), 0);
	hooked->hook = NULL;
	assert_true(x.ran);
	assert_int_equal(scene_count(&s, "gc/"), 1);
	prune(&s, SCENE_T0 + 2 * DAY, NULL);
	assert_int_equal(scene_verify(&s), 1);
	assert_int_equal(scene_count(&s, "gc/"), 0);
	assert_int_equal(scene_count(&s, "packs/"), 1);
}

/* ---- taking back, refusing --------------------------------------------------------------------------- */

static void test_unforget(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	const struct cast c = cast_new(&s);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	uint8_t none[REPO_NAME_HASH] = { 0 };
	struct err e = { 0 };

	forget(&s, c.a, SCENE_T0);
	prune(&s, SCENE_T0 + SCENE_HOUR, NULL);
	assert_int_equal(gc_unforget(r, c.a, true, &e), 0);
	prune(&s, SCENE_T0 + 3 * DAY, NULL);
	assert_int_equal(scene_verify(&s), 3);
	assert_int_equal(gc_forget(r, &none, 1, 0, &e), -ENOENT);
	assert_int_equal(gc_unforget(r, none, true, &e), -ENOENT);
	assert_int_equal(scene_count(&s, "gc/"), 0);
}

static int flip_first(void *ctx, const char *name, uint64_t size)
{
	snprintf(ctx, STORE_NAME_MAX + 1, "%s", name);
	return 0;
}

/* Nothing is deleted on a guess. */
static void test_refuses(void **state)
{
	static const char *const folders[] = { "index/", "images/", "packs/" };
	struct err e = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		_cleanup_scene_ struct scene s = scene_new(false);
		const struct cast c = cast_new(&s);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		char name[STORE_NAME_MAX + 1];
		size_t images = scene_count(&s, "images/");

		forget(&s, c.a, SCENE_T0);
		assert_int_equal(store_list(s.memory, folders[i], flip_first, name, &e), 0);
		if (i < 2) {
			assert_int_equal(store_memory_flip(s.memory, name, 200, 1), 0);
		} else {
			assert_int_equal(store_del(s.memory, name, &e), 0);
		}
		if (i == 1 && strstr(name, "images/")) {
			char hex[2 * REPO_NAME_HASH + 1];

			/* a forgotten one may be damaged */
			if (strstr(name, hex_encode(c.a, sizeof(c.a), hex)))
				continue;
		}
		/* a pack of A alone may be gone */
		if (prune_at(r, SCENE_T0 + 2 * DAY, NULL, &e) < 0) {
			assert_int_equal(e.code, -EBADMSG);
			assert_int_equal(scene_count(&s, "images/"), images);
		} else {
			assert_int_equal(i, 2);
		}
	}
}

static void test_clock(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	const struct cast c = cast_new(&s);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	struct err e = { 0 };

	assert_int_equal(prune_at(r, SCENE_T0 - 2 * SCENE_HOUR, NULL, &e), -ETIME);
	forget(&s, c.a, SCENE_T0 + SCENE_HOUR);
	assert_int_equal(prune_at(r, SCENE_T0, NULL, &e), -ETIME);
	assert_non_null(strstr(e.text, "3600 s in the future"));
}

static void test_dry_run(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	const struct cast c = cast_new(&s);
	struct scene_store *counted = scene_store_new(s.memory);
	_cleanup_(repo_freep) struct repo *r = scene_open_on(&s, &counted->store);
	struct gc_settings g = settings_at(SCENE_T0 + 2 * DAY);
	struct gc_result res;
	struct err e = { 0 };

	forget(&s, c.c, SCENE_T0);
	g.dry_run = true;
	assert_int_equal(gc_prune(r, &g, &res, &e), 0);
	assert_int_equal(counted->changes, 0);
	assert_int_equal(res.packs_marked, 1);
	assert_int_equal(res.images_deleted, 1);
	assert_int_equal(scene_verify(&s), 3);
}

/* With a grace of 0 one call does it all. */
static void test_at_once(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_new(encrypted);
		const struct cast c = cast_new(&s);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		struct gc_settings g = settings_at(SCENE_T0);
		struct gc_result res;
		struct err e = { 0 };

		forget(&s, c.a, SCENE_T0);
		forget(&s, c.c, SCENE_T0);
		g.grace_ns = 0;
		if (gc_prune(r, &g, &res, &e) < 0)
			fail_msg("%s", e.text);
		assert_int_equal(res.images_deleted, 2);
		assert_int_equal(res.packs_deleted, 2);
		assert_int_equal(scene_count(&s, "gc/"), 0);
		assert_int_equal(scene_count(&s, "packs/"), 2);
		assert_int_equal(scene_verify(&s), 1);
	}
}

/* Damage is not copied into a pack that looks well. */
static void test_repack_of_damage(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	const struct cast c = cast_new(&s);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	char name[PACK_NAME_SIZE];
	struct repo_place p;
	struct chunk_id id;
	struct gc_result g;
	uint8_t plain[SCENE_CHUNK];
	struct err e = { 0 };

	assert_int_equal(repo_load_index(r, &e), 0);
	scene_plain(2, plain);
	chunk_id_of(plain, sizeof(plain), &id);
	assert_int_equal(repo_find(r, &id, REPO_KIND_CHUNK, &p, &e), 0);
	pack_name(repo_index_pack(r->index, p.pack)->hash, name);
	assert_int_equal(store_memory_flip(s.memory, name, le32_get(p.entry.offset) + 40, 4), 0);
	forget(&s, c.a, SCENE_T0);
	prune(&s, SCENE_T0 + 2 * DAY, &g);
	assert_int_equal(g.damaged, 1);
	assert_non_null(strstr(g.first_damage, name));
	assert_int_equal(g.packs_marked, 0);
	prune(&s, SCENE_T0 + 9 * DAY, &g);
	assert_int_equal(g.packs_deleted, 0);
}

/* ---- notes ------------------------------------------------------------------------------------------- */

static void test_notes(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_new(encrypted);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		struct gc_object o = { .kind = GC_MARK,
				       .reason = GC_REASON_REPACKED,
				       .hash = { 1, 2, 3 },
				       .time_ns = 4711,
				       .boot = { 9, 8 },
				       .boot_ns = 4712 };
		struct gc_object got = { .kind = GC_MARK, .hash = { 1, 2, 3 } };
		char name[GC_OBJECT_NAME_SIZE];
		struct err e = { 0 };
		uint64_t size;

		assert_int_equal(gc_object_put(s.memory, r->format.id, r->crypt, &o, &e), 0);
		assert_int_equal(gc_object_put(s.memory, r->format.id, r->crypt, &o, &e), 0);
		assert_int_equal(gc_object_get(s.memory, r->format.id, r->crypt, &got, &e), 0);
		assert_int_equal(got.reason, GC_REASON_REPACKED);
		assert_int_equal(got.time_ns, 4711);
		assert_memory_equal(got.boot, o.boot, sizeof(o.boot));
		assert_int_equal(got.boot_ns, 4712);
		gc_object_name(o.kind, o.hash, name);
		assert_int_equal(store_size(s.memory, name, &size, &e), 0);
		for (uint64_t i = 0; i < size; i++) {
			for (unsigned int bit = 0; bit < 8; bit++) {
				int n;

				store_memory_flip(s.memory, name, i, (uint8_t)(1u << bit));
				n = gc_object_get(s.memory, r->format.id, r->crypt, &got, &e);
				assert_true(n == -EBADMSG || n == -ENOTSUP);
				store_memory_flip(s.memory, name, i, (uint8_t)(1u << bit));
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_notes),
		cmocka_unit_test(test_script),
		cmocka_unit_test(test_result),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_two_prunes),
		cmocka_unit_test(test_two_favourites),
		cmocka_unit_test(test_writer),
		cmocka_unit_test(test_strays),
		cmocka_unit_test(test_stray_gets_named),
		cmocka_unit_test(test_unforget),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_dry_run),
		cmocka_unit_test(test_at_once),
		cmocka_unit_test(test_repack_of_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
