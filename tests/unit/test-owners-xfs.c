/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose bytes of an xfs: against the kernel's reverse map, and with bytes lost and damaged. Root, xfsprogs. */
#include <ext2fs/ext2fs.h>

#include "lib/base/le.h"
#include "tests/unit/owners-xfs-check.h"

/* Large blocks and all that mkfs has by default; and what it has seldom, on a disk without two free blocks together. */
static struct scene plain, odd;
/* A small one, as it is while it is frozen. */
static struct scene frozen;

static void check_all(const struct scene *s)
{
	struct bits told = { 0 };
	struct owners o;
	struct err e = { 0 };

	assert_int_equal(scene_find_all(&s->disk, NULL, &o, &e), 0);
	assert_false(o.incomplete || o.more);
	told_bits(s, &o, &told);
	assert_same_bits(&told, &s->truth);
	assert_named(s, &o);
	bits_done(&told);
	owners_done(&o);
}

static void all_of_it_is_told_as_the_kernel_maps_it(void **state)
{
	check_all(&plain);
	check_all(&odd);
	check_all(&frozen);
}

/* Each inode with a name holds as many bytes of itself as an inode has, no other any. */
static void check_inodes(const struct scene *s, uint64_t bytes)
{
	uint64_t told = 0, files = 0, total = 0;
	struct owners o;
	struct err e = { 0 };
	uint64_t *sizes;

	assert_int_equal(scene_find(&s->disk, &s->inodes, NULL, &o, &e), 0);
	sizes = calloc(s->disk.n_names, sizeof(*sizes));
	assert_non_null(sizes);
	for (size_t i = 0; i < o.count; i++) {
		const struct name *n = scene_name(&s->disk, o.items[i].inode);

		assert_non_null(n);
		assert_int_equal(o.items[i].at / bytes,
				 (o.items[i].at + o.items[i].length - 1) / bytes);
		sizes[n - s->disk.names] += o.items[i].length;
		told += o.items[i].length;
	}
	for (size_t i = 0; i < s->disk.n_names; i++) {
		files += !i || s->disk.names[i].inode != s->disk.names[i - 1].inode;
		total += sizes[i];
		assert_true(sizes[i] == 0 || sizes[i] == bytes);
	}
	assert_int_equal(told, files * bytes);
	assert_int_equal(total, told);
	assert_int_equal(extent_set_total(&s->inodes) - told, extent_set_total(&o.others));
	free(sizes);
	owners_done(&o);
}

static void an_inode_in_use_belongs_to_its_file(void **state)
{
	check_inodes(&plain, 1024);
	check_inodes(&odd, 512);
	check_inodes(&frozen, 512);
}

static void assert_every_kind(const struct scene *s, const struct owners *o)
{
	uint64_t within[OWNER_MAP + 1] = { 0 }, without[OWNER_MAP + 1] = { 0 };

	for (size_t i = 0; i < o->count; i++) {
		uint64_t *kinds = in_inodes(s, &o->items[i]) ? within : without;

		kinds[o->items[i].kind]++;
	}
	for (size_t i = 0; i < ARRAY_SIZE(within); i++) {
		assert_true(without[i]);
		assert_true(within[i] || i == OWNER_DATA);
	}
}

/* The scenes have what they are for, or the test above says less than it seems to. */
static void everything_occurs(void **state)
{
	uint64_t maps = 0, torn = 0, sparse = 0, nodes = 0;
	struct owners o;
	struct err e = { 0 };

	assert_int_equal(scene_find_all(&plain.disk, NULL, &o, &e), 0);
	assert_every_kind(&plain, &o);
	owners_done(&o);
	assert_int_equal(scene_find_all(&odd.disk, NULL, &o, &e), 0);
	assert_every_kind(&odd, &o);
	for (size_t i = 0; i < o.count; i++) {
		const struct owner *w = &o.items[i];

		if (w->kind == OWNER_MAP && !in_inodes(&odd, w) && !strcmp(w->path, "/pieces"))
			maps += w->length / 1024;
		torn += w->kind == OWNER_DIRECTORY && !in_inodes(&odd, w) && w->length < 65536;
	}
	extent_for_each(x, &odd.inodes)
		sparse += x->length % 32768 != 0;
	for (const uint8_t *p = odd.disk.image; p < odd.disk.image + odd.disk.size; p += 1024)
		nodes += !memcmp(p, "IAB3\0\1", 6);
	/* a group's tree of more than one block; a root of so many pointers does not fit an inode; a block of a directory in several places; chunks with holes */
	assert_true(nodes);
	assert_true(maps > 21);
	assert_true(torn > 20);
	assert_true(sparse > 5);
	owners_done(&o);
}

static void check_stretches(const struct scene *s)
{
	struct owners all;
	struct err e = { 0 };

	assert_int_equal(scene_find_all(&s->disk, NULL, &all, &e), 0);
	for (unsigned int n = 0; n < 12; n++) {
		_cleanup_extents_ struct extent_set wanted = { 0 };
		struct bits expected = { 0 }, told = { 0 };
		struct owners o;

		scene_stretches(&all, n + 1, &wanted);
		assert_int_equal(scene_find(&s->disk, &wanted, NULL, &o, &e), 0);
		assert_named(s, &o);
		extent_for_each(w, &wanted) {
			for (size_t i = 0; i < all.count; i++) {
				struct owner x = all.items[i];
				const uint64_t at = MAX(x.at, w->start);
				const uint64_t end = MIN(x.at + x.length, extent_end(w));

				if (at >= end)
					continue;
				x.offset += at - x.at;
				x.at = at;
				x.length = end - at;
				owner_bits(&x, &expected);
			}
		}
		for (size_t i = 0; i < o.count; i++)
			owner_bits(&o.items[i], &told);
		bits_sort(&expected);
		bits_sort(&told);
		assert_same_bits(&told, &expected);
		bits_done(&expected);
		bits_done(&told);
		owners_done(&o);
	}
	owners_done(&all);
}

static void stretches_are_told_as_the_same_cut_out_of_all(void **state)
{
	check_stretches(&plain);
	check_stretches(&odd);
}

/* ---- bytes lost ----------------------------------------------------------------------------------------- */

static void what_is_told_with_bytes_lost_is_true(void **state)
{
	const struct scene *const scenes[] = { &plain, &odd, &frozen };

	for (unsigned int n = 0; n < 90; n++) {
		const struct scene *s = scenes[n % 3];
		_cleanup_extents_ struct extent_set lost = { 0 };
		struct owners o;
		struct err e = { 0 };

		assert_int_equal(scene_find_all(&s->disk, NULL, &o, &e), 0);
		lose(&o, 1 + n / 6, n % 2, &lost);
		check_lost(s, &lost, n % 2);
		owners_done(&o);
	}
}

/* All of @x is this file's. @lost: and it cannot be read. Returns: some of the tables could not be. */
static bool assert_owner(const struct scene *s, struct extent x, bool lost, enum owner_kind kind,
			 const char *path)
{
	const struct extent_set set = { .items = &x, .count = 1 };
	struct owners o;
	struct err e = { 0 };
	bool incomplete;

	assert_int_equal(scene_find(&s->disk, &set, lost ? &set : NULL, &o, &e), 0);
	assert_int_equal(o.count, 1);
	assert_int_equal(o.items[0].kind, kind);
	assert_string_equal(o.items[0].path, path);
	incomplete = o.incomplete;
	owners_done(&o);
	return incomplete;
}

static void a_group_whose_head_is_lost_is_said(void **state)
{
	struct extent head = { plain.disk.size / 4 * 2 + 1024, 512 };
	const struct extent_set lost = { .items = &head, .count = 1 };
	struct owners o;
	struct err e = { 0 };

	check_lost(&plain, &lost, true);
	assert_int_equal(scene_find_all(&plain.disk, &lost, &o, &e), 0);
	assert_true(o.incomplete);
	assert_string_equal(o.lost.text, "inodes of group 2");
	owners_done(&o);
}

static void the_file_of_a_lost_inode_is_named(void **state)
{
	const struct extent inode = stretch_of(&plain, "/pieces", OWNER_MAP, true);

	assert_true(assert_owner(&plain, inode, true, OWNER_MAP, "/pieces"));
}

static void a_lost_piece_of_the_map_is_the_files_and_the_rest_is_told(void **state)
{
	struct extent map = stretch_of(&plain, "/pieces", OWNER_MAP, false);
	struct extent_set lost = { .items = &map, .count = 1 };
	const uint64_t inode = scene_named(&plain.disk, "/pieces")->inode;
	uint64_t whole = 0, left = 0;
	bool incomplete = false;
	struct owners o;
	struct err e = { 0 };

	map.length = 4096;
	(void)assert_owner(&plain, map, true, OWNER_MAP, "/pieces");
	for (unsigned int n = 0; n < 2; n++) {
		assert_int_equal(scene_find_all(&plain.disk, n ? &lost : NULL, &o, &e), 0);
		incomplete = o.incomplete && strstr(o.lost.text, "where the blocks of inode");
		for (size_t i = 0; i < o.count; i++) {
			if (o.items[i].inode == inode && o.items[i].kind == OWNER_DATA)
				*(n ? &left : &whole) += o.items[i].length;
		}
		owners_done(&o);
	}
	assert_true(left && left < whole && whole - left <= UINT64_C(251) * 4096);
	assert_true(incomplete);
}

/* Which bytes of the image are @data? */
static uint64_t place_of(const struct scene *s, const char *data)
{
	const uint8_t *p = memmem(s->disk.image, s->disk.size, data, strlen(data));

	assert_non_null(p);
	return (uint64_t)(p - s->disk.image);
}

/* All names of a directory are read at once, and one by one where that fails. */
static void with_a_block_of_names_lost_the_others_are_known(void **state)
{
	/* one of those that hold something; "names" has no other than these and empty ones */
	struct extent block = { ROUND_DOWN(place_of(&plain, "00000001250"), 4096), 4096 };
	const struct extent_set lost = { .items = &block, .count = 1 };
	unsigned int unnamed = 0, named_ones = 0;
	struct owners o;
	struct err e = { 0 };

	assert_int_equal(scene_find_all(&plain.disk, &lost, &o, &e), 0);
	assert_true(o.incomplete);
	assert_non_null(strstr(o.lost.text, "names in the directory"));
	for (size_t i = 0; i < o.count; i++) {
		const struct owner *w = &o.items[i];

		if (w->kind != OWNER_DATA)
			continue;
		if (!w->path) {
			assert_non_null(strstr(scene_name(&plain.disk, w->inode)->path, "/names/"));
			unnamed++;
		} else if (!strncmp(w->path, "/names/", 7)) {
			named_ones++;
		}
	}
	assert_true(unnamed && unnamed <= 3);
	assert_true(named_ones > 30);
	owners_done(&o);
}

static void lost_data_leaves_all_tables_known(void **state)
{
	const struct extent data = stretch_of(&plain, "/large-tag", OWNER_ATTRIBUTES, false);

	assert_false(assert_owner(&plain, data, true, OWNER_ATTRIBUTES, "/large-tag"));
}

static void both_files_of_a_shared_stretch_are_told(void **state)
{
	struct extent data = stretch_of(&plain, "/shared", OWNER_DATA, false);
	struct owners o;
	struct err e = { 0 };

	data.length = 1000;
	assert_int_equal(scene_find_at(&plain.disk, data, NULL, &o, &e), 0);
	assert_int_equal(o.count, 2);
	assert_true(!strcmp(o.items[0].path, "/shared") || !strcmp(o.items[1].path, "/shared"));
	assert_true(!strcmp(o.items[0].path, "/clone") || !strcmp(o.items[1].path, "/clone"));
	owners_done(&o);
}

static void without_its_super_block_nothing_is_told(void **state)
{
	struct extent head = { 0, 512 };
	const struct extent_set lost = { .items = &head, .count = 1 };
	struct owners o;
	struct err e = { 0 };

	assert_int_equal(scene_find_all(&plain.disk, &lost, &o, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "super block"));
	owners_done(&o);
}

/* ---- bytes changed --------------------------------------------------------------------------------------- */

static void put_crc(uint8_t *p, size_t len, size_t at)
{
	le32_t crc = le32(0);

	memcpy(p + at, &crc, sizeof(crc));
	crc = le32(~ext2fs_crc32c_le(UINT32_MAX, p, len));
	memcpy(p + at, &crc, sizeof(crc));
}

/* What begins with these bytes is so long and has its check value there. */
static const struct table {
	char magic[5];
	size_t bytes, crc_at;
} tables[] = {
	{ "XFSB", 512, 224 }, { "XAGI", 512, 312 }, { "IAB3", 4096, 52 }, { "BMA3", 4096, 64 },
	{ "XDB3", 4096, 4 },  { "XDD3", 4096, 4 },  { "IN", 512, 100 },
};

static const struct table *table_at(const uint8_t *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		if (!memcmp(p, tables[i].magic, strlen(tables[i].magic)))
			return &tables[i];
	}
	return NULL;
}

static void check_changed(struct scene *s, uint64_t at, const struct table *t, bool mend)
{
	uint8_t before[4096];
	struct owners o;
	struct err e = { 0 };
	int r;

	memcpy(before, s->disk.image + at, t->bytes);
	for (uint64_t n = 1 + any(4); n; n--)
		s->disk.image[at + any(any(2) ? t->bytes : 256)] ^= (uint8_t)(1 + any(255));
	if (mend)
		put_crc(s->disk.image + at, t->bytes, t->crc_at);
	r = scene_find_all(&s->disk, NULL, &o, &e);
	assert_true(r == 0 || r == -EBADMSG || r == -ENOTSUP);
	/* of others there are copies, and what was freed */
	if (!mend && memcmp(before, s->disk.image + at, t->bytes) != 0 && !strcmp(t->magic, "XAGI"))
		assert_true(o.incomplete);
	owners_done(&o);
	memcpy(s->disk.image + at, before, t->bytes);
}

/* Bytes of @inode that are told, of this kind. */
static uint64_t bytes_told(const struct scene *s, uint64_t inode, enum owner_kind kind)
{
	uint64_t bytes = 0;
	struct owners o;
	struct err e = { 0 };

	assert_int_equal(scene_find_all(&s->disk, NULL, &o, &e), 0);
	assert_false(o.incomplete);
	for (size_t i = 0; i < o.count; i++) {
		if (o.items[i].inode == inode && o.items[i].kind == kind)
			bytes += o.items[i].length;
	}
	owners_done(&o);
	return bytes;
}

/* The kernel here may know neither realtime devices nor quota: a file is made to look like them. */
static void what_is_on_another_device_or_no_file_is_not_told(void **state)
{
	struct extent at = stretch_of(&plain, "/pieces", OWNER_MAP, true);
	const uint64_t inode = scene_named(&plain.disk, "/pieces")->inode, number = htobe64(inode);
	const uint64_t map = bytes_told(&plain, inode, OWNER_MAP);
	uint8_t before[1024];

	at.start = ROUND_DOWN(at.start, 1024);
	memcpy(before, plain.disk.image + at.start, 1024);
	plain.disk.image[at.start + 91] |= 1;
	put_crc(plain.disk.image + at.start, 1024, 100);
	assert_int_equal(bytes_told(&plain, inode, OWNER_DATA), 0);
	assert_int_equal(bytes_told(&plain, inode, OWNER_MAP), map);
	memcpy(plain.disk.image + at.start, before, 1024);
	memcpy(before, plain.disk.image, 512);
	for (unsigned int field = 160; field <= 232; field += field == 168 ? 64 : 8) {
		memcpy(plain.disk.image + field, &number, 8);
		put_crc(plain.disk.image, 512, 224);
		assert_int_equal(bytes_told(&plain, inode, OWNER_DATA), 0);
		assert_int_equal(bytes_told(&plain, inode, OWNER_MAP), 0);
		memcpy(plain.disk.image, before, 512);
	}
	assert_true(bytes_told(&plain, inode, OWNER_DATA) && map > 4096);
}

/* Any bytes of any table changed, with and without a check value that says they are right. */
static void changed_tables_do_no_harm(void **state)
{
	struct scene *s = &frozen;
	uint64_t *places;
	size_t count = 0;

	places = calloc(s->disk.size / UNIT, sizeof(*places));
	assert_non_null(places);
	for (uint64_t at = 0; at < s->disk.size; at += UNIT) {
		if (table_at(s->disk.image + at))
			places[count++] = at;
	}
	assert_true(count > 100);
	for (unsigned int i = 0; i < 2500; i++) {
		/* inodes are most of them */
		uint64_t at = places[any(count)];

		while (i % 2 && !memcmp(s->disk.image + at, "IN", 2))
			at = places[any(count)];
		check_changed(s, at, table_at(s->disk.image + at), i % 4 < 3);
	}
	free(places);
}

/* ---- version 4 ------------------------------------------------------------------------------------------- */

/* Where @data is. */
static void assert_owner_of(const struct scene *s, const char *data, enum owner_kind kind,
			    const char *path)
{
	const struct extent x = { place_of(s, data), 10 };

	assert_false(assert_owner(s, x, false, kind, path));
}

/* Kernels of today know it no more: mkfs.xfs fills it, and what it wrote is found by itself. */
static void check_version_4(const char *options)
{
	struct scene s = { 0 };
	char path[128];
	FILE *f;

	scene_mkfs(&s, "");
	snprintf(path, sizeof(path), "%s/file", s.disk.mnt);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs("what the file holds", f);
	assert_int_equal(fclose(f), 0);
	snprintf(path, sizeof(path), "%s/list", s.disk.mnt);
	f = fopen(path, "we");
	assert_non_null(f);
	fprintf(f, "/\n0 0\nd--755 0 0\nfile ---644 0 0 %s/file\nlink l--777 0 0 where-it-leads\n",
		s.disk.mnt);
	fputs("few d--755 0 0\nonly-one ---644 0 0 /dev/null\n$\nmany d--755 0 0\n", f);
	for (unsigned int i = 0; i < 700; i++)
		fprintf(f, "one-of-several-%05u p--644 0 0\n", i);
	fputs("$\n$\n", f);
	assert_int_equal(fclose(f), 0);
	scene_run("mkfs.xfs -q -f %s -p %s %s 2>/dev/null", options, path, s.disk.file);
	scene_map(&s.disk);
	assert_owner_of(&s, "what the file holds", OWNER_DATA, "/file");
	assert_owner_of(&s, "where-it-leads", OWNER_LINK, "/link");
	assert_owner_of(&s, "only-one", OWNER_DIRECTORY, "/few");
	assert_owner_of(&s, "one-of-several-00001", OWNER_DIRECTORY, "/many");
	assert_owner_of(&s, "one-of-several-00699", OWNER_DIRECTORY, "/many");
	unlink(path);
	snprintf(path, sizeof(path), "%s/file", s.disk.mnt);
	unlink(path);
	scene_done(&s);
}

static void version_4_is_understood(void **state)
{
	check_version_4("-m crc=0,finobt=0 -n ftype=1");
	check_version_4("-m crc=0,finobt=0 -n ftype=0 -b size=512 -i size=256");
}

static void unknown_features_are_refused(void **state)
{
	uint8_t before[512];
	struct owners o;
	struct err e = { 0 };

	memcpy(before, plain.disk.image, sizeof(before));
	for (unsigned int bit = 8; bit < 32; bit++) {
		plain.disk.image[216 + 3 - bit / 8] ^= (uint8_t)(1u << bit % 8);
		put_crc(plain.disk.image, 512, 224);
		assert_int_equal(scene_find_all(&plain.disk, NULL, &o, &e), -ENOTSUP);
		assert_non_null(strstr(e.text, "features"));
		owners_done(&o);
		memcpy(plain.disk.image, before, sizeof(before));
	}
}

static int set_up(void **state)
{
	scene_begin(&plain, "-d agcount=4 -b size=4096 -m rmapbt=1 -i size=1024,nrext64=1", 3000,
		    4096, false);
	scene_finish(&plain);
	scene_begin(&odd,
		    "-d agcount=2 -b size=1024 -n size=65536 -m rmapbt=1 -i sparse=1,nrext64=0",
		    4000, 1024, true);
	scene_finish(&odd);
	scene_begin(&frozen, "-d agcount=2 -b size=4096 -m rmapbt=1", 150, 4096, false);
	scene_finish_frozen(&frozen);
	return 0;
}

static int tear_down(void **state)
{
	scene_done(&plain);
	scene_done(&odd);
	scene_done(&frozen);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_it_is_told_as_the_kernel_maps_it),
		cmocka_unit_test(an_inode_in_use_belongs_to_its_file),
		cmocka_unit_test(everything_occurs),
		cmocka_unit_test(stretches_are_told_as_the_same_cut_out_of_all),
		cmocka_unit_test(what_is_told_with_bytes_lost_is_true),
		cmocka_unit_test(a_group_whose_head_is_lost_is_said),
		cmocka_unit_test(the_file_of_a_lost_inode_is_named),
		cmocka_unit_test(a_lost_piece_of_the_map_is_the_files_and_the_rest_is_told),
		cmocka_unit_test(with_a_block_of_names_lost_the_others_are_known),
		cmocka_unit_test(lost_data_leaves_all_tables_known),
		cmocka_unit_test(both_files_of_a_shared_stretch_are_told),
		cmocka_unit_test(without_its_super_block_nothing_is_told),
		cmocka_unit_test(what_is_on_another_device_or_no_file_is_not_told),
		cmocka_unit_test(changed_tables_do_no_harm),
		cmocka_unit_test(version_4_is_understood),
		cmocka_unit_test(unknown_features_are_refused),
	};

	if (geteuid() != 0 || system("command -v mkfs.xfs >/dev/null") != 0) {
		printf("skipped: needs root and xfsprogs\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
