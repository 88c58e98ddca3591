/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose bytes of an ext2 or ext4 as mke2fs fills it, with no kernel: where descriptors of groups are that few have, and tables
 * without check values that say less than there is, or more.
 */
#include "lib/base/le.h"
#include "tests/unit/owners-scene.h"

#define MKE2FS	    "/sbin/mke2fs" /* not in the path of all */
#define BLOCK	    1024u
#define INODE	    128u /* bytes, where it is said so */
#define INODE_FIRST 12u
/* Where things are in an inode. */
#define SIZE_AT	   4u
#define LINKS_AT   26u
#define FLAGS_AT   32u
#define MAP_AT	   40u
#define ENTRIES_AT 42u
#define ATTRS_AT   104u

static struct scene_disk disk;

/* It has @files of one byte each, "/f0" and so on; a directory of @names, "/dir"; and a file in many pieces, "/pieces". */
static void make(const char *options, uint64_t size, unsigned int files, unsigned int names)
{
	char name[64];

	scene_disk_begin(&disk, scene_room(), "lies", "ext4", size);
	assert_int_equal(chdir(disk.mnt) | mkdir("dir", 0755), 0);
	for (unsigned int i = 0; i < files; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		scene_write(name, 1, 0);
	}
	for (unsigned int i = 0; i < names; i++) {
		snprintf(name, sizeof(name), "dir/name-%03u", i);
		scene_write(name, 1, 0);
	}
	for (unsigned int i = 0; i < 10; i++)
		scene_write("pieces", BLOCK, (off_t)i * 65536);
	assert_int_equal(chdir("/"), 0);
	scene_run(MKE2FS " -q -F -b %u %s -d %s %s", BLOCK, options, disk.mnt, disk.file);
	scene_run("rm -r %s/*", disk.mnt);
	scene_map(&disk);
}

static void done(void)
{
	scene_disk_end(&disk);
}

static uint8_t *inode_of(const char *path)
{
	struct owners o;
	struct err e = { 0 };
	uint64_t at = 0;

	assert_int_equal(scene_find_all(&disk, NULL, &o, &e), 0);
	for (size_t i = 0; i < o.count && !at; i++) {
		if (o.items[i].kind == OWNER_MAP && o.items[i].length < BLOCK && o.items[i].path &&
		    !strcmp(o.items[i].path, path))
			at = o.items[i].at;
	}
	owners_done(&o);
	assert_true(at);
	return disk.image + at;
}

static void put16(uint8_t *at, uint16_t value)
{
	const le16_t v = le16(value);

	memcpy(at, &v, sizeof(v));
}

static void put32(uint8_t *at, uint32_t value)
{
	const le32_t v = le32(value);

	memcpy(at, &v, sizeof(v));
}

static uint32_t get32(const uint8_t *at)
{
	le32_t v;

	memcpy(&v, at, sizeof(v));
	return le32_get(v);
}

/* What is said to be lost, "" if nothing is; @lost: NULL, or what cannot be read. */
static struct err find(const struct extent_set *lost, struct owners *ret)
{
	struct err e = { 0 };

	assert_int_equal(scene_find_all(&disk, lost, ret, &e), 0);
	assert_true(!ret->incomplete == !ret->lost.text[0]);
	return ret->lost;
}

static void assert_lost(const char *what)
{
	struct owners o;
	const struct err lost = find(NULL, &o);

	if (*what ? !strstr(lost.text, what) : lost.text[0] != '\0')
		fail_msg("lost: \"%s\", not \"%s\"", lost.text, what);
	owners_done(&o);
}

/* ---- descriptors ------------------------------------------------------------------------------------------ */

#define GROUP_BLOCKS 16384u
#define FILES	     600u
#define CLUSTERS     "none,sparse_super,filetype,extent,64bit,metadata_csum,bigalloc"

static void assert_files_told(const struct extent_set *lost)
{
	struct owners o;
	const struct err said = find(lost, &o);
	uint64_t highest = 0;
	unsigned int files = 0;

	if (!lost && o.incomplete)
		fail_msg("lost %s", said.text);
	assert_true(!lost || strstr(said.text, "descriptors"));
	for (size_t i = 0; i < o.count; i++) {
		const struct owner *x = &o.items[i];

		if (x->kind != OWNER_DATA || !x->path || x->path[1] != 'f')
			continue;
		assert_int_equal(x->length, 1);
		highest = MAX(highest, x->inode);
		files++;
	}
	assert_int_equal(files, FILES);
	/* of a second block of descriptors: one has 16 groups, and these 32 inodes each */
	assert_true(highest > 16 * 32);
	owners_done(&o);
}

/* Groups of 16 MiB; those of the first begin with block 1. */
static void descriptors_are_found_with_small_blocks_in_clusters(void **state)
{
	static const struct {
		const char *options;
		uint64_t at[2]; /* blocks */
	} kinds[] = {
		{ "^meta_bg", { 2, 3 } },
		{ "meta_bg", { 2, 16 * GROUP_BLOCKS } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct extent at[2];
		const struct extent_set lost = { .items = at, .count = 2 };
		char options[128];

		snprintf(options, sizeof(options), "-O %s,%s -C 2048 -N 640", CLUSTERS,
			 kinds[i].options);
		make(options, UINT64_C(20) * GROUP_BLOCKS * BLOCK, FILES, 0);
		assert_files_told(NULL);
		for (size_t n = 0; n < 2; n++)
			at[n] = (struct extent){ kinds[i].at[n] * BLOCK, BLOCK };
		assert_files_told(&lost);
		done();
	}
}

/* The last copy, if it has one, is as good. */
static void descriptors_have_a_last_copy(void **state)
{
	struct extent at[] = { { 2 * BLOCK, BLOCK }, { (GROUP_BLOCKS + 1) * BLOCK, BLOCK } };
	const struct extent_set lost = { .items = at, .count = 2 };

	make("-O " CLUSTERS ",meta_bg -C 2048 -N 640", UINT64_C(20) * GROUP_BLOCKS * BLOCK, FILES,
	     0);
	assert_files_told(&lost);
	done();
}

/* ---- less than there is ----------------------------------------------------------------------------------- */

static void a_node_with_nothing_below_it_is_a_lost_one(void **state)
{
	uint8_t *inode;

	make("-O none,filetype,extent -N 64", 4 << 20, 3, 3);
	inode = inode_of("/pieces");
	/* a level above the extents */
	assert_true(inode[MAP_AT + 6] == 1 && inode[ENTRIES_AT] == 1);
	assert_lost("");
	put16(inode + ENTRIES_AT, 0);
	assert_lost("where blocks of inode");
	done();
}

static void a_directory_has_blocks_for_its_size(void **state)
{
	uint8_t *inode;
	uint32_t size;

	make("-O none,filetype -N 512", 4 << 20, 3, 300);
	inode = inode_of("/dir");
	size = get32(inode + SIZE_AT);
	assert_true(size > 4 * BLOCK);
	assert_lost("");
	put32(inode + SIZE_AT, size - BLOCK);
	assert_lost("names in directory");
	put32(inode + SIZE_AT, BLOCK);
	assert_lost("names in directory");
	put32(inode + SIZE_AT, size + BLOCK);
	assert_lost("names in directory");
	put32(inode + SIZE_AT, size);
	/* a hole */
	put32(inode + MAP_AT + 4, 0);
	assert_lost("names in directory");
	done();
}

static void an_inline_directory_has_bytes_for_its_size(void **state)
{
	uint8_t *inode;

	make("-O none,filetype,ext_attr,extent,inline_data -I 256 -N 64", 4 << 20, 3, 3);
	inode = inode_of("/dir");
	assert_int_equal(get32(inode + SIZE_AT), 60);
	assert_lost("");
	/* the rest would be an attribute, but it has none */
	put32(inode + SIZE_AT, 92);
	assert_lost("names in directory");
	done();
}

/* ---- more than there is ----------------------------------------------------------------------------------- */

/* Of the descriptors, which are 32 bytes each. */
static uint8_t *descriptor(unsigned int group)
{
	return disk.image + 2 * BLOCK + 32 * (size_t)group;
}

static uint64_t table_of(unsigned int group)
{
	return get32(descriptor(group) + 8) * (uint64_t)BLOCK;
}

/*
 * The second table begins 64 blocks, which are read at once, behind the start of the first one, that has 96. What is read for
 * the rest of the first is no more than half of what is to be read there for the second.
 */
static void tables_that_overlap_are_read_as_they_are(void **state)
{
	const unsigned int per_group = 96 * BLOCK / INODE;
	struct extent bitmap;
	const struct extent_set lost = { .items = &bitmap, .count = 1 };
	struct owners o;
	uint8_t *behind;

	make("-O none,sparse_super,filetype -I 128 -N 1536", 16 << 20, 600, 0);
	assert_int_equal(get32(disk.image + 1024 + 40), per_group);
	behind = disk.image + table_of(0) + 96 * (size_t)BLOCK;
	memset(behind, 0, 32 * (size_t)BLOCK);
	put32(descriptor(1) + 8, get32(descriptor(0) + 8) + 64);
	/* each inode of the second group is to say itself whether it is in use */
	bitmap = (struct extent){ get32(descriptor(1) + 4) * (uint64_t)BLOCK, BLOCK };
	(void)find(&lost, &o);
	assert_true(o.count > 600);
	for (size_t i = 0; i < o.count; i++) {
		const struct owner *x = &o.items[i];

		/* what both have is 32 blocks */
		if (x->inode > per_group + 32 * BLOCK / INODE) {
			fail_msg("inode %lu, kind %d at %lu", x->inode, x->kind, x->at);
		}
	}
	owners_done(&o);
	done();
}

struct counting {
	struct scene_reader scene;
	uint64_t at, reads; /* of what is there */
};

static int counting_read(void *ctx, void *buf, size_t len, uint64_t offset, struct err *e)
{
	struct counting *c = ctx;

	c->reads += offset == c->at;
	return scene_read(&c->scene, buf, len, offset, e);
}

/* All inodes but one, more than the disk has blocks, have the same block of attributes; and that one is an attribute's value. */
static void a_block_of_attributes_is_not_read_without_end(void **state)
{
	struct extent all = { 0, 6 << 20 }, bitmap;
	const struct extent_set wanted = { .items = &all, .count = 1 };
	const struct extent_set lost = { .items = &bitmap, .count = 1 };
	struct counting c = { { &disk, &lost }, (6 << 20) - BLOCK, 0 };
	const struct owners_io io = { counting_read, &c, 6 << 20 };
	struct owners o;
	struct err e = { 0 };

	make("-O none,filetype,ea_inode,ext_attr -I 128 -N 8192", all.length, 0, 0);
	assert_int_equal(get32(disk.image + 1024 + 40), 8192);
	for (size_t n = INODE_FIRST - 1; n < 8192; n++) {
		uint8_t *inode = disk.image + table_of(0) + n * INODE;

		memset(inode, 0, INODE);
		put16(inode, S_IFREG | 0644);
		put16(inode + LINKS_AT, 1);
		put32(inode + ATTRS_AT, (uint32_t)(c.at / BLOCK));
	}
	put32(disk.image + table_of(0) + (INODE_FIRST - 1) * INODE + FLAGS_AT, 0x200000);
	memset(disk.image + c.at, 0, BLOCK);
	put32(disk.image + c.at, 0xea020000);
	put32(disk.image + c.at + 8, 1);
	bitmap = (struct extent){ get32(descriptor(0) + 4) * (uint64_t)BLOCK, BLOCK };
	assert_int_equal(owners_find("ext4", &io, &wanted, NULL, &o, &e), 0);
	assert_true(o.incomplete);
	assert_in_range(c.reads, 1000, all.length / BLOCK);
	owners_done(&o);
	done();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descriptors_are_found_with_small_blocks_in_clusters),
		cmocka_unit_test(descriptors_have_a_last_copy),
		cmocka_unit_test(a_node_with_nothing_below_it_is_a_lost_one),
		cmocka_unit_test(a_directory_has_blocks_for_its_size),
		cmocka_unit_test(an_inline_directory_has_bytes_for_its_size),
		cmocka_unit_test(tables_that_overlap_are_read_as_they_are),
		cmocka_unit_test(a_block_of_attributes_is_not_read_without_end),
	};

	if (access(MKE2FS, X_OK) < 0) {
		puts("skipped: needs mke2fs");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
