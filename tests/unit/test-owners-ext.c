/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose bytes of an ext2, ext3 or ext4: against what the kernel and debugfs say, and with bytes lost and damaged. Root. */
#include "tests/unit/owners-ext-check.h"

static const struct scene_plan plans[] = {
	/* all that mkfs has by default */
	{ "ext4", "-O orphan_file", UINT64_C(160) << 20, 4096, 3000, 3000, true },
	/* what it has seldom */
	{ "ext4",
	  "-O inline_data,ea_inode,meta_bg,^resize_inode,sparse_super2 -I 512 -g 8192 -N 8192",
	  UINT64_C(160) << 20, 1024, 3000, 50000, true },
	{ "ext4", "-O bigalloc,^metadata_csum,uninit_bg,^64bit -C 8192 -N 8192 -I 128",
	  UINT64_C(96) << 20, 2048, 1500, 900, true },
	{ "ext3", "-g 8192 -N 8192 -I 128", UINT64_C(96) << 20, 1024, 3000, 500, false },
	{ "ext2", "-O ^filetype,^dir_index -r 1 -N 8192", UINT64_C(96) << 20, 1024, 2000, 500,
	  false },
};
#define SCENES ARRAY_SIZE(plans)
static struct scene scenes[SCENES];

static unsigned int lost_inodes;

static void all_of_it_is_told_as_the_kernel_maps_it(void **state)
{
	for (size_t i = 0; i < SCENES; i++) {
		const struct scene *s = &scenes[i];
		struct pieces told = { 0 };
		struct owners o;
		struct err e = { 0 };
		uint64_t values;

		assert_int_equal(scene_find_all(&s->disk, NULL, &o, &e), 0);
		if (o.incomplete)
			fail_msg("%zu: lost %s", i, o.lost.text);
		assert_false(o.more);
		values = told_pieces(s, &o, &told);
		assert_same_pieces(&told, &s->truth);
		assert_named(s, &o);
		/* two files have the same one */
		assert_int_equal(values, strstr(plans[i].options, "ea_inode")
						 ? 2 * ROUND_UP(plans[i].value, s->block)
						 : 0);
		pieces_done(&told);
		owners_done(&o);
	}
}

/* The scenes have what they are for, or the test above says less than it seems to. */
static void everything_occurs(void **state)
{
	for (size_t i = 0; i < SCENES; i++) {
		const struct scene *s = &scenes[i];
		uint64_t kinds[OWNER_MAP + 1] = { 0 }, shared = 0;

		for (size_t n = 0; n < s->truth.count; n++) {
			const struct piece *t = &s->truth.items[n];

			/* but for inodes */
			if (t->kind != OWNER_MAP || t->at % s->block == 0)
				kinds[t->kind] += DIV_ROUND_UP(t->length, s->block);
			shared += n && t[-1].at == t->at;
		}
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
			if (!kinds[k] &&
			    !(k == OWNER_ATTRIBUTES && strstr(plans[i].options, "512")))
				fail_msg("%zu: none of kind %zu", i, k);
		}
		assert_true(shared || strstr(plans[i].options, "512"));
		/* blocks of maps, and blocks of names */
		assert_true(kinds[OWNER_MAP] > 4 && kinds[OWNER_DIRECTORY] > 60);
	}
}

/* ---- stretches ---------------------------------------------------------------------------------------- */

static void check_stretches(const struct scene *s, const struct owners *all, unsigned int n)
{
	_cleanup_extents_ struct extent_set wanted = { 0 };
	struct pieces expected = { 0 }, told = { 0 };
	struct owners o;
	struct err e = { 0 };

	scene_stretches(all, n + 1, &wanted);
	assert_int_equal(scene_find(&s->disk, &wanted, NULL, &o, &e), 0);
	assert_named(s, &o);
	cut(all, &wanted, &expected);
	for (size_t i = 0; i < o.count; i++) {
		const struct owner *x = &o.items[i];
		const struct piece p = { x->at, x->inode, x->kind, x->offset, x->length };

		pieces_add(&told, &p);
	}
	pieces_sort(&told);
	assert_same_pieces(&told, &expected);
	pieces_done(&expected);
	pieces_done(&told);
	owners_done(&o);
}

static void stretches_are_told_as_the_same_cut_out_of_all(void **state)
{
	for (size_t i = 0; i < SCENES; i++) {
		struct owners all;
		struct err e = { 0 };

		assert_int_equal(scene_find_all(&scenes[i].disk, NULL, &all, &e), 0);
		for (unsigned int n = 0; n < 8; n++)
			check_stretches(&scenes[i], &all, n);
		owners_done(&all);
	}
}

/* ---- lost bytes --------------------------------------------------------------------------------------- */

static void check_with_lost(const struct scene *s, const struct extent_set *lost)
{
	_cleanup_extents_ struct extent_set blocks = { 0 };
	struct owners o;
	struct err e = { 0 };

	/* a byte that is lost costs its block */
	assert_int_equal(extent_set_align(lost, s->block, s->disk.size, &blocks), 0);
	assert_int_equal(scene_find_all(&s->disk, lost, &o, &e), 0);
	assert_true_pieces(s, &o);
	assert_rest_told(s, &blocks, &o);
	assert_true(o.incomplete || !tables_lost(s, lost));
	assert_true(!o.incomplete || o.lost.text[0]);
	owners_done(&o);
}

static void what_is_told_with_bytes_lost_is_true(void **state)
{
	static const uint64_t lengths[] = { 1, 4096, 32768, 131072 };

	for (unsigned int n = 0; n < 10 * SCENES; n++) {
		const struct scene *s = &scenes[n % SCENES];
		_cleanup_extents_ struct extent_set lost = { 0 };

		for (unsigned int i = 0; i <= n / SCENES; i++) {
			const struct piece *near = &s->truth.items[any(s->truth.count)];
			const uint64_t length = lengths[any(ARRAY_SIZE(lengths))];
			const uint64_t at = ROUND_DOWN(near->at + any(near->length), length);

			/* the groups' descriptors have a test of their own */
			if (at >= 131072)
				assert_int_equal(extent_set_add(&lost, at, length), 0);
		}
		extent_set_normalise(&lost);
		check_with_lost(s, &lost);
	}
}

/* The whole of the first group's beginning: a copy of the super block, and descriptors that are not of today. */
static void copies_stand_in_for_super_block_and_descriptors(void **state)
{
	struct extent start[] = { { 1024, 1024 }, { 0, 8192 }, { 0, 131072 } };

	for (size_t i = 0; i < SCENES * ARRAY_SIZE(start); i++) {
		const struct scene *s = &scenes[i % SCENES];
		const struct extent_set lost = { .items = &start[i / SCENES], .count = 1 };
		struct owners o;
		struct err e = { 0 };

		/* that one has one group only */
		if (strstr(plans[i % SCENES].options, "bigalloc")) {
			assert_int_equal(scene_find_all(&s->disk, &lost, &o, &e), -EBADMSG);
			assert_non_null(strstr(e.text, "super block"));
			owners_done(&o);
			continue;
		}
		assert_int_equal(scene_find_all(&s->disk, &lost, &o, &e), 0);
		assert_true(o.incomplete);
		assert_non_null(strstr(o.lost.text, "super block"));
		owners_done(&o);
		check_with_lost(s, &lost);
	}
}

static void lost_descriptors_are_taken_from_copies(void **state)
{
	for (size_t i = 0; i < SCENES; i++) {
		const struct scene *s = &scenes[i];
		struct extent at = { s->block == 1024 ? 2048 : s->block, s->block };
		const struct extent_set lost = { .items = &at, .count = 1 };
		struct owners o;
		struct err e = { 0 };

		assert_int_equal(scene_find_all(&s->disk, &lost, &o, &e), 0);
		assert_non_null(strstr(o.lost.text, "descriptors"));
		if (strstr(plans[i].options, "bigalloc")) {
			assert_int_equal(o.count, 0);
		} else {
			assert_rest_told(s, &lost, &o);
		}
		owners_done(&o);
	}
}

static uint64_t inode_of(const struct scene *s, const char *path)
{
	return scene_named(&s->disk, path)->inode;
}

/* One of its pieces, but not the inode itself where there is another. */
static struct extent piece_of(const struct scene *s, uint64_t inode, enum owner_kind kind)
{
	struct extent x = { 0 };

	for (size_t i = 0; i < s->truth.count; i++) {
		const struct piece *t = &s->truth.items[i];

		if (t->inode == inode && t->kind == kind && x.length < t->length)
			x = (struct extent){ t->at, t->length };
	}
	assert_true(x.length);
	return x;
}

/* Where the inode is. */
static uint64_t place_of(const struct scene *s, uint64_t inode)
{
	for (size_t n = 0; n < s->truth.count; n++) {
		const struct piece *t = &s->truth.items[n];

		if (t->inode == inode && t->kind == OWNER_MAP && t->length < 1024)
			return t->at;
	}
	fail_msg("no inode %lu", inode);
	return 0;
}

static void check_lost_inode(const struct scene *s, const char *path)
{
	const uint64_t inode = inode_of(s, path);
	struct extent block = { ROUND_DOWN(place_of(s, inode), s->block), s->block };
	const struct extent_set lost = { .items = &block, .count = 1 };
	struct owners o;
	struct err e = { 0 };
	bool found = false;

	/* nor has anything a name without these */
	if (extent_set_overlaps(&lost, place_of(s, 2), 1) ||
	    (strlen(path) > 4 && extent_set_overlaps(&lost, place_of(s, inode_of(s, "/few")), 1)))
		return;
	assert_int_equal(scene_find(&s->disk, &lost, &lost, &o, &e), 0);
	assert_true(o.incomplete);
	assert_non_null(strstr(o.lost.text, "inode"));
	for (size_t n = 0; n < o.count; n++) {
		assert_int_equal(o.items[n].kind, OWNER_MAP);
		if (o.items[n].inode != inode)
			continue;
		found = true;
		assert_true(o.items[n].path && scene_has(&s->disk, inode, o.items[n].path));
	}
	assert_true(found);
	owners_done(&o);
	lost_inodes++;
}

static void the_file_of_a_lost_inode_is_named(void **state)
{
	static const char *const paths[] = { "/few", "/short-link", "/few/first-name", "/pieces" };

	for (size_t i = 0; i < SCENES * ARRAY_SIZE(paths); i++)
		check_lost_inode(&scenes[i % SCENES], paths[i / SCENES]);
	/* not all of these are beside the root directory's */
	assert_true(lost_inodes > SCENES * 2);
}

/* Names of others are still known, those of what stood there are not; what they name is still told. */
static void a_lost_block_of_a_directory_costs_its_names_only(void **state)
{
	for (size_t i = 0; i < SCENES; i++) {
		const struct scene *s = &scenes[i];
		struct extent at = piece_of(s, inode_of(s, "/names"), OWNER_DIRECTORY);
		const struct extent_set lost = { .items = &at, .count = 1 };
		size_t named = 0, nameless = 0;
		struct owners o;
		struct err e = { 0 };

		at.start += at.length - s->block;
		at.length = s->block;
		assert_int_equal(scene_find_all(&s->disk, &lost, &o, &e), 0);
		assert_true(o.incomplete);
		assert_non_null(strstr(o.lost.text, "directory"));
		assert_rest_told(s, &lost, &o);
		for (size_t n = 0; n < o.count; n++) {
			const struct name *x = scene_name(&s->disk, o.items[n].inode);

			named += o.items[n].path != NULL;
			nameless += x && x->path && !o.items[n].path;
		}
		assert_true(nameless < 200 && named > 500);
		owners_done(&o);
	}
}

/* ---- damaged and strange ones ----------------------------------------------------------------------------- */

/* In the super block, with its check value as it has to be. */
static void super_set(struct scene *s, size_t at, uint32_t value)
{
	uint8_t *sb = s->disk.image + 1024;
	const le32_t v = le32(value);
	le32_t check;

	memcpy(sb + at, &v, sizeof(v));
	check = le32(ext2fs_crc32c_le(UINT32_MAX, sb, 1020));
	if (sb[0x65] & 4)
		memcpy(sb + 1020, &check, sizeof(check));
}

static uint32_t super_get(const struct scene *s, size_t at)
{
	le32_t v;

	memcpy(&v, s->disk.image + 1024 + at, sizeof(v));
	return le32_get(v);
}

#define INCOMPATIBLE_AT 0x60
#define READ_ONLY_AT	0x64

static void unknown_features_are_refused(void **state)
{
	static const struct {
		size_t at;
		uint32_t bit;
	} features[] = {
		{ INCOMPATIBLE_AT, 0x1 },      { INCOMPATIBLE_AT, 0x8 },
		{ INCOMPATIBLE_AT, 0x1000 },   { READ_ONLY_AT, 0x80 },
		{ INCOMPATIBLE_AT, 0x800000 }, { READ_ONLY_AT, 0x800000 },
	};

	for (size_t i = 0; i < SCENES * ARRAY_SIZE(features); i++) {
		struct scene *s = &scenes[i % SCENES];
		const size_t at = features[i / SCENES].at;
		const uint32_t old = super_get(s, at);
		struct owners o;
		struct err e = { 0 };

		super_set(s, at, old | features[i / SCENES].bit);
		assert_int_equal(scene_find_all(&s->disk, NULL, &o, &e), -ENOTSUP);
		assert_non_null(strstr(e.text, "features"));
		super_set(s, at, old);
		owners_done(&o);
	}
}

static void a_journal_that_is_not_replayed_is_said(void **state)
{
	for (size_t i = 0; i < 4; i++) {
		struct scene *s = &scenes[i];
		const uint32_t old = super_get(s, INCOMPATIBLE_AT);
		struct owners o;
		struct err e = { 0 };

		super_set(s, INCOMPATIBLE_AT, old | 0x4);
		assert_int_equal(scene_find_all(&s->disk, NULL, &o, &e), 0);
		assert_true(o.incomplete);
		assert_non_null(strstr(o.lost.text, "journal"));
		super_set(s, INCOMPATIBLE_AT, old);
		owners_done(&o);
	}
}

static void a_changed_inode_is_not_believed(void **state)
{
	/* those with check values */
	for (size_t i = 0; i < 2; i++) {
		struct scene *s = &scenes[i];
		const uint64_t inode = inode_of(s, "/few/first-name");
		struct owners o;
		struct err e = { 0 };
		uint64_t at = 0;

		for (size_t n = 0; n < s->truth.count && !at; n++) {
			if (s->truth.items[n].inode == inode && s->truth.items[n].kind == OWNER_MAP)
				at = s->truth.items[n].at;
		}
		/* its first extent's block */
		s->disk.image[at + 60] ^= 1;
		assert_int_equal(scene_find_all(&s->disk, NULL, &o, &e), 0);
		s->disk.image[at + 60] ^= 1;
		assert_true(o.incomplete);
		assert_non_null(strstr(o.lost.text, "inode"));
		for (size_t n = 0; n < o.count; n++)
			assert_true(o.items[n].inode != inode || o.items[n].kind == OWNER_MAP);
		assert_true_pieces(s, &o);
		owners_done(&o);
	}
}

static void what_is_not_one_is_refused(void **state)
{
	struct scene_disk d = { .type = "ext4", .size = 8 << 20 };
	struct owners o;
	struct err e = { 0 };

	d.image = calloc(1, d.size);
	assert_non_null(d.image);
	assert_int_equal(scene_find_all(&d, NULL, &o, &e), -EBADMSG);
	owners_done(&o);
	d.size = 512;
	assert_int_equal(scene_find_all(&d, NULL, &o, &e), -EBADMSG);
	owners_done(&o);
	d.size = 0;
	assert_int_equal(scene_find(&d, &(struct extent_set){ 0 }, NULL, &o, &e), -EBADMSG);
	owners_done(&o);
	free(d.image);
}

/* No kernel needed: what is in use but no file's. */
static void quota_and_orphan_files_are_nobodys(void **state)
{
	struct scene_disk d = { 0 };
	struct owners o;
	struct err e = { 0 };

	scene_disk_begin(&d, "/var/tmp", "ext", "ext4", 16 << 20);
	scene_run("mkfs.ext4 -q -F -O quota,project,orphan_file %s", d.file);
	scene_map(&d);
	assert_int_equal(scene_find_all(&d, NULL, &o, &e), 0);
	assert_false(o.incomplete);
	assert_true(o.count >= 4);
	for (size_t i = 0; i < o.count; i++)
		assert_true(o.items[i].inode == 2 || o.items[i].inode == 11);
	owners_done(&o);
	scene_disk_end(&d);
}

/* Every block of the map of /sparse leads to itself only, on each level. */
static void maps_in_circles_end(void **state)
{
	struct scene *s = &scenes[SCENES - 1];
	const uint64_t inode = inode_of(s, "/sparse");
	const struct extent last = { s->disk.size - s->block, s->block };
	_cleanup_free_ uint8_t *image = malloc(s->disk.size);
	struct owners o;
	struct err e = { 0 };

	assert_non_null(image);
	memcpy(image, s->disk.image, s->disk.size);
	for (size_t i = 0; i < s->truth.count; i++) {
		const struct piece *t = &s->truth.items[i];

		if (t->inode != inode || t->kind != OWNER_MAP || t->length < s->block)
			continue;
		for (uint64_t at = t->at; at < t->at + t->length; at += 4) {
			const le32_t self = le32((uint32_t)(at / s->block));

			memcpy(s->disk.image + at, &self, sizeof(self));
		}
	}
	assert_int_equal(scene_find_at(&s->disk, last, NULL, &o, &e), 0);
	owners_done(&o);
	memcpy(s->disk.image, image, s->disk.size);
}

/* Small ones without check values, so that what is changed is looked at. */
static void changed_tables_do_no_harm(void **state)
{
	static const struct scene_plan small[] = {
		{ "ext4", "-O inline_data,ea_inode,^has_journal,^metadata_csum,^uninit_bg -N 512",
		  UINT64_C(6) << 20, 1024, 100, 3000, true },
		{ "ext2", "-N 512", UINT64_C(6) << 20, 1024, 100, 500, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
		struct scene s = { 0 };

		scene_make(&s, &small[i]);
		for (unsigned int n = 0; n < 2000; n++) {
			const struct piece *near = &s.truth.items[any(s.truth.count)];
			const bool head = any(8) == 0;
			const uint64_t at = head ? any(16384) : near->at + any(near->length);
			const uint8_t old = s.disk.image[at];
			struct owners o;
			struct err e = { 0 };
			int r;

			if (!head && near->kind == OWNER_DATA)
				continue;
			s.disk.image[at] ^= (uint8_t)(1 + any(255));
			r = scene_find_all(&s.disk, NULL, &o, &e);
			assert_true(r == 0 || ((r == -EBADMSG || r == -ENOTSUP) && e.text[0]));
			s.disk.image[at] = old;
			owners_done(&o);
		}
		scene_done(&s);
	}
}

struct failing {
	struct scene_reader scene;
	uint64_t reads; /* left */
};

static int failing_read(void *ctx, void *buf, size_t len, uint64_t offset, struct err *e)
{
	struct failing *f = ctx;

	if (!f->reads)
		return err_set(e, -ENODEV, "gone");
	f->reads--;
	return scene_read(&f->scene, buf, len, offset, e);
}

/* Whichever read it is of. */
static void an_error_of_the_device_ends_it(void **state)
{
	for (size_t i = 0; i < SCENES; i++) {
		int r = -ENODEV;

		for (uint64_t reads = 0; r < 0; reads += 1 + reads / 8) {
			struct failing f = { { &scenes[i].disk, NULL }, reads };
			const struct owners_io io = { failing_read, &f, scenes[i].disk.size };
			struct extent all = { 0, scenes[i].disk.size };
			const struct extent_set wanted = { .items = &all, .count = 1 };
			struct owners o;
			struct err e = { 0 };

			r = owners_find("ext4", &io, &wanted, NULL, &o, &e);
			if (r < 0) {
				assert_int_equal(r, -ENODEV);
				assert_string_equal(e.text, "gone");
			}
			owners_done(&o);
			assert_true(reads < 100000);
		}
	}
}

static int set_up(void **state)
{
	for (size_t i = 0; i < SCENES; i++)
		scene_make(&scenes[i], &plans[i]);
	return 0;
}

static int tear_down(void **state)
{
	for (size_t i = 0; i < SCENES; i++)
		scene_done(&scenes[i]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_it_is_told_as_the_kernel_maps_it),
		cmocka_unit_test(everything_occurs),
		cmocka_unit_test(stretches_are_told_as_the_same_cut_out_of_all),
		cmocka_unit_test(what_is_told_with_bytes_lost_is_true),
		cmocka_unit_test(copies_stand_in_for_super_block_and_descriptors),
		cmocka_unit_test(lost_descriptors_are_taken_from_copies),
		cmocka_unit_test(the_file_of_a_lost_inode_is_named),
		cmocka_unit_test(a_lost_block_of_a_directory_costs_its_names_only),
		cmocka_unit_test(unknown_features_are_refused),
		cmocka_unit_test(a_journal_that_is_not_replayed_is_said),
		cmocka_unit_test(a_changed_inode_is_not_believed),
		cmocka_unit_test(what_is_not_one_is_refused),
		cmocka_unit_test(quota_and_orphan_files_are_nobodys),
		cmocka_unit_test(an_error_of_the_device_ends_it),
		cmocka_unit_test(maps_in_circles_end),
		cmocka_unit_test(changed_tables_do_no_harm),
	};

	if (geteuid() != 0 || access("/dev/loop-control", F_OK) < 0) {
		puts("skipped: needs root and loop devices");
		return 77;
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
