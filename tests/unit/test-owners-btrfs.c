/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose bytes of a btrfs: against what the kernel says of each file, and with bytes lost and damaged. Root, btrfs-progs. */
#include "lib/layout/btrfs_format.h"
#include "tests/unit/owners-btrfs-scene.h"

/* What mkfs makes of one device; small blocks, all twice; all once, without a check value that can be computed here. */
static struct scene plain, twice, once, blake;
static bool ready;

/* ---- what was told, against the truth ---------------------------------------------------------------------------------- */

/* None of it lies behind the file's end. */
static void assert_within_file(const struct scene *s, const struct owner *o)
{
	const struct truth *t = truth_at(s, o->path, o->offset);

	assert_non_null(t);
	assert_true(o->offset + o->held <= t->size);
}

static void assert_all_told(struct scene *s)
{
	struct owners o;
	struct err e = { 0 };

	assert_int_equal(scene_find_range(s, 0, s->disk.size, &o, &e), 0);
	if (o.incomplete)
		fail_msg("%s", o.lost.text);
	assert_false(o.more);
	assert_true(o.count > 0);
	for (size_t i = 0; i < o.count; i++) {
		assert_non_null(o.items[i].path);
		assert_true_of(s, &o.items[i]);
		assert_within_file(s, &o.items[i]);
	}
	for (size_t i = 0; i < s->n_truths; i++)
		assert_told(s, &o, &s->truths[i]);
	assert_adds_up(&o, s->disk.size);
	owners_done(&o);
}

static void need(void)
{
	if (!ready)
		skip();
}

static void all_is_told_as_the_kernel_maps_it(void **state)
{
	need();
	assert_all_told(&plain);
	assert_all_told(&twice);
	assert_all_told(&once);
	assert_all_told(&blake);
}

/* Every block of a file that is not compressed says itself whose it is. */
static void what_is_told_has_the_bytes_of_the_file(void **state)
{
	uint8_t want[4096];
	unsigned int seen = 0;
	struct owners o;
	struct err e = { 0 };

	need();
	assert_int_equal(scene_find_range(&twice, 0, twice.disk.size, &o, &e), 0);
	for (size_t i = 0; i < o.count; i++) {
		const struct owner *x = &o.items[i];

		if (strcmp(x->path, "/torn") != 0 && strcmp(x->path, "/sparse") != 0)
			continue;
		for (uint64_t at = 0; at < x->length; at += sizeof(want)) {
			fill(want, sizeof(want), x->path[1] == 't' ? 1 : 2, x->offset + at);
			assert_memory_equal(twice.disk.image + x->at + at, want, sizeof(want));
			seen++;
		}
	}
	/* twice, all of it */
	assert_int_equal(seen, 2 * (512 + 100));
	owners_done(&o);
}

/* Any stretch has of all that is told the part that lies in it. */
static void parts_are_told_as_the_whole(void **state)
{
	struct owners all, some;
	struct err e = { 0 };

	need();
	assert_int_equal(scene_find_range(&plain, 0, plain.disk.size, &all, &e), 0);
	for (unsigned int n = 0; n < 100; n++) {
		const uint64_t at = all.items[any(all.count)].at + any(20000);
		const uint64_t length = 1 + any(n % 2 ? 50000 : 500);
		uint64_t sum = 0;

		assert_int_equal(scene_find_range(&plain, at, length, &some, &e), 0);
		assert_adds_up(&some, length);
		for (size_t i = 0; i < all.count; i++) {
			const struct owner *x = &all.items[i];

			if (x->at < at + length && at < x->at + x->length)
				sum += MIN(x->at + x->length, at + length) - MAX(x->at, at);
		}
		for (size_t i = 0; i < some.count; i++) {
			const struct owner *x = &some.items[i];

			assert_true(told_at(&all, x->path, x->offset, x->at));
			assert_true(told_at(&all, x->path, x->offset + x->length - 1,
					    x->at + x->length - 1));
			sum -= x->length;
		}
		assert_int_equal(sum, 0);
		owners_done(&some);
	}
	owners_done(&all);
}

/* A lost byte of a compressed extent is the loss of all that it holds. */
static void a_part_of_a_compressed_extent_is_all_that_it_holds(void **state)
{
	const struct truth *t;
	struct owners o;
	struct err e = { 0 };
	bool found = false;

	need();
	t = truth_at(&plain, "/packed/text", 256 << 10);
	assert_non_null(t);
	assert_true(t->packed);
	assert_int_equal(
		scene_find_range(&plain, scene_at(&plain, t->logical, 0) + 5000, 10, &o, &e), 0);
	for (size_t i = 0; i < o.count; i++) {
		if (strcmp(o.items[i].path, t->path) != 0)
			continue;
		assert_int_equal(o.items[i].length, 10);
		assert_int_equal(o.items[i].offset, t->offset);
		assert_int_equal(o.items[i].held, 128 << 10);
		found = true;
	}
	assert_true(found);
	owners_done(&o);
}

/* ---- lost and damaged ------------------------------------------------------------------------------------------------------ */

static void lose(struct scene *s, uint64_t at, uint64_t length)
{
	assert_int_equal(extent_set_add(&s->lost, at, length), 0);
	extent_set_normalise(&s->lost);
}

static void the_first_copies_of_all_tree_blocks_may_be_lost_or_damaged(void **state)
{
	need();
	for (size_t i = 0; i < plain.n_chunks; i++) {
		const struct chunk *c = &plain.chunks[i];

		if (c->metadata)
			lose(&plain, c->at[0], c->length);
	}
	assert_all_told(&plain);
	extent_set_done(&plain.lost);
	for (size_t i = 0; i < plain.n_chunks; i++) {
		const struct chunk *c = &plain.chunks[i];
		_cleanup_free_ uint8_t *kept = c->metadata ? malloc(c->length) : NULL;

		if (!c->metadata)
			continue;
		memcpy(kept, plain.disk.image + c->at[1], c->length);
		for (uint64_t at = 0; at < c->length; at += 4096)
			plain.disk.image[c->at[1] + at + any(4096)] ^= 1;
		assert_all_told(&plain);
		memcpy(plain.disk.image + c->at[1], kept, c->length);
	}
}

static void the_super_block_has_a_copy(void **state)
{
	struct owners o;
	struct err e = { 0 };

	need();
	lose(&plain, 64 << 10, 4096);
	assert_all_told(&plain);
	lose(&plain, 64 * MIB, 4096);
	assert_int_equal(scene_find_range(&plain, 0, plain.disk.size, &o, &e), -EBADMSG);
	owners_done(&o);
	extent_set_done(&plain.lost);
	plain.disk.image[(64 << 10) + 0x90] ^= 1;
	assert_all_told(&plain);
	plain.disk.image[(64 << 10) + 0x90] ^= 1;
}

/* Tree blocks of one scene that are looked at, or once would have been: first copies. */
static uint64_t blocks[4096];

/* Finds them. How many? */
static size_t tree_blocks(const struct scene *s, uint32_t node)
{
	const uint8_t *fsid = s->disk.image + (64 << 10) + 0x20;
	size_t n = 0;

	for (size_t i = 0; i < s->n_chunks; i++) {
		const struct chunk *c = &s->chunks[i];

		for (uint64_t at = 0; c->metadata && at < c->length && n < ARRAY_SIZE(blocks);
		     at += node) {
			const uint8_t *p = s->disk.image + c->at[0] + at;
			const struct btrfs_disk_head *h = (const void *)p;

			if (memcmp(h->fsid, fsid, 16) == 0 &&
			    le64_get(h->bytenr) == c->logical + at)
				blocks[n++] = c->logical + at;
		}
	}
	return n;
}

static void lose_block(struct scene *s, uint64_t logical, uint32_t node)
{
	for (unsigned int i = 0; i < scene_chunk(s, logical)->copies; i++)
		lose(s, scene_at(s, logical, i), node);
}

struct tally {
	size_t refused, less, unnamed, same;
};

/* What is told is true, and it is said where something is missing. */
static void look(struct scene *s, size_t count, struct tally *t)
{
	bool nameless = false;
	struct owners o;
	struct err e = { 0 };
	const int r = scene_find_range(s, 0, s->disk.size, &o, &e);

	for (size_t i = 0; r >= 0 && i < o.count; i++) {
		if (o.items[i].path)
			assert_true_of(s, &o.items[i]);
		nameless |= !o.items[i].path;
	}
	if (r < 0) {
		assert_int_equal(r, -EBADMSG);
		assert_true(e.text[0]);
		t->refused++;
	} else {
		assert_adds_up(&o, s->disk.size);
		assert_true(o.incomplete || (o.count == count && !nameless));
		assert_true(!o.incomplete || o.lost.text[0]);
		t->less += o.incomplete;
		t->same += !o.incomplete;
		t->unnamed += nameless;
	}
	owners_done(&o);
}

static size_t count_all(struct scene *s)
{
	struct owners o;
	struct err e = { 0 };
	size_t n;

	assert_int_equal(scene_find_range(s, 0, s->disk.size, &o, &e), 0);
	n = o.count;
	owners_done(&o);
	return n;
}

static void what_is_told_without_a_tree_block_is_true(void **state)
{
	struct tally t = { 0 };
	size_t n, all;

	need();
	n = tree_blocks(&plain, 16384);
	assert_true(n > 50);
	all = count_all(&plain);
	for (size_t i = any(3); i < n; i += 3) {
		lose_block(&plain, blocks[i], 16384);
		look(&plain, all, &t);
		extent_set_done(&plain.lost);
	}
	/* names are mostly found by another way */
	assert_true(t.less > 15 && t.unnamed < t.less / 3);
}

static void without_the_first_trees_there_is_nothing(void **state)
{
	const struct btrfs_disk_super *d;
	struct tally t = { 0 };

	need();
	d = (const void *)(plain.disk.image + (64 << 10));
	lose_block(&plain, le64_get(d->root), 16384);
	look(&plain, 0, &t);
	extent_set_done(&plain.lost);
	lose_block(&plain, le64_get(d->chunk_root), 16384);
	look(&plain, 0, &t);
	extent_set_done(&plain.lost);
	assert_int_equal(t.refused, 2);
}

/* The same where many are lost, or read otherwise than they were written. */
static void what_is_told_without_many_tree_blocks_is_true(void **state)
{
	struct tally t = { 0 };
	size_t n, all;

	need();
	n = tree_blocks(&twice, 4096);
	all = count_all(&twice);
	for (unsigned int i = 0; i < 200; i++) {
		const bool flip = i % 2;
		uint64_t at[40];

		for (size_t k = 0; k < ARRAY_SIZE(at); k += 2) {
			const uint64_t block = blocks[any(n)], byte = any(4096);

			at[k] = scene_at(&twice, block, 0) + byte;
			at[k + 1] = scene_at(&twice, block, 1) + byte;
			if (!flip && k < i / 4)
				lose_block(&twice, block, 4096);
		}
		for (size_t k = 0; flip && k < ARRAY_SIZE(at); k++)
			twice.disk.image[at[k]] ^= 4;
		look(&twice, all, &t);
		for (size_t k = 0; flip && k < ARRAY_SIZE(at); k++)
			twice.disk.image[at[k]] ^= 4;
		extent_set_done(&twice.lost);
	}
	assert_true(t.less > 100 && t.same > 0);
	assert_all_told(&twice);
}

/* Bits flip in tree blocks that have no check value to tell it. */
static void flipped_bits_do_no_harm(void **state)
{
	size_t n, told = 0;

	need();
	n = tree_blocks(&once, 4096);
	assert_true(n > 10);
	for (unsigned int i = 0; i < 2000; i++) {
		const unsigned int flips = 1 + (unsigned int)any(6);
		uint64_t at[6];
		uint8_t was[6];
		struct owners o;
		struct err e = { 0 };

		for (unsigned int k = 0; k < flips; k++) {
			/* the head and the first keys, the items' data, a bit of the super block */
			at[k] = scene_at(&once, blocks[any(n)], 0) + any(k % 2 ? 4096 : 400);
			if (any(40) == 0)
				at[k] = (64 << 10) + 0x20 + any(4000);
			was[k] = once.disk.image[at[k]];
			once.disk.image[at[k]] = any(2) ? (uint8_t)any(256)
							: was[k] ^ (uint8_t)(1u << any(8));
		}
		told += scene_find_range(&once, any(once.disk.size / 2), once.disk.size / 2, &o,
					 &e) == 0;
		owners_done(&o);
		for (unsigned int k = flips; k-- > 0;)
			once.disk.image[at[k]] = was[k];
	}
	assert_true(told > 600);
	assert_all_told(&once);
}

/* ---- what is not understood -------------------------------------------------------------------------------------------------- */

static int find_in(const char *file, struct err *e)
{
	struct scene s = { 0 };
	struct owners o;
	int r;

	scene_load(&s, file);
	r = scene_find_range(&s, 0, s.disk.size, &o, e);
	owners_done(&o);
	scene_done(&s);
	return r;
}

static void stripes_over_several_devices_are_refused(void **state)
{
	static const char *const profiles[] = { "raid0", "raid1", "raid10", "raid5" };
	struct err e = { 0 };

	need();
	for (size_t i = 0; i < ARRAY_SIZE(profiles); i++) {
		run("cd %s && rm -f a b c d && truncate -s 200M a b c d && "
		    "mkfs.btrfs -q -f -d %s -m %s a b c d",
		    top, profiles[i], profiles[i]);
		assert_int_equal(find_in("a", &e), -ENOTSUP);
		assert_non_null(strstr(e.text, "devices"));
	}
}

static void features_that_are_not_known_are_refused(void **state)
{
	struct owners o;
	struct err e = { 0 };

	need();
	/* zones: of one without a check value */
	once.disk.image[(64 << 10) + 0xbd] ^= 0x10;
	assert_int_equal(scene_find_range(&once, 0, 4096, &o, &e), -ENOTSUP);
	once.disk.image[(64 << 10) + 0xbd] ^= 0x10;
	owners_done(&o);
	/* a dump of metadata */
	once.disk.image[(64 << 10) + 0x3c] ^= 2;
	assert_int_equal(scene_find_range(&once, 0, 4096, &o, &e), -ENOTSUP);
	once.disk.image[(64 << 10) + 0x3c] ^= 2;
	owners_done(&o);
}

/* What was synced last is in the log until the next commit. */
static void a_log_is_said(void **state)
{
	struct scene s = { 0 };
	struct owners o;
	struct err e = { 0 };
	int fd;

	need();
	run("cd %s && cp --sparse=always blake log && mount -o loop,commit=300 log mnt", top);
	fd = open_new("synced");
	write_at(fd, 20, 0, 8192);
	fsync(fd);
	close(fd);
	run("cd %s && cp --sparse=always log logged && umount mnt", top);
	scene_load(&s, "logged");
	assert_int_equal(scene_find_range(&s, 0, s.disk.size, &o, &e), 0);
	assert_true(o.incomplete);
	assert_non_null(strstr(o.lost.text, "log"));
	owners_done(&o);
	scene_done(&s);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------------ */

static int make_scenes(void **state)
{
	snprintf(top, sizeof(top), "%s/test-owners-btrfs-XXXXXX", scene_room());
	if (geteuid() != 0 ||
	    system("command -v mkfs.btrfs >/dev/null && grep -qw btrfs /proc/filesystems") != 0)
		return 0;
	assert_non_null(mkdtemp(top));
	scene_make(&plain, "plain", 400 * MIB, "", build_all);
	scene_make(&twice, "twice", 200 * MIB, "--mixed -n 4096 -d dup -m dup --csum sha256",
		   build_few);
	scene_make(&once, "once", 200 * MIB, "-n 4096 -d single -m single --csum xxhash",
		   build_few);
	scene_make(&blake, "blake", 200 * MIB, "-d single -m single --csum blake2", build_few);
	ready = true;
	return 0;
}

static int remove_scenes(void **state)
{
	scene_done(&plain);
	scene_done(&twice);
	scene_done(&once);
	scene_done(&blake);
	if (ready)
		run("rm -rf --one-file-system %s", top);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_is_told_as_the_kernel_maps_it),
		cmocka_unit_test(what_is_told_has_the_bytes_of_the_file),
		cmocka_unit_test(parts_are_told_as_the_whole),
		cmocka_unit_test(a_part_of_a_compressed_extent_is_all_that_it_holds),
		cmocka_unit_test(the_first_copies_of_all_tree_blocks_may_be_lost_or_damaged),
		cmocka_unit_test(the_super_block_has_a_copy),
		cmocka_unit_test(what_is_told_without_a_tree_block_is_true),
		cmocka_unit_test(without_the_first_trees_there_is_nothing),
		cmocka_unit_test(what_is_told_without_many_tree_blocks_is_true),
		cmocka_unit_test(flipped_bits_do_no_harm),
		cmocka_unit_test(stripes_over_several_devices_are_refused),
		cmocka_unit_test(features_that_are_not_known_are_refused),
		cmocka_unit_test(a_log_is_said),
	};

	return cmocka_run_group_tests(tests, make_scenes, remove_scenes);
}
