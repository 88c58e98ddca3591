/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose bytes of a btrfs made by hand: trees that name one block many times over, and what no or hardly any kernel would write.
 * Its check values are of a kind that is not computed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/cleanup.h"
#include "lib/layout/btrfs_format.h"
#include "lib/layout/owners.h"

#define NODE  4096u
#define SUPER 65536u
/* One chunk, whose logical addresses are those of the device: tree blocks from its begin on, by number. */
#define CHUNK	 (UINT64_C(1) << 20)
#define DISK	 (2 * CHUNK)
#define BLOCK(n) (CHUNK + (uint64_t)(n)*NODE)
#define DATA	 (CHUNK + (UINT64_C(768) << 10))
/* Children in a node. */
#define SLOTS ((NODE - sizeof(struct btrfs_disk_head)) / sizeof(struct btrfs_disk_child))
#define TOP   (BTRFS_LEVELS_MAX - 1u)
/* What is walked as often as it says ends after the next ice age. */
#define SOON 20
/* Tree blocks' numbers that are the same in all; the others are each test's. */
#define CHUNKS 0u
#define ROOTS  1u
#define FREE   16u

static uint8_t disk[DISK];
static uint64_t lost_at; /* a block that cannot be read; 0: none */

static const uint8_t fsid[16] = "made by hand";

/* ---- making one --------------------------------------------------------------------------------------------- */

static struct btrfs_disk_key key(uint64_t objectid, unsigned int type, uint64_t offset)
{
	return (struct btrfs_disk_key){ le64(objectid), (uint8_t)type, le64(offset) };
}

static struct btrfs_disk_head *block(unsigned int n, unsigned int level, uint64_t owner)
{
	struct btrfs_disk_head *h = (void *)(disk + BLOCK(n));

	*h = (struct btrfs_disk_head){
		.bytenr = le64(BLOCK(n)),
		.generation = le64(1),
		.owner = le64(owner),
		.level = (uint8_t)level,
	};
	memcpy(h->fsid, fsid, sizeof(fsid));
	return h;
}

static void child(unsigned int n, struct btrfs_disk_key k, unsigned int to)
{
	struct btrfs_disk_head *h = (void *)(disk + BLOCK(n));
	struct btrfs_disk_child *c = (void *)(h + 1);
	const uint32_t count = le32_get(h->nritems);

	assert_true(count < SLOTS);
	c[count] = (struct btrfs_disk_child){ k, le64(BLOCK(to)), le64(1) };
	h->nritems = le32(count + 1);
}

static void item(unsigned int n, struct btrfs_disk_key k, const void *data, size_t size)
{
	struct btrfs_disk_head *h = (void *)(disk + BLOCK(n));
	struct btrfs_disk_item *i = (void *)(h + 1);
	const uint32_t count = le32_get(h->nritems);
	const uint32_t end = count ? le32_get(i[count - 1].offset) : NODE - sizeof(*h);

	assert_true(end >= size + (count + 1) * sizeof(*i));
	i[count] = (struct btrfs_disk_item){ k, le32(end - (uint32_t)size), le32((uint32_t)size) };
	memcpy((uint8_t *)i + end - size, data, size);
	h->nritems = le32(count + 1);
}

static void inode(unsigned int n, uint64_t number, uint64_t size)
{
	uint8_t d[160] = { 0 };
	const le64_t bytes = le64(size);

	memcpy(d + 16, &bytes, sizeof(bytes));
	item(n, key(number, BTRFS_ITEM_INODE, 0), d, sizeof(d));
}

/* "f", in the first directory. */
static void name(unsigned int n, uint64_t number)
{
	const uint8_t d[] = { 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 'f' };

	item(n, key(number, BTRFS_ITEM_INODE_REF, BTRFS_ROOT_INODE), d, sizeof(d));
}

/* The same, as the directory knows it. */
static void entry(unsigned int n, uint64_t index, uint64_t number)
{
	struct {
		struct btrfs_disk_dir_item d;
		char name[1];
	} d = { { .location = key(number, BTRFS_ITEM_INODE, 0), .name_len = le16(1) }, { 'f' } };

	item(n, key(BTRFS_ROOT_INODE, BTRFS_ITEM_DIR_INDEX, index), &d, sizeof(d));
}

struct made {
	uint64_t offset, at, length; /* in the file; on the disk; bytes of the file */
	unsigned int type;
	uint64_t packed; /* into so many bytes; 0: not */
};

static void extent(unsigned int n, uint64_t number, const struct made *m)
{
	const struct btrfs_disk_extent d = {
		.compression = m->packed != 0,
		.type = (uint8_t)m->type,
		.disk_bytenr = le64(m->at),
		.disk_num_bytes = le64(m->packed ? m->packed : m->length),
		.num_bytes = le64(m->length),
	};

	item(n, key(number, BTRFS_ITEM_EXTENT_DATA, m->offset), &d, sizeof(d));
}

static void chunk_data(uint8_t ret[80])
{
	const struct btrfs_disk_chunk d = {
		.length = le64(CHUNK),
		.type = le64(BTRFS_CHUNK_SYSTEM | BTRFS_CHUNK_METADATA),
		.num_stripes = le16(1),
	};
	const struct btrfs_disk_stripe s = { .devid = le64(1), .offset = le64(CHUNK) };

	memcpy(ret, &d, sizeof(d));
	memcpy(ret + sizeof(d), &s, sizeof(s));
}

static void begin(unsigned int chunks_level, unsigned int chunks, unsigned int roots_level,
		  unsigned int roots)
{
	struct btrfs_disk_super *d = (void *)(disk + SUPER);
	const struct btrfs_disk_key k = key(BTRFS_FIRST_ID, BTRFS_ITEM_CHUNK, CHUNK);

	memset(disk, 0, sizeof(disk));
	*d = (struct btrfs_disk_super){
		.bytenr = le64(SUPER),
		.generation = le64(1),
		.root = le64(BLOCK(roots)),
		.chunk_root = le64(BLOCK(chunks)),
		.num_devices = le64(1),
		.sectorsize = le32(NODE),
		.nodesize = le32(NODE),
		.sys_chunk_array_size = le32(sizeof(k) + 80),
		.chunk_root_generation = le64(1),
		.csum_type = le16(BTRFS_CSUM_XXHASH),
		.root_level = (uint8_t)roots_level,
		.chunk_root_level = (uint8_t)chunks_level,
		.devid = le64(1),
	};
	memcpy(d->fsid, fsid, sizeof(fsid));
	memcpy(d->magic, BTRFS_MAGIC, sizeof(d->magic));
	memcpy(d->sys_chunk_array, &k, sizeof(k));
	chunk_data(d->sys_chunk_array + sizeof(k));
	block(CHUNKS, 0, BTRFS_TREE_CHUNK);
	block(ROOTS, 0, BTRFS_TREE_ROOT);
	lost_at = 0;
}

static void subvolume(uint64_t id, unsigned int level, unsigned int n)
{
	const struct btrfs_disk_root d = {
		.generation = le64(1),
		.bytenr = le64(BLOCK(n)),
		.refs = le32(1),
		.level = (uint8_t)level,
	};

	item(ROOTS, key(id, BTRFS_ITEM_ROOT, 0), &d, sizeof(d));
}

/* Key @i of a node of @level: between two of them is room for all those of the level below. */
static struct btrfs_disk_key spread(struct btrfs_disk_key k, unsigned int level, uint64_t i)
{
	k.offset = le64(le64_get(k.offset) + (i << 7 * (level - 1)));
	return k;
}

/* Above the leaf @n nodes up to @level, in the blocks behind it, each with one child, @times as often. Returns the topmost. */
static unsigned int tower(unsigned int n, unsigned int level, struct btrfs_disk_key k, size_t times)
{
	const struct btrfs_disk_head leaf = *(const struct btrfs_disk_head *)(disk + BLOCK(n));

	for (unsigned int l = 1; l <= level; l++) {
		block(n + l, l, le64_get(leaf.owner));
		for (size_t i = 0; i < times; i++)
			child(n + l, spread(k, l, i), n + l - 1);
	}
	return n + level;
}

/* ---- asking ------------------------------------------------------------------------------------------------- */

static int disk_read(void *ctx, void *buf, size_t len, uint64_t offset, struct err *e)
{
	(void)ctx;
	assert_true(offset <= sizeof(disk) && len <= sizeof(disk) - offset);
	if (lost_at && lost_at < offset + len && offset < lost_at + NODE)
		return err_set(e, -EBADMSG, "lost on purpose");
	memcpy(buf, disk + offset, len);
	return 0;
}

static int find(struct owners *ret)
{
	const struct owners_io io = { .read = disk_read, .size = sizeof(disk) };
	struct extent all = { 0, sizeof(disk) };
	const struct extent_set wanted = { .items = &all, .count = 1 };
	struct err e = { 0 };
	int r;

	alarm(SOON);
	r = owners_find("btrfs", &io, &wanted, NULL, ret, &e);
	alarm(0);
	return r;
}

static void assert_owner(const struct owner *o, uint64_t at, uint64_t length, uint64_t offset,
			 uint64_t held)
{
	assert_int_equal(o->kind, OWNER_DATA);
	assert_int_equal(o->at, at);
	assert_int_equal(o->length, length);
	assert_int_equal(o->offset, offset);
	assert_int_equal(o->held, held);
}

/* ---- one block, named in all slots of its parent, and so on up to the root ------------------------------------ */

static void a_chunk_tree_of_one_block_a_level_ends(void **state)
{
	struct owners o;
	uint8_t d[80];

	begin(TOP, FREE + TOP, 0, ROOTS);
	chunk_data(d);
	block(FREE, 0, BTRFS_TREE_CHUNK);
	item(FREE, key(BTRFS_FIRST_ID, BTRFS_ITEM_CHUNK, CHUNK), d, sizeof(d));
	tower(FREE, TOP, key(BTRFS_FIRST_ID, BTRFS_ITEM_CHUNK, CHUNK), SLOTS);
	assert_int_equal(find(&o), 0);
	assert_true(o.incomplete);
	assert_non_null(strstr(o.lost.text, "chunk tree"));
	owners_done(&o);
}

static void a_tree_of_roots_of_one_block_a_level_ends(void **state)
{
	struct owners o;

	begin(0, CHUNKS, TOP, ROOTS + TOP);
	subvolume(BTRFS_TREE_FILES, 0, FREE);
	tower(ROOTS, TOP, key(BTRFS_TREE_FILES, BTRFS_ITEM_ROOT, 0), SLOTS);
	block(FREE, 0, BTRFS_TREE_FILES);
	inode(FREE, 257, 8192);
	name(FREE, 257);
	extent(FREE, 257, &(struct made){ 0, DATA, 8192, 1, 0 });
	assert_int_equal(find(&o), 0);
	assert_true(o.incomplete);
	assert_non_null(strstr(o.lost.text, "list of subvolumes"));
	assert_int_equal(o.count, 1);
	assert_owner(&o.items[0], DATA, 8192, 0, 8192);
	assert_string_equal(o.items[0].path, "/f");
	owners_done(&o);
}

/* Where the names of a file are looked up, and where a directory is looked for that has it. */
static void a_tree_of_files_of_one_block_a_level_ends(void **state)
{
	const struct btrfs_disk_key index = key(BTRFS_ROOT_INODE, BTRFS_ITEM_DIR_INDEX, 2);
	const struct btrfs_disk_key ref = key(257, BTRFS_ITEM_INODE_REF, 0);
	const struct btrfs_disk_key data = key(257, BTRFS_ITEM_EXTENT_DATA, 0);
	const unsigned int a = FREE, b = a + 16, c = b + 16, top = c + 16;
	struct owners o;

	begin(0, CHUNKS, 0, ROOTS);
	subvolume(BTRFS_TREE_FILES, TOP, top);
	block(a, 0, BTRFS_TREE_FILES);
	entry(a, 2, 257);
	block(b, 0, BTRFS_TREE_FILES);
	item(b, ref, "", 0);
	block(c, 0, BTRFS_TREE_FILES);
	extent(c, 257, &(struct made){ 0, DATA, 8192, 1, 0 });
	block(top, TOP, BTRFS_TREE_FILES);
	child(top, index, tower(a, TOP - 1, index, 1));
	tower(b, TOP - 1, ref, SLOTS);
	for (size_t i = 0; i < SLOTS - 2; i++)
		child(top, spread(ref, TOP, i), b + TOP - 1);
	child(top, data, tower(c, TOP - 1, data, 1));
	assert_int_equal(find(&o), 0);
	assert_true(o.incomplete);
	assert_int_equal(o.count, 1);
	assert_owner(&o.items[0], DATA, 8192, 0, 8192);
	assert_string_equal(o.items[0].path, "/f");
	owners_done(&o);
}

/* ---- what of its extents a file holds --------------------------------------------------------------------------- */

static void what_was_never_written_or_is_behind_the_end_is_nobodys(void **state)
{
	struct owners o;

	begin(0, CHUNKS, 0, ROOTS);
	subvolume(BTRFS_TREE_FILES, 0, FREE);
	block(FREE, 0, BTRFS_TREE_FILES);
	inode(FREE, 257, 13000);
	extent(FREE, 257, &(struct made){ 0, DATA, 4096, 1, 0 });
	extent(FREE, 257, &(struct made){ 4096, DATA + 8192, 4096, 2, 0 });
	extent(FREE, 257, &(struct made){ 8192, DATA + 16384, 8192, 1, 0 });
	extent(FREE, 257, &(struct made){ 16384, DATA + 32768, 4096, 1, 0 });
	inode(FREE, 258, 140000);
	extent(FREE, 258, &(struct made){ 0, DATA + 40960, 131072, 1, 4096 });
	extent(FREE, 258, &(struct made){ 131072, DATA + 49152, 12288, 1, 8192 });
	extent(FREE, 258, &(struct made){ 143360, DATA + 61440, 12288, 1, 8192 });
	/* another's size is not its */
	extent(FREE, 259, &(struct made){ 0, DATA + 81920, 4096, 1, 0 });
	assert_int_equal(find(&o), 0);
	assert_false(o.incomplete);
	assert_int_equal(o.count, 5);
	assert_owner(&o.items[0], DATA, 4096, 0, 4096);
	assert_owner(&o.items[1], DATA + 16384, 4808, 8192, 4808);
	assert_owner(&o.items[2], DATA + 40960, 4096, 0, 131072);
	assert_owner(&o.items[3], DATA + 49152, 8192, 131072, 8928);
	assert_owner(&o.items[4], DATA + 81920, 4096, 0, 4096);
	owners_done(&o);
}

/* Leaf @first has the file's size, @second an extent of it. */
static void make_split(unsigned int n, unsigned int first, unsigned int second, uint64_t at)
{
	block(n, 1, BTRFS_TREE_FILES);
	child(n, key(257, BTRFS_ITEM_INODE, 0), first);
	child(n, key(257, BTRFS_ITEM_EXTENT_DATA, 0), second);
	block(first, 0, BTRFS_TREE_FILES);
	inode(first, 257, 5000);
	name(first, 257);
	block(second, 0, BTRFS_TREE_FILES);
	extent(second, 257, &(struct made){ 0, at, 8192, 1, 0 });
}

/* The tree block with the size was gone into in another subvolume. */
static void a_snapshot_of_which_a_part_is_shared_ends_where_it_does(void **state)
{
	struct owners o;

	begin(0, CHUNKS, 0, ROOTS);
	subvolume(BTRFS_TREE_FILES, 1, FREE);
	subvolume(BTRFS_FIRST_ID, 1, FREE + 3);
	make_split(FREE, FREE + 1, FREE + 2, DATA);
	make_split(FREE + 3, FREE + 1, FREE + 4, DATA + 16384);
	assert_int_equal(find(&o), 0);
	assert_false(o.incomplete);
	assert_int_equal(o.count, 2);
	assert_int_equal(o.items[0].tree, BTRFS_TREE_FILES);
	assert_owner(&o.items[0], DATA, 5000, 0, 5000);
	assert_int_equal(o.items[1].tree, BTRFS_FIRST_ID);
	assert_owner(&o.items[1], DATA + 16384, 5000, 0, 5000);
	owners_done(&o);
}

static void a_file_whose_size_is_lost_is_told_whole(void **state)
{
	struct owners o;

	begin(0, CHUNKS, 0, ROOTS);
	subvolume(BTRFS_TREE_FILES, 1, FREE);
	make_split(FREE, FREE + 1, FREE + 2, DATA);
	lost_at = BLOCK(FREE + 1);
	assert_int_equal(find(&o), 0);
	assert_true(o.incomplete);
	assert_int_equal(o.count, 1);
	assert_owner(&o.items[0], DATA, 8192, 0, 8192);
	owners_done(&o);
}

static void a_stretch_that_ends_behind_all_numbers_is_said(void **state)
{
	struct owners o;

	begin(0, CHUNKS, 0, ROOTS);
	subvolume(BTRFS_TREE_FILES, 0, FREE);
	block(FREE, 0, BTRFS_TREE_FILES);
	extent(FREE, 257, &(struct made){ -UINT64_C(4096), DATA, 8192, 1, 4096 });
	assert_int_equal(find(&o), 0);
	assert_true(o.incomplete);
	assert_int_equal(o.count, 0);
	owners_done(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chunk_tree_of_one_block_a_level_ends),
		cmocka_unit_test(a_tree_of_roots_of_one_block_a_level_ends),
		cmocka_unit_test(a_tree_of_files_of_one_block_a_level_ends),
		cmocka_unit_test(what_was_never_written_or_is_behind_the_end_is_nobodys),
		cmocka_unit_test(a_snapshot_of_which_a_part_is_shared_ends_where_it_does),
		cmocka_unit_test(a_file_whose_size_is_lost_is_told_whole),
		cmocka_unit_test(a_stretch_that_ends_behind_all_numbers_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
