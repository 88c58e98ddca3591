// SPDX-License-Identifier: GPL-2.0-or-later
/* A prune and a repair hinder each other (lib/repo/gc_turn), killed anywhere; how old a note is (lib/repo/gc_clock). */
#include "lib/base/io.h"
#include "lib/repo/gc_turn.h"
#include "lib/repo/repo_check.h"
#include "lib/repo/repo_repair.h"
#include "tests/unit/gc-fixture.h"

#define NOW (SCENE_T0 + 2 * DAY)

static int repair_at(struct repo *r, uint64_t now_ns, bool alone, struct err *e)
{
	const struct repo_repair_settings s = { .now_ns = now_ns, .alone = alone };
	struct repo_repair_result res;

	return repo_repair(r, &s, &res, e);
}

/* One image is to be deleted, and its pack, which has something that another one needs. */
static struct cast turn_begin(const struct scene *s)
{
	const struct cast c = cast_new(s);

	forget(s, c.a, SCENE_T0);
	return c;
}

static size_t objects(const struct scene *s)
{
	return scene_count(s, "packs/") + scene_count(s, "index/") + scene_count(s, "images/");
}

/* ---- one while the other is at work -------------------------------------------------------------------- */

struct intruder {
	const struct scene *scene;
	uint64_t at;
	bool repair, ran;
	int answer;
	size_t before, after;
};

static void intrude(void *ctx, uint64_t change)
{
	struct intruder *x = ctx;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct err e = { 0 };

	if (change != x->at || x->ran)
		return;
	x->ran = true;
	r = scene_open(x->scene);
	x->before = objects(x->scene);
	x->answer = x->repair ? repair_at(r, NOW, false, &e) : prune_at(r, NOW, NULL, &e);
	x->after = objects(x->scene);
}

/* At change @at of one the other is started. Returns false when there was no such change. */
static bool run_intruded(bool repair, uint64_t at)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	struct scene_store *hooked = scene_store_new(s.memory);
	_cleanup_(repo_freep) struct repo *r = scene_open_on(&s, &hooked->store);
	struct intruder x = { .scene = &s, .at = at, .repair = !repair };
	struct err e = { 0 };
	int n;

	turn_begin(&s);
	hooked->hook = intrude;
	hooked->ctx = &x;
	n = repair ? repair_at(r, NOW, false, &e) : prune_at(r, NOW, NULL, &e);
	if (n < 0)
		fail_msg("change %d: %s", (int)at, e.text);
	/* before the first change there is no note yet */
	if (x.ran && at) {
		assert_int_equal(x.answer, -EBUSY);
		assert_int_equal(x.before, x.after);
	} else if (x.ran) {
		assert_int_equal(x.answer, 0);
	}
	scene_verify(&s);
	settle(&s, NOW);
	assert_int_equal(scene_verify(&s), 2);
	return x.ran;
}

static void test_intruded(void **state)
{
	uint64_t at = 0;

	while (run_intruded(false, at))
		at++;
	assert_true(at > 4);
	for (at = 0; run_intruded(true, at);)
		at++;
	assert_true(at > 4);
}

/* Each has put its note before the other looked: both give up, and nothing is left of it. */
static void test_both_give_up(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(true);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	struct gc_clock clock;
	struct gc_turn prune_turn, repair_turn, another;
	struct err e = { 0 };

	gc_clock_read(&clock, NOW);
	assert_int_equal(gc_turn_begin(&prune_turn, r, GC_PRUNE, &clock, false, &e), 0);
	assert_int_equal(gc_turn_begin(&another, r, GC_PRUNE, &clock, false, &e), 0);
	assert_int_equal(gc_turn_begin(&repair_turn, r, GC_REPAIR, &clock, false, &e), -EBUSY);
	assert_non_null(strstr(e.text, "a prune is at work since 0 minutes"));
	gc_turn_end(&another);
	assert_int_equal(gc_turn_begin(&another, r, GC_PRUNE, &clock, false, &e), -EBUSY);
	assert_non_null(strstr(e.text, "a repair is at work since 0 minutes"));
	gc_turn_end(&another);
	gc_turn_end(&prune_turn);
	gc_turn_end(&repair_turn);
	assert_int_equal(scene_count(&s, "gc/"), 0);
}

struct holder {
	struct repo *repo;
	struct gc_turn turn;
	enum gc_kind kind;
	int answer;
};

static void hold(void *ctx, uint64_t change)
{
	struct holder *h = ctx;
	struct gc_clock clock;
	struct err e = { 0 };

	gc_clock_read(&clock, NOW);
	if (!change)
		h->answer = gc_turn_begin(&h->turn, h->repo, h->kind, &clock, false, &e);
}

/* The other one puts its note, and sees none, right before ours is put: we look after that. */
static void test_looks_after_its_put(void **state)
{
	static const enum gc_kind kinds[] = { GC_PRUNE, GC_REPAIR };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		_cleanup_scene_ struct scene s = scene_new(false);
		struct scene_store *hooked = scene_store_new(s.memory);
		_cleanup_(repo_freep) struct repo *r = scene_open_on(&s, &hooked->store),
						  *other = scene_open(&s);
		struct holder h = { .repo = other, .kind = kinds[!i] };
		struct gc_clock clock;
		struct gc_turn t;
		struct err e = { 0 };

		hooked->hook = hold;
		hooked->ctx = &h;
		gc_clock_read(&clock, NOW);
		assert_int_equal(gc_turn_begin(&t, r, kinds[i], &clock, false, &e), -EBUSY);
		assert_int_equal(h.answer, 0);
		gc_turn_end(&t);
		gc_turn_end(&h.turn);
		assert_int_equal(scene_count(&s, "gc/"), 0);
	}
}

static void test_time_is_over(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	struct gc_turn t;
	struct err e = { 0 };

	assert_int_equal(gc_turn_begin(&t, r, GC_REPAIR, NULL, false, &e), 0);
	assert_int_equal(gc_turn_goes_on(&t, &e), 0);
	t.since_ns = io_boot_ns() - GC_TURN_REPAIR_NS;
	assert_int_equal(gc_turn_goes_on(&t, &e), -ESTALE);
	gc_turn_end(&t);
	gc_turn_end(&t);
	assert_int_equal(scene_count(&s, "gc/"), 0);
}

/* ---- what a killed one leaves -------------------------------------------------------------------------- */

static void put_note(const struct scene *s, enum gc_kind kind, uint64_t time_ns)
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	struct gc_object o = { .kind = kind, .hash = { 7 }, .time_ns = time_ns };
	struct err e = { 0 };

	assert_int_equal(gc_object_put(s->memory, r->format.id, r->crypt, &o, &e), 0);
}

static void test_left_by_repair(void **state)
{
	for (int how = 0; how < 3; how++) {
		_cleanup_scene_ struct scene s = scene_new(how == 1);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		struct gc_settings g = settings_at(NOW);
		struct gc_result res;
		struct err e = { 0 };

		turn_begin(&s);
		put_note(&s, GC_REPAIR, NOW - SCENE_HOUR);
		assert_int_equal(prune_at(r, NOW, NULL, &e), -EBUSY);
		assert_non_null(strstr(e.text, "since 60 minutes"));
		assert_non_null(strstr(e.text, "in 168 hours"));
		/* another repair neither minds it nor takes it away */
		assert_int_equal(repair_at(r, NOW, false, &e), 0);
		assert_int_equal(prune_at(r, NOW + 6 * DAY, NULL, &e), -EBUSY);
		g.dry_run = true;
		assert_int_equal(gc_prune(r, &g, &res, &e), 0);
		g.dry_run = false;
		g.grace_ns = 0;
		if (how == 0) {
			assert_int_equal(prune_at(r, NOW + 7 * DAY + SCENE_HOUR, NULL, &e), 0);
		} else if (how == 1) {
			assert_int_equal(repair_at(r, NOW, true, &e), 0);
			assert_int_equal(prune_at(r, NOW, NULL, &e), 0);
		} else {
			assert_int_equal(gc_prune(r, &g, &res, &e), 0);
		}
		settle(&s, NOW + 8 * DAY);
		assert_int_equal(scene_verify(&s), 2);
	}
}

static void test_left_by_prune(void **state)
{
	for (int how = 0; how < 3; how++) {
		_cleanup_scene_ struct scene s = scene_new(how == 1);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		struct err e = { 0 };

		turn_begin(&s);
		put_note(&s, GC_PRUNE, NOW - SCENE_HOUR);
		assert_int_equal(repair_at(r, NOW, false, &e), -EBUSY);
		assert_non_null(strstr(e.text, "in 24 hours"));
		assert_int_equal(objects(&s), 9);
		/* another prune goes on, as ever */
		assert_int_equal(prune_at(r, NOW, NULL, &e), 0);
		assert_int_equal(repair_at(r, NOW, false, &e), -EBUSY);
		if (how == 0) {
			assert_int_equal(repair_at(r, NOW + DAY, false, &e), 0);
		} else if (how == 1) {
			assert_int_equal(repair_at(r, NOW, true, &e), 0);
		} else {
			assert_int_equal(prune_at(r, NOW + DAY, NULL, &e), 0);
			assert_int_equal(repair_at(r, NOW + DAY, false, &e), 0);
		}
		settle(&s, NOW + 2 * DAY);
		assert_int_equal(scene_verify(&s), 2);
	}
}

/* One that cannot be read may be that of one who is at work. */
static void test_damaged_note(void **state)
{
	static const enum gc_kind kinds[] = { GC_PRUNE, GC_REPAIR };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		_cleanup_scene_ struct scene s = scene_new(i == 1);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		const uint8_t hash[REPO_NAME_HASH] = { 7 };
		char name[GC_OBJECT_NAME_SIZE];
		struct err e = { 0 };

		turn_begin(&s);
		put_note(&s, kinds[i], NOW - 30 * DAY);
		assert_int_equal(store_memory_flip(s.memory, gc_object_name(kinds[i], hash, name),
						   60, 1),
				 0);
		assert_int_equal(repair_at(r, NOW, false, &e), i ? 0 : -EBUSY);
		assert_int_equal(prune_at(r, NOW, NULL, &e), i ? -EBUSY : -EBADMSG);
		assert_int_equal(scene_count(&s, "images/"), 3);
		assert_int_equal(repair_at(r, NOW, true, &e), 0);
		settle(&s, NOW);
		assert_int_equal(scene_verify(&s), 2);
	}
}

static bool has_note(const struct scene *s, const char *prefix)
{
	_cleanup_(hash_list_done) struct hash_list l = { 0 };
	struct err e = { 0 };

	assert_int_equal(hash_list_load(s->memory, prefix, &l, &e), 0);
	return l.count > 0;
}

static void note_damage(void *ctx, const struct repo_damage *d)
{
	*(bool *)ctx = true;
	print_message("%s\n", d->what);
}

/* @repair or else a prune is killed at change @at; then the other one, then both, until all is well. */
static bool run_killed_turn(bool repair, uint64_t at, enum store_fault fault)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	_cleanup_(repo_freep) struct repo *killed = NULL, *r = scene_open(&s);
	struct repo_check_settings check = { .parts = 1, .threads = 1, .report = note_damage };
	struct repo_check_result checked;
	struct store *faulty = NULL;
	struct err e = { 0 };
	bool left, damage = false;
	size_t before;
	int n;

	turn_begin(&s);
	assert_int_equal(store_fault_new(&scene_store_new(s.memory)->store, &faulty), 0);
	killed = scene_open_on(&s, faulty);
	store_fault_at(faulty, at, fault, -EIO);
	if (repair) {
		repair_at(killed, NOW, false, &e);
	} else {
		prune_at(killed, NOW, NULL, &e);
	}
	left = has_note(&s, repair ? "gc/repair-" : "gc/prune-");
	before = objects(&s);
	n = repair ? prune_at(r, NOW, NULL, &e) : repair_at(r, NOW, false, &e);
	/* it was killed before its note was there, or after it was gone; or the note is there */
	assert_int_equal(n, left ? -EBUSY : 0);
	if (left)
		assert_int_equal(objects(&s), before);
	scene_verify(&s);
	assert_int_equal(repair_at(r, NOW, true, &e), 0);
	assert_int_equal(prune_at(r, NOW, NULL, &e), 0);
	assert_int_equal(scene_verify(&s), 2);
	check.ctx = &damage;
	repo_freep(&r);
	r = scene_open(&s);
	if (repo_check(r, &check, &checked, &e) < 0 || damage)
		fail_msg("change %d: %s", (int)at, e.text);
	settle(&s, NOW);
	assert_int_equal(scene_verify(&s), 2);
	return store_fault_counts(faulty).puts + store_fault_counts(faulty).dels > at;
}

static void test_killed_turn(void **state)
{
	static const enum store_fault faults[] = { STORE_FAULT_DEAD, STORE_FAULT_DEAD_AFTER,
						   STORE_FAULT_FAIL, STORE_FAULT_LOST_REPLY };

	for (size_t f = 0; f < ARRAY_SIZE(faults); f++) {
		for (int repair = 0; repair < 2; repair++) {
			uint64_t at = 0;

			while (run_killed_turn(repair, at, faults[f]))
				at++;
			assert_true(at > 4);
		}
	}
}

/* ---- clocks -------------------------------------------------------------------------------------------- */

static int prune_by(const struct scene *s, const struct gc_clock *clock, struct gc_result *ret,
		    struct err *e)
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	struct gc_settings g = settings_at(0);

	g.clock = clock;
	return gc_prune(r, &g, ret, e);
}

/* A clock that is set ahead makes nothing old as long as the machine is up. */
static void test_set_ahead(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_new(encrypted);
		struct gc_clock c = { .now_ns = NOW, .boot_ns = SCENE_HOUR, .boot = { 1, 2 } };
		struct gc_result g;
		struct err e = { 0 };

		turn_begin(&s);
		assert_int_equal(prune_by(&s, &c, &g, &e), 0);
		assert_int_equal(g.packs_marked, 1);
		/* an hour later, when the clock was set five days ahead */
		c.now_ns += 5 * DAY;
		c.boot_ns += SCENE_HOUR;
		assert_int_equal(prune_by(&s, &c, &g, &e), 0);
		assert_int_equal(g.packs_deleted, 0);
		assert_int_equal(g.packs_waiting, 1);
		/* time that passed, whatever the clock says of it */
		c.boot_ns += DAY;
		assert_int_equal(prune_by(&s, &c, &g, &e), 0);
		assert_int_equal(g.packs_deleted, 1);
		assert_int_equal(scene_verify(&s), 2);
	}
}

/* Between two boots only the clock can tell; within one both must. */
static void test_age(void **state)
{
	struct gc_clock c = { .now_ns = 100, .boot_ns = 50, .boot = { 1 } };
	struct gc_object o = { .kind = GC_MARK };

	gc_clock_stamp(&c, &o);
	c = (struct gc_clock){ .now_ns = 300, .boot_ns = 60, .boot = { 1 } };
	assert_int_equal(gc_clock_age(&c, &o), 10);
	c.boot_ns = 450;
	assert_int_equal(gc_clock_age(&c, &o), 200);
	/* a virtual machine that was put back */
	c.boot_ns = 40;
	assert_int_equal(gc_clock_age(&c, &o), 0);
	c.boot[0] = 2;
	assert_int_equal(gc_clock_age(&c, &o), 200);
	c.now_ns = 99;
	assert_int_equal(gc_clock_age(&c, &o), 0);
	/* neither says which boot */
	gc_clock_read(&c, 300);
	memset(o.boot, 0, sizeof(o.boot));
	assert_int_equal(gc_clock_age(&c, &o), 200);
}

static void test_clock_of_here(void **state)
{
	struct gc_clock a, b;
	struct gc_object o = { .kind = GC_MARK };

	gc_clock_read(&a, 0);
	gc_clock_read(&b, 0);
	assert_memory_equal(a.boot, b.boot, sizeof(a.boot));
	gc_clock_stamp(&a, &o);
	assert_true(gc_clock_age(&b, &o) < SCENE_HOUR);
	/* it cannot be told everywhere; here it can */
	o.time_ns -= DAY;
	assert_true(gc_clock_age(&b, &o) < SCENE_HOUR);
}

/* The store says that it is another time: one of the two is wrong. */
static void test_store_clock(void **state)
{
	static const struct {
		int64_t off_s;
		const char *says;
	} cases[] = { { 299, NULL },
		      { -299, NULL },
		      { 400, "400 s ahead of this machine's" },
		      { -100000, "100000 s behind this machine's" } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_scene_ struct scene s = scene_new(false);
		struct scene_store *hooked = scene_store_new(s.memory);
		_cleanup_(repo_freep) struct repo *r = scene_open_on(&s, &hooked->store);
		const struct gc_clock clock = { .now_ns = NOW };
		struct gc_settings g = settings_at(0);
		struct gc_result res;
		struct err e = { 0 };

		turn_begin(&s);
		g.clock = &clock;
		hooked->store_clock_ns = NOW + (uint64_t)(cases[i].off_s * 1000000000);
		assert_int_equal(gc_prune(r, &g, &res, &e), cases[i].says ? -ETIME : 0);
		if (!cases[i].says)
			continue;
		assert_non_null(strstr(e.text, cases[i].says));
		assert_int_equal(objects(&s), 9);
		assert_int_equal(scene_count(&s, "gc/"), 1);
		g.trust_clock = true;
		assert_int_equal(gc_prune(r, &g, &res, &e), 0);
		assert_int_equal(res.images_deleted, 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_intruded),
		cmocka_unit_test(test_both_give_up),
		cmocka_unit_test(test_looks_after_its_put),
		cmocka_unit_test(test_time_is_over),
		cmocka_unit_test(test_left_by_repair),
		cmocka_unit_test(test_left_by_prune),
		cmocka_unit_test(test_damaged_note),
		cmocka_unit_test(test_killed_turn),
		cmocka_unit_test(test_set_ahead),
		cmocka_unit_test(test_age),
		cmocka_unit_test(test_clock_of_here),
		cmocka_unit_test(test_store_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
