/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What gc sees of packs (lib/repo/gc_view.c): each once, however many speak of it. */
#include "tests/unit/gc-fixture.h"

static void note(const struct scene *s, enum gc_kind kind, const uint8_t hash[REPO_NAME_HASH])
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	struct gc_object o = { .kind = kind,
			       .reason = kind == GC_MARK ? GC_REASON_DEAD : GC_REASON_NONE,
			       .time_ns = SCENE_T0 };
	struct err e = { 0 };

	memcpy(o.hash, hash, sizeof(o.hash));
	assert_int_equal(gc_object_put(r->store, r->format.id, r->crypt, &o, &e), 0);
}

static void pack_put_nobody_indexes(const struct scene *s, const uint8_t hash[REPO_NAME_HASH])
{
	const struct iovec bytes = { (void *)"what a killed writer left", 25 };
	char name[PACK_NAME_SIZE];

	assert_int_equal(store_putv(s->memory, pack_name(hash, name), &bytes, 1, NULL), 0);
}

static const struct gc_pack *seen(const struct gc_view *v, const uint8_t hash[REPO_NAME_HASH])
{
	const struct gc_pack *found = NULL;

	for (size_t i = 0; i < v->n_packs; i++) {
		if (memcmp(v->packs[i].hash, hash, REPO_NAME_HASH) != 0)
			continue;
		assert_null(found);
		found = &v->packs[i];
	}
	assert_non_null(found);
	return found;
}

static void assert_sorted(const struct gc_view *v)
{
	for (size_t i = 1; i < v->n_packs; i++) {
		assert_true(memcmp(v->packs[i - 1].hash, v->packs[i].hash, REPO_NAME_HASH) < 0);
	}
	for (size_t i = 0; i < repo_index_packs(v->repo->index); i++) {
		const struct repo_index_pack_info *info =
			repo_index_pack(v->repo->index, (uint32_t)i);
		const struct gc_pack *p = &v->packs[v->of_index[i]];

		assert_memory_equal(p->hash, info->hash, REPO_NAME_HASH);
		assert_true(p->indexed);
		assert_int_equal(p->entries, info->entries);
	}
}

/* The hash of the @n-th pack in the index. */
static void indexed_pack(const struct scene *s, uint32_t n, uint8_t ret[REPO_NAME_HASH])
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	struct err e = { 0 };

	assert_int_equal(repo_load_whole_index(r, &e), 0);
	memcpy(ret, repo_index_pack(r->index, n)->hash, REPO_NAME_HASH);
}

static void a_pack_is_seen_once_however_many_speak_of_it(void **state)
{
	static const uint8_t stray[REPO_NAME_HASH] = { 1 }, gone[REPO_NAME_HASH] = { 0xff };
	uint8_t marked[REPO_NAME_HASH], lost[REPO_NAME_HASH];
	_cleanup_scene_ struct scene s = scene_new(false);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	char name[PACK_NAME_SIZE];
	struct err e = { 0 };
	struct gc_view v;

	cast_new(&s);
	indexed_pack(&s, 0, marked);
	indexed_pack(&s, 1, lost);
	note(&s, GC_MARK, marked);
	note(&s, GC_GONE, marked);
	assert_int_equal(store_del(s.memory, pack_name(lost, name), NULL), 0);
	note(&s, GC_MARK, lost);
	pack_put_nobody_indexes(&s, stray);
	note(&s, GC_STRAY, stray);
	note(&s, GC_MARK, gone);
	note(&s, GC_GONE, gone);

	assert_int_equal(view_at(r, SCENE_T0, &v, &e), 0);
	assert_int_equal(v.n_packs, repo_index_packs(r->index) + 2);
	assert_sorted(&v);
	assert_true(seen(&v, marked)->stored && seen(&v, marked)->indexed);
	assert_true(seen(&v, marked)->mark && seen(&v, marked)->gone && !seen(&v, marked)->stray);
	assert_true(!seen(&v, lost)->stored && seen(&v, lost)->indexed && seen(&v, lost)->mark);
	assert_true(seen(&v, stray)->stored && !seen(&v, stray)->indexed && seen(&v, stray)->stray);
	assert_int_equal(seen(&v, stray)->size, 25);
	assert_true(!seen(&v, gone)->stored && !seen(&v, gone)->indexed);
	assert_true(seen(&v, gone)->mark && seen(&v, gone)->gone);
	gc_view_done(&v);
}

static void of_a_repository_without_packs_none_is_seen(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	struct err e = { 0 };
	struct gc_view v;

	assert_int_equal(view_at(r, SCENE_T0, &v, &e), 0);
	assert_int_equal(v.n_packs, 0);
	gc_view_done(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pack_is_seen_once_however_many_speak_of_it),
		cmocka_unit_test(of_a_repository_without_packs_none_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
