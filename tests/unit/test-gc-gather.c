// SPDX-License-Identifier: GPL-2.0-or-later
/* What the newest images need is put together (lib/repo/gc_gather.c): it is read faster, it comes to rest, killed at every change. */
#define SCENE_NOISE SCENE_CHUNK
#include "tests/unit/gc-fixture.h"

/* 10 MiB, a pack that is not small. */
#define DISK_CHUNKS 160u
/* Changed each day, anywhere. */
#define DAY_CHUNKS 6u
#define DAYS	   12u

/* What the disk number @disk holds on @day. */
static void disk_on(unsigned int disk, unsigned int day, unsigned int seeds[DISK_CHUNKS])
{
	for (unsigned int i = 0; i < DISK_CHUNKS; i++)
		seeds[i] = disk * 1000000 + i;
	for (unsigned int d = 1; d <= day; d++) {
		for (unsigned int k = 0; k < DAY_CHUNKS; k++)
			seeds[(d * 53 + k * 29) % DISK_CHUNKS] = disk * 1000000 + d * 1000 + k;
	}
}

static void capture_disk(const struct scene *s, unsigned int disk, unsigned int day,
			 uint64_t time_ns)
{
	static const char *const names[] = { "a", "b", "c" };
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(pack_freep) struct pack *pack = NULL;
	struct scene_pack p = { .repo = r };
	unsigned int seeds[DISK_CHUNKS];
	struct chunk_id root;
	struct err e = { 0 };

	disk_on(disk, day, seeds);
	assert_int_equal(repo_load_index(r, &e), 0);
	assert_int_equal(pack_new(r->store, r->format.id, r->crypt, &pack, &e), 0);
	p.pack = pack;
	assert_int_equal(scene_fill(&p, seeds, DISK_CHUNKS, &root), 0);
	assert_int_equal(scene_put_pack(&p, true, &e), 0);
	image = scene_image(DISK_CHUNKS, &root, time_ns);
	free(image->disk);
	image->disk = strdup(names[disk]);
	assert_non_null(image->disk);
	assert_int_equal(repo_image_put(r, image, &e), 0);
}

static uint64_t day_ns(unsigned int day)
{
	return SCENE_T0 + day * DAY;
}

/* Bytes and calls that reading the newest image of @disk asks of the store, with its index. */
static struct store_counts read_newest(const struct scene *s, const char *disk)
{
	_cleanup_(repo_images_done) struct repo_images l = { 0 };
	_cleanup_(image_reader_freep) struct image_reader *reader = NULL;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct verify_result v = { 0 };
	struct repo_image *image = NULL;
	struct store *counting = NULL;
	struct store_counts before, after;
	struct err e = { 0 };
	char name[64];

	assert_int_equal(store_fault_new(&scene_store_new(s->memory)->store, &counting), 0);
	r = scene_open_on(s, counting);
	assert_int_equal(repo_load_index(r, &e), 0);
	assert_int_equal(repo_images_load(r, false, &l, &e), 0);
	snprintf(name, sizeof(name), "host/%s/latest", disk);
	assert_int_equal(repo_images_select(&l, name, NULL, &image, &e), 0);
	before = store_fault_counts(counting);
	assert_int_equal(repo_source_open(r, image, &reader, &e), 0);
	assert_int_equal(image_verify(reader, 1, NULL, NULL, NULL, &v, &e), 0);
	assert_int_equal(v.data_chunks, DISK_CHUNKS);
	after = store_fault_counts(counting);
	after.gets -= before.gets;
	after.get_bytes -= before.get_bytes;
	return after;
}

static int add_size(void *ctx, const char *name, uint64_t size)
{
	(void)name;
	*(uint64_t *)ctx += size;
	return 0;
}

static uint64_t stored_bytes(const struct scene *s)
{
	uint64_t sum = 0;

	assert_int_equal(store_list(s->memory, "packs/", add_size, &sum, NULL), 0);
	return sum;
}

/* Little waste is left alone; much is not; then it is read in less, and there is nothing to do any more. */
static void test_gathered(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_new(encrypted);
		struct store_counts before, after;
		struct gc_result g = { 0 };
		uint64_t bytes;
		unsigned int day;

		small_many = 1000;
		for (day = 0; day < 3; day++) {
			capture_disk(&s, 0, day, day_ns(day));
			prune(&s, day_ns(day), &g);
			assert_int_equal(g.packs_marked, 0);
		}
		for (; day < DAYS; day++)
			capture_disk(&s, 0, day, day_ns(day));
		bytes = stored_bytes(&s);
		before = read_newest(&s, "a");
		prune(&s, day_ns(DAYS), &g);
		assert_int_equal(g.packs_gathered, 1);
		assert_int_equal(g.packs_repacked, 1);
		after = read_newest(&s, "a");
		print_message("%u gets, %u KiB; gathered %u, %u\n", (unsigned int)before.gets,
			      (unsigned int)before.get_bytes >> 10, (unsigned int)after.gets,
			      (unsigned int)after.get_bytes >> 10);
		assert_true(after.get_bytes + (3 << 20) < before.get_bytes);
		assert_true(after.get_bytes < DISK_CHUNKS * SCENE_CHUNK * 21 / 20);
		prune(&s, day_ns(DAYS) + SCENE_HOUR, &g);
		assert_int_equal(g.packs_marked, 0);
		assert_int_equal(scene_verify(&s), DAYS);
		/* no byte more than before is stored in the end, but for a pack of pages */
		settle(&s, day_ns(DAYS + 1));
		assert_in_range(stored_bytes(&s), bytes - (1 << 20), bytes + 4096);
		assert_int_equal(scene_verify(&s), DAYS);
		small_many = 0;
	}
}

/* Not at all when nothing may be copied; only as much as may be. */
static void test_limits(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	_cleanup_(repo_freep) struct repo *r = scene_open(&s);
	struct gc_settings g;
	struct gc_result res;
	struct err e = { 0 };

	/* disk 1 has half of the waste */
	for (unsigned int day = 0; day < DAYS; day++) {
		capture_disk(&s, 0, day, day_ns(day));
		if (day < DAYS / 2)
			capture_disk(&s, 1, day, day_ns(day));
	}
	g = settings_at(day_ns(DAYS));
	g.small_many = 1000;
	g.repack_dead_percent = 100;
	assert_int_equal(gc_prune(r, &g, &res, &e), 0);
	assert_int_equal(res.packs_marked, 0);
	g.repack_dead_percent = 99;
	g.max_repack_bytes = 8 << 20;
	assert_int_equal(gc_prune(r, &g, &res, &e), 0);
	assert_int_equal(res.packs_marked, 0);
	g.max_repack_bytes = 16 << 20;
	assert_int_equal(gc_prune(r, &g, &res, &e), 0);
	assert_int_equal(res.packs_gathered, 1);
	assert_true(read_newest(&s, "a").get_bytes < DISK_CHUNKS * SCENE_CHUNK * 21 / 20);
	assert_true(read_newest(&s, "b").get_bytes > DISK_CHUNKS * SCENE_CHUNK * 21 / 20);
	assert_int_equal(gc_prune(r, &g, &res, &e), 0);
	assert_int_equal(res.packs_gathered, 1);
	assert_true(read_newest(&s, "b").get_bytes < DISK_CHUNKS * SCENE_CHUNK * 21 / 20);
	assert_int_equal(scene_verify(&s), DAYS + DAYS / 2);
}

/* Disks that are captured by turns, and copied together, lie apart in the copy. */
static void test_disks(void **state)
{
	static const char *const names[] = { "a", "b", "c" };
	_cleanup_scene_ struct scene s = scene_new(false);
	struct gc_result g = { 0 };

	small_many = 16;
	for (unsigned int day = 0; day < DAYS; day++) {
		for (unsigned int disk = 0; disk < 3; disk++)
			capture_disk(&s, disk, day, day_ns(day) + disk);
	}
	prune(&s, day_ns(DAYS), &g);
	assert_int_equal(g.packs_gathered, 3);
	assert_int_equal(g.packs_joined, 3 * (DAYS - 1));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_true(read_newest(&s, names[i]).get_bytes <
			    DISK_CHUNKS * SCENE_CHUNK * 21 / 20);
	}
	prune(&s, day_ns(DAYS), &g);
	assert_int_equal(g.packs_marked, 0);
	assert_int_equal(scene_verify(&s), 3 * DAYS);
	small_many = 0;
}

/*
 * A prune each day for a month: in the mean no more is copied than was said for each byte that captures store, and the
 * newest image is never read much slower than what it is.
 */
static void test_paid_for(void **state)
{
	_cleanup_scene_ struct scene s = scene_new(false);
	uint64_t copied = 0, captured = 0, most = 0;
	unsigned int gathered = 0;

	for (unsigned int day = 0; day < 31; day++) {
		const uint64_t before = stored_bytes(&s);
		struct gc_result g = { 0 };

		capture_disk(&s, 0, day, day_ns(day));
		captured += stored_bytes(&s) - before;
		prune(&s, day_ns(day), &g);
		copied += g.packs_gathered ? g.bytes_copied : 0;
		gathered += g.packs_gathered > 0;
		most = MAX(most, read_newest(&s, "a").get_bytes);
	}
	print_message(
		"captured %u KiB, gathered %u times, copied %u KiB; %u KiB at most are read\n",
		(unsigned int)(captured >> 10), gathered, (unsigned int)(copied >> 10),
		(unsigned int)(most >> 10));
	/* an eighth of it, and what small packs have that were not joined yet */
	assert_true(most < DISK_CHUNKS * SCENE_CHUNK * 9 / 8 +
				   GC_SMALL_MANY_DEFAULT * DAY_CHUNKS * SCENE_CHUNK / 2);
	assert_true(gathered > 1 && copied < 10 * captured);
	assert_int_equal(scene_verify(&s), 31);
	settle(&s, day_ns(31));
	assert_int_equal(scene_verify(&s), 31);
}

/* ---- killed at every change -------------------------------------------------------------------------- */

/* A's chunks are those of B that are not its own, so that B, the newest, needs a part of A's pack, and of C's none. */
static struct cast gather_begin(const struct scene *s)
{
	static const unsigned int a[] = { 1, 2, 3, 4, 5, 6 }, b[] = { 1, 12, 3, 14, 5, 6 },
				  c[] = { 1, 12, 3, 24, 5, 26, 27 };
	struct cast cast = { 0 };

	capture(s, a, ARRAY_SIZE(a), SCENE_T0 - 3 * SCENE_HOUR, cast.a);
	capture(s, b, ARRAY_SIZE(b), SCENE_T0 - 2 * SCENE_HOUR, cast.b);
	capture(s, c, ARRAY_SIZE(c), SCENE_T0 - 1 * SCENE_HOUR, cast.c);
	return cast;
}

static int gather_step(struct repo *r, const struct cast *c, int step, struct err *e)
{
	struct gc_result g = { 0 };
	int n;

	if (step == 1)
		return gc_forget(r, &c->a, 1, SCENE_T0 + 2 * SCENE_HOUR, e);
	/* all are put together; then image A goes, and the packs, and the notes */
	n = prune_at(r, SCENE_T0 + (step ? 2 * (uint64_t)(step - 1) * DAY : SCENE_HOUR), &g, e);
	/* the scene's packs have pages and chunks, and a killed run leaves some of both: that takes one prune more */
	if (n >= 0 && step > 3)
		assert_int_equal(g.packs_gathered, 0);
	return n;
}

static const size_t gather_images[] = { 3, 3, 2, 2, 2, 2 };
static const struct script gathering = { gather_begin, gather_step, gather_images,
					 ARRAY_SIZE(gather_images), SCENE_T0 + 14 * DAY };

static void test_killed(void **state)
{
	static const enum store_fault faults[] = { STORE_FAULT_DEAD, STORE_FAULT_DEAD_AFTER,
						   STORE_FAULT_FAIL, STORE_FAULT_LOST_REPLY };
	struct gc_result g;

	small_many = 1000;
	small_pack = 1;
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_scene_ struct scene s = scene_new(encrypted);

		gather_begin(&s);
		prune(&s, SCENE_T0 + SCENE_HOUR, &g);
		assert_int_equal(g.packs_gathered, 3);
		for (size_t f = 0; f < ARRAY_SIZE(faults); f++)
			assert_true(killed_anywhere(&gathering, encrypted, faults[f]) > 25);
	}
	small_many = 0;
	small_pack = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gathered), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_disks),	 cmocka_unit_test(test_paid_for),
		cmocka_unit_test(test_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
