// SPDX-License-Identifier: GPL-2.0-or-later
/* Checking and repairing a repository (lib/repo/repo_check, lib/repo/repo_repair). */
#include "lib/base/hex.h"
#include "lib/image/digest.h"
#include "lib/repo/gc.h"
#include "lib/repo/repo_repair.h"
#include "tests/unit/repo-check-fixture.h"

static const unsigned int seeds_a[] = { 1, 2, 3, 4 };
static const unsigned int seeds_b[] = { 1, 2, 13, 14 };

/* Two images in two packs. */
static struct scene scene_small(bool encrypted)
{
	struct scene s = scene_new(encrypted);

	capture(&s, seeds_a, 4, SCENE_T0);
	capture(&s, seeds_b, 4, SCENE_T0 + SCENE_HOUR);
	return s;
}

static int check_with(struct repo *r, bool data, struct reports *reports,
		      struct repo_check_result *ret)
{
	struct repo_check_settings s = settings_full(reports);
	struct err e = { 0 };
	int n;

	*reports = (struct reports){ 0 };
	s.parts = data;
	n = repo_check(r, &s, ret, &e);
	if (n < 0 && n != -EBADMSG)
		fail_msg("%s", e.text);
	assert_int_equal(n<0, reports->n> 0);
	assert_int_equal(ret->damages, reports->n);
	return n;
}

static int check(const struct scene *s, bool data, struct reports *reports,
		 struct repo_check_result *ret)
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);

	return check_with(r, data, reports, ret);
}

static void test_whole(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_small(encrypted);
		struct repo_check_result res;
		struct reports reports;

		if (check(&s, true, &reports, &res) < 0)
			fail_msg("%s", reports.whats);
		assert_int_equal(res.images, 2);
		assert_int_equal(res.packs, 2);
		assert_int_equal(res.packs_read, 2);
		assert_int_equal(res.entries_checked, 4 + 1 + 2 + 1);
		assert_true(res.decoded && res.walked);
		assert_int_equal(check(&s, false, &reports, &res), 0);
		assert_int_equal(res.packs_read, 0);
	}
}

/* ---- every flipped bit ----------------------------------------------------------------------------- */

static void flip_one(const struct scene *s, struct repo *r, const char *name, uint64_t at)
{
	const uint8_t mask = (uint8_t)(1u << ((at * 2654435761u >> 7) % 8));
	struct repo_check_result res;
	struct reports reports;

	assert_int_equal(store_memory_flip(s->memory, name, at, mask), 0);
	if (check_with(r, true, &reports, &res) == 0)
		fail_msg("%s, byte %d, bit %d: not found", name, (int)at, mask);
	/* the object itself is named */
	assert_non_null(strstr(reports.objects, name));
	assert_int_equal(store_memory_flip(s->memory, name, at, mask), 0);
}

/* In each byte of each object below @folder one bit, another one in each. @step: every so many bytes. */
static void flip_all(const struct scene *s, struct repo *r, const char *folder, uint64_t step)
{
	const struct objects l = objects_of(s, folder);
	uint64_t flips = 0;

	assert_true(l.n > 0);
	for (size_t i = 0; i < l.n; i++) {
		for (uint64_t at = i % step; at < l.items[i].size; at += step, flips++)
			flip_one(s, r, l.items[i].name, at);
	}
	print_message("%s: %u flips\n", folder, (unsigned int)flips);
}

static void test_flips(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_small(encrypted);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		struct gc_object o = { .kind = GC_MARK,
				       .reason = GC_REASON_DEAD,
				       .hash = { 1 },
				       .time_ns = SCENE_T0 };
		struct err e = { 0 };

		assert_int_equal(gc_object_put(s.memory, r->format.id, r->crypt, &o, &e), 0);
		flip_all(&s, r, "gc/", 1);
		flip_all(&s, r, "index/", 1);
		flip_all(&s, r, "images/", 1);
		flip_all(&s, r, "packs/", 3);
	}
}

/* Without a key bytes are compared with names: flips are found all the same. */
static void test_no_key(void **state)
{
	_cleanup_scene_ struct scene s = scene_small(true);
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct repo_check_result res;
	struct reports reports;
	struct err e = { 0 };

	assert_int_equal(repo_open(&scene_store_new(s.memory)->store, &r, &e), 0);
	if (check_with(r, true, &reports, &res) < 0)
		fail_msg("%s", reports.whats);
	assert_false(res.decoded || res.walked);
	assert_int_equal(res.packs_read, 2);
	flip_all(&s, r, "index/", 7);
	flip_all(&s, r, "images/", 7);
	flip_all(&s, r, "packs/", 7);
}

/* ---- whom it hurts --------------------------------------------------------------------------------- */

/* The object with the chunk of this seed, and its place. */
static void find_chunk(struct repo *r, unsigned int seed, struct repo_place *ret,
		       char name[PACK_NAME_SIZE])
{
	_cleanup_free_ uint8_t *plain = malloc(SCENE_CHUNK);
	struct chunk_id id;
	struct err e = { 0 };

	assert_non_null(plain);
	scene_plain(seed, plain);
	chunk_id_of(plain, SCENE_CHUNK, &id);
	assert_int_equal(repo_load_index(r, &e), 0);
	assert_int_equal(repo_find(r, &id, REPO_KIND_CHUNK, ret, &e), 0);
	pack_name(repo_index_pack(r->index, ret->pack)->hash, name);
}

static void test_hurt(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_small(encrypted);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		struct repo_check_result res;
		struct reports reports;
		char name[PACK_NAME_SIZE];
		struct repo_place p;
		uint32_t middle;

		/* the third chunk of the second image only */
		find_chunk(r, 13, &p, name);
		middle = le32_get(p.entry.offset) + le32_get(p.entry.frame_len) / 2;
		assert_int_equal(store_memory_flip(s.memory, name, middle, 16), 0);
		assert_int_equal(check(&s, true, &reports, &res), -EBADMSG);
		assert_int_equal(res.images_hurt, 1);
		assert_int_equal(reports.of_images, 1);
		assert_non_null(strstr(reports.objects, name));
		assert_string_equal(reports.images, "host/disk/2023-11-14T23:13:20Z\n");
		assert_int_equal(reports.offset, 2 * SCENE_CHUNK);
		assert_int_equal(reports.length, SCENE_CHUNK);
		assert_int_equal(store_memory_flip(s.memory, name, middle, 16), 0);

		/* one of both, and its neighbour: one stretch in each */
		for (unsigned int seed = 1; seed <= 2; seed++) {
			find_chunk(r, seed, &p, name);
			middle = le32_get(p.entry.offset) + le32_get(p.entry.frame_len) / 2;
			assert_int_equal(store_memory_flip(s.memory, name, middle, 16), 0);
		}
		assert_int_equal(check(&s, true, &reports, &res), -EBADMSG);
		assert_int_equal(res.images_hurt, 2);
		assert_int_equal(reports.of_images, 2);
		assert_int_equal(reports.offset, 0);
		assert_int_equal(reports.length, 2 * SCENE_CHUNK);
	}
}

static void on_damage_cancel(void *ctx, const struct repo_damage *d)
{
	if (d->image)
		cancel_raise(ctx);
}

/* In the walk over all images, when the first of them was told. */
static void test_interrupted(void **state)
{
	_cleanup_scene_ struct scene s = scene_small(false);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	_cleanup_(cancel_done) struct cancel cancel;
	const struct repo_check_settings settings = {
		.threads = 1, .cancel = &cancel, .report = on_damage_cancel, .ctx = &cancel
	};
	struct repo_check_result res;
	char name[PACK_NAME_SIZE];
	struct repo_place p;
	struct err e = { 0 };

	assert_int_equal(cancel_init(&cancel), 0);
	find_chunk(r, 1, &p, name);
	assert_int_equal(store_del(s.memory, name, &e), 0);
	assert_int_equal(repo_check(r, &settings, &res, &e), -ECANCELED);
	assert_int_equal(e.code, -ECANCELED);
	assert_string_equal(e.text, "interrupted");
}

static void test_structure(void **state)
{
	_cleanup_scene_ struct scene s = scene_small(false);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	struct repo_check_result res;
	struct reports reports;
	char name[PACK_NAME_SIZE];
	struct repo_place p;
	struct err e = { 0 };

	assert_int_equal(store_put(s.memory, "packs/00/nonsense", "x", 1, &e), 0);
	assert_int_equal(store_put(s.memory, "images/nonsense", "x", 1, &e), 0);
	assert_int_equal(store_put(s.memory, "gc/nonsense", "x", 1, &e), 0);
	assert_int_equal(check(&s, false, &reports, &res), -EBADMSG);
	assert_int_equal(reports.n, 3);
	assert_int_equal(res.images_hurt, 0);
	store_del(s.memory, "packs/00/nonsense", &e);
	store_del(s.memory, "images/nonsense", &e);
	store_del(s.memory, "gc/nonsense", &e);
	assert_int_equal(check(&s, false, &reports, &res), 0);

	/* a pack that is gone: the second image lacks its own two chunks and its root page */
	find_chunk(r, 13, &p, name);
	assert_int_equal(store_del(s.memory, name, &e), 0);
	assert_int_equal(check(&s, false, &reports, &res), -EBADMSG);
	assert_non_null(strstr(reports.objects, name));
	assert_non_null(strstr(reports.whats, "is missing"));
	assert_int_equal(res.images_hurt, 1);
	assert_int_equal(reports.length, 4 * SCENE_CHUNK);
	assert_non_null(strstr(reports.whats, "a page of the hash tree is damaged or missing"));
}

/* ---- parts, and going on --------------------------------------------------------------------------- */

static void test_parts(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	struct reports reports = { 0 };
	uint64_t read = 0;
	struct err e = { 0 };

	for (unsigned int i = 0; i < 20; i++)
		capture(&s, (unsigned int[]){ 100 + i }, 1, SCENE_T0 + i);
	for (unsigned int part = 0; part < 10; part++) {
		struct repo_check_settings g = settings_full(&reports);
		struct repo_check_result res;

		g.parts = 10;
		g.part = part;
		g.threads = 2;
		assert_int_equal(repo_check(r, &g, &res, &e), 0);
		assert_true(res.packs_read < 20);
		read += res.packs_read;
	}
	assert_int_equal(read, 20);
}

/* An image that is damaged, and a thing that is none: each is named once. */
static void test_images_named_once(void **state)
{
	_cleanup_scene_ struct scene s = scene_small(false);
	const struct objects images = objects_of(&s, "images/");
	char name[STORE_NAME_MAX], hex[2 * DIGEST_SIZE + 1];
	char text[] = "no image";
	struct iovec nothing = { text, strlen(text) };
	struct repo_check_result res;
	struct reports reports;
	uint8_t hash[DIGEST_SIZE];

	assert_int_equal(store_memory_flip(s.memory, images.items[0].name, 150, 1), 0);
	assert_int_equal(check(&s, false, &reports, &res), -EBADMSG);
	assert_int_equal(reports.n, 1);
	assert_int_equal(res.images_hurt, 1);
	digest_of(&nothing, 1, hash);
	snprintf(name, sizeof(name), "images/%s", hex_encode(hash, sizeof(hash), hex));
	assert_int_equal(store_put(s.memory, name, nothing.iov_base, nothing.iov_len, NULL), 0);
	assert_int_equal(check(&s, false, &reports, &res), -EBADMSG);
	assert_int_equal(reports.n, 2);
	assert_int_equal(res.images_hurt, 2);
	assert_non_null(strstr(reports.objects, images.items[0].name));
	assert_non_null(strstr(reports.objects, name));
	/* the name stands before the words, not in them */
	assert_null(strstr(reports.whats, "images/"));
}

/* ---- repair ---------------------------------------------------------------------------------------- */

static void repair(const struct scene *s, struct repo_repair_result *ret)
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	const struct repo_repair_settings g = { .now_ns = SCENE_T0 };
	struct err e = { 0 };

	if (repo_repair(r, &g, ret, &e) < 0)
		fail_msg("%s", e.text);
}

static void test_repair_lost_index(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_small(encrypted);
		const struct objects l = objects_of(&s, "index/");
		struct repo_repair_result res;
		struct repo_check_result checked;
		struct reports reports;

		for (size_t i = 0; i < l.n; i++)
			assert_int_equal(store_del(s.memory, l.items[i].name, NULL), 0);
		assert_int_equal(check(&s, false, &reports, &checked), -EBADMSG);
		assert_int_equal(checked.images_hurt, 2);
		repair(&s, &res);
		assert_int_equal(res.packs, 2);
		assert_int_equal(res.entries, 8);
		assert_int_equal(res.index_files, 1);
		assert_int_equal(scene_verify(&s), 2);
		assert_int_equal(check(&s, true, &reports, &checked), 0);
		/* and once more, though there is nothing to do */
		repair(&s, &res);
		assert_int_equal(res.index_deleted, 1);
		assert_int_equal(scene_verify(&s), 2);
		assert_int_equal(scene_count(&s, "index/"), 1);
	}
}

static void test_repair_damaged_index(void **state)
{
	_cleanup_scene_ struct scene s = scene_small(false);
	const struct objects l = objects_of(&s, "index/");
	struct repo_repair_result res;

	assert_int_equal(store_memory_flip(s.memory, l.items[0].name, 170, 1), 0);
	repair(&s, &res);
	assert_int_equal(res.index_deleted, 2);
	assert_int_equal(scene_verify(&s), 2);
}

/* A damaged chunk is left out; the next capture that has it heals every image. */
static void test_repair_heals(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_small(encrypted);
		_cleanup_(repo_freep) struct repo *r = scene_open(&s);
		struct repo_repair_result res;
		struct repo_check_result checked;
		struct reports reports;
		char name[PACK_NAME_SIZE];
		struct repo_place p;

		find_chunk(r, 2, &p, name);
		assert_int_equal(store_memory_flip(s.memory, name,
						   le32_get(p.entry.offset) +
							   le32_get(p.entry.frame_len) / 2,
						   1),
				 0);
		repair(&s, &res);
		assert_int_equal(res.packs_damaged, 1);
		assert_int_equal(res.entries, 7);
		assert_int_equal(check(&s, false, &reports, &checked), -EBADMSG);
		assert_int_equal(checked.images_hurt, 2);
		capture(&s, seeds_a, 4, SCENE_T0 + 5 * SCENE_HOUR);
		assert_int_equal(scene_verify(&s), 3);
	}
}

/* Killed at each of its changes, and run again. */
static void test_repair_killed(void **state)
{
	bool hit = true;

	for (uint64_t at = 0; hit; at++) {
		_cleanup_scene_ struct scene s = scene_small(false);
		const struct objects l = objects_of(&s, "index/");
		const struct repo_repair_settings g = { .now_ns = SCENE_T0 };
		struct gc_object o = { .kind = GC_FORGET, .time_ns = SCENE_T0 };
		_cleanup_(repo_freep) struct repo *r = NULL;
		struct store *faulty = NULL;
		struct repo_repair_result res;
		struct repo_check_result checked;
		struct reports reports;
		char note_name[GC_OBJECT_NAME_SIZE];
		struct err e = { 0 };

		assert_int_equal(store_fault_new(&scene_store_new(s.memory)->store, &faulty), 0);
		r = scene_open_on(&s, faulty);
		assert_int_equal(
			hex_decode(strrchr(objects_of(&s, "images/").items[0].name, '/') + 1,
				   o.hash, sizeof(o.hash)),
			0);
		assert_int_equal(gc_object_put(s.memory, r->format.id, NULL, &o, &e), 0);
		gc_object_name(o.kind, o.hash, note_name);
		assert_int_equal(store_memory_flip(s.memory, note_name, 60, 1), 0);
		assert_int_equal(store_memory_flip(s.memory, l.items[0].name, 170, 1), 0);
		store_fault_at(faulty, at, STORE_FAULT_DEAD_AFTER, -EIO);
		hit = repo_repair(r, &g, &res, &e) < 0;
		repair(&s, &res);
		assert_int_equal(scene_verify(&s), 2);
		if (check(&s, true, &reports, &checked) < 0)
			fail_msg("%s%s", reports.objects, reports.whats);
		assert_true(at < 20);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_flips),
		cmocka_unit_test(test_no_key),
		cmocka_unit_test(test_hurt),
		cmocka_unit_test(test_interrupted),
		cmocka_unit_test(test_structure),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_images_named_once),
		cmocka_unit_test(test_repair_lost_index),
		cmocka_unit_test(test_repair_damaged_index),
		cmocka_unit_test(test_repair_heals),
		cmocka_unit_test(test_repair_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
