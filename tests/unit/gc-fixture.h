/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gc-fixture - images that are forgotten and pruned, and a script of that which is killed at every change. */
#pragma once

#include "lib/repo/gc.h"
#include "tests/unit/repo-scene.h"

#define DAY   (24 * SCENE_HOUR)
#define GRACE GC_GRACE_DEFAULT_NS

static const unsigned int seeds_a[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
static const unsigned int seeds_b[] = { 1, 2, 3, 11, 12 };
static const unsigned int seeds_c[] = { 21, 22, 23 };

/* A, B (which shares three chunks with A), C, by one writer each. */
struct cast {
	uint8_t a[REPO_NAME_HASH], b[REPO_NAME_HASH], c[REPO_NAME_HASH];
};

static inline void capture(const struct scene *s, const unsigned int *seeds, size_t n,
			   uint64_t time_ns, uint8_t *ret_hash)
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	struct err e = { 0 };

	assert_int_equal(repo_load_index(r, &e), 0);
	assert_int_equal(scene_capture(r, seeds, n, time_ns, ret_hash), 0);
}

static inline struct cast cast_new(const struct scene *s)
{
	struct cast c;

	capture(s, seeds_a, ARRAY_SIZE(seeds_a), SCENE_T0 - 3 * SCENE_HOUR, c.a);
	capture(s, seeds_b, ARRAY_SIZE(seeds_b), SCENE_T0 - 2 * SCENE_HOUR, c.b);
	capture(s, seeds_c, ARRAY_SIZE(seeds_c), SCENE_T0 - 1 * SCENE_HOUR, c.c);
	return c;
}

/* How many small packs are joined; 0: as many as by default. */
static unsigned int small_many;
/* Packs from that size on are gathered; 0: GC_SMALL_PACK. */
static uint64_t small_pack;

static inline struct gc_settings settings_at(uint64_t now_ns)
{
	return (struct gc_settings){ .grace_ns = GRACE,
				     .small_many = small_many,
				     .small_pack = small_pack,
				     .repack_dead_percent = GC_REPACK_DEAD_PERCENT_DEFAULT,
				     .now_ns = now_ns };
}

/* How far the clock of who prunes is off. */
static int64_t skew_ns;

static inline int prune_at(struct repo *r, uint64_t now_ns, struct gc_result *ret, struct err *e)
{
	const struct gc_settings g = settings_at(now_ns + (uint64_t)skew_ns);
	struct gc_result ignored;

	return gc_prune(r, &g, ret ? ret : &ignored, e);
}

static inline void prune(const struct scene *s, uint64_t now_ns, struct gc_result *ret)
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	struct err e = { 0 };

	if (prune_at(r, now_ns, ret, &e) < 0)
		fail_msg("%s", e.text);
}

static inline void forget(const struct scene *s, const uint8_t hash[REPO_NAME_HASH],
			  uint64_t now_ns)
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	struct err e = { 0 };

	assert_int_equal(gc_forget(r, (const uint8_t(*)[REPO_NAME_HASH])hash, 1, now_ns, &e), 0);
}

static inline int view_at(struct repo *r, uint64_t now_ns, struct gc_view *v, struct err *e)
{
	struct gc_clock clock;

	gc_clock_read(&clock, now_ns);
	return gc_view_load(r, &clock, GRACE, v, e);
}

/* Prune until there is nothing left to do, and then every pack is needed and no note is left. */
static inline void settle(const struct scene *s, uint64_t now_ns)
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	struct gc_view v;
	struct err e = { 0 };

	for (int i = 0; i < 8; i++)
		prune(s, now_ns += 3 * DAY, NULL);
	assert_int_equal(scene_count(s, "gc/"), 0);
	assert_int_equal(view_at(r, now_ns, &v, &e), 0);
	assert_int_equal(gc_view_walk(&v, NULL, NULL, NULL, &e), 0);
	for (size_t i = 0; i < v.n_packs; i++) {
		assert_true(v.packs[i].stored && v.packs[i].indexed);
		assert_true(v.packs[i].live > 0);
	}
	gc_view_done(&v);
}

/* ---- killed anywhere --------------------------------------------------------------------------------- */

struct script {
	struct cast (*begin)(const struct scene *s);
	int (*step)(struct repo *r, const struct cast *c, int step, struct err *e);
	const size_t *images_after;
	int steps;
	uint64_t end_ns; /* later than any step */
};

/*
 * The script with @fault at change @at. Returns false when there was no such change. What was interrupted is resumed here, or
 * on another machine, whose clock is four minutes off, one way or the other.
 */
static inline bool run_killed(const struct script *script, bool encrypted, uint64_t at,
			      enum store_fault fault)
{
	_cleanup_scene_ struct scene s = scene_new(encrypted);
	const struct cast c = script->begin(&s);
	struct store *faulty = NULL;
	_cleanup_(repo_freep) struct repo *here = NULL, *elsewhere = scene_open(&s);
	struct repo *r;
	struct store_counts counts;
	struct err e = { 0 };
	bool hit = false;

	assert_int_equal(store_fault_new(&scene_store_new(s.memory)->store, &faulty), 0);
	here = scene_open_on(&s, faulty);
	r = here;
	store_fault_at(faulty, at, fault, -EIO);
	for (int i = 0; i < script->steps; i++) {
		int n = script->step(r, &c, i, &e);

		if (n < 0) {
			assert_false(hit);
			hit = true;
			counts = store_fault_counts(faulty);
			store_fault_at(faulty, 0, STORE_FAULT_NONE, 0);
			/* before A or C is deleted all that there was is whole; later all that is left */
			scene_verify(&s);
			if (at % 3) {
				r = elsewhere;
				skew_ns = (at % 3 == 1 ? 240 : -240) * INT64_C(1000000000);
			}
			n = script->step(r, &c, i, &e);
		}
		if (n < 0)
			fail_msg("change %d, step %d: %s", (int)at, i, e.text);
		assert_int_equal(scene_verify(&s), script->images_after[i]);
	}
	/* that a prune's own note cannot be deleted does not fail it */
	if (!hit)
		counts = store_fault_counts(faulty);
	store_fault_at(faulty, 0, STORE_FAULT_NONE, 0);
	skew_ns = 0;
	settle(&s, script->end_ns);
	assert_int_equal(scene_verify(&s), script->images_after[script->steps - 1]);
	return counts.puts + counts.dels > at;
}

static inline uint64_t killed_anywhere(const struct script *script, bool encrypted,
				       enum store_fault fault)
{
	uint64_t at = 0;

	while (run_killed(script, encrypted, at, fault))
		at++;
	print_message("%u changes\n", (unsigned int)at);
	return at;
}
