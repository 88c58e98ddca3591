/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is kept of a btrfs' trees between walks, and that nobody who has had enough waits for it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/cleanup.h"
#include "lib/layout/btrfs_tree.h"

#define NODE 4096u

/* This file's own, in the place of owners_find.c's: it sees every call. */
struct owners_walk {
	uint8_t disk[4 * NODE];
	unsigned int reads, lost;
	bool stopped;
};

static struct owners_walk walk;
static struct btrfs_space space;
static struct btrfs_tree tree;

int owners_walk_check(const struct owners_walk *w)
{
	return w->stopped ? -ECANCELED : 0;
}

int owners_walk_read(struct owners_walk *w, void *buf, size_t len, uint64_t offset, struct err *e)
{
	if (w->stopped)
		return -ECANCELED;
	if (offset > sizeof(w->disk) || len > sizeof(w->disk) - offset)
		return -EBADMSG;
	w->reads++;
	memcpy(buf, w->disk + offset, len);
	return 0;
}

void owners_walk_lost(struct owners_walk *w, const char *format, ...)
{
	w->lost++;
}

/* A leaf with an item without bytes; a node with one child, whose key is of inode @number, whatever the child has. */
static void make(uint64_t at, unsigned int level, uint64_t number, uint64_t child_at)
{
	struct btrfs_disk_head *h = (void *)(walk.disk + at);
	const struct btrfs_disk_key key = { le64(number), BTRFS_ITEM_INODE, le64(0) };

	*h = (struct btrfs_disk_head){
		.bytenr = le64(at),
		.generation = le64(1),
		.owner = le64(BTRFS_TREE_FILES),
		.nritems = le32(1),
		.level = (uint8_t)level,
	};
	if (level) {
		*(struct btrfs_disk_child *)(h + 1) =
			(struct btrfs_disk_child){ key, le64(child_at), le64(1) };
	} else {
		*(struct btrfs_disk_item *)(h + 1) =
			(struct btrfs_disk_item){ key, le32(NODE - sizeof(*h)), le32(0) };
	}
}

static int count_item(void *ctx, const struct btrfs_item *item, struct err *e)
{
	unsigned int *n = ctx;

	++*n;
	return 0;
}

/* All of the tree at @at. Returns how many items it has, or a negative errno. */
static int walk_all(uint64_t at, unsigned int level)
{
	const struct btrfs_ref root = {
		.logical = at, .generation = 1, .owner = BTRFS_TREE_FILES, .level = level
	};
	unsigned int n = 0;
	struct err e = { 0 };
	const int r = btrfs_tree_walk(&tree, &root, &BTRFS_RANGE_ALL, count_item, &n, &e);

	return r < 0 ? r : (int)n;
}

static int begin(void **state)
{
	static struct btrfs_place place = {
		.length = sizeof(walk.disk),
		.type = BTRFS_CHUNK_METADATA,
		.copies = 1,
	};

	memset(&walk, 0, sizeof(walk));
	space = (struct btrfs_space){
		.w = &walk,
		.rules = { .node = NODE, .csum_type = BTRFS_CSUM_XXHASH },
		.places = &place,
		.settled = 1,
	};
	tree = (struct btrfs_tree){ .space = &space };
	make(NODE, 0, 257, 0);
	return 0;
}

static int end(void **state)
{
	btrfs_tree_done(&tree);
	space.places = NULL;
	btrfs_space_done(&space);
	return 0;
}

static void a_walk_ends_when_told_though_nothing_is_read(void **state)
{
	assert_int_equal(walk_all(NODE, 0), 1);
	assert_int_equal(walk.reads, 1);
	assert_int_equal(walk_all(NODE, 0), 1);
	assert_int_equal(walk.reads, 1);
	walk.stopped = true;
	assert_int_equal(walk_all(NODE, 0), -ECANCELED);
}

static void what_is_kept_is_work_as_well(void **state)
{
	make(0, 1, 257, NODE);
	for (unsigned int i = 1; i < 5; i++) {
		assert_int_equal(walk_all(0, 1), 1);
		assert_int_equal(walk.reads, 2);
		assert_int_equal(tree.visits, 2 * i);
	}
}

static void a_block_that_is_kept_does_not_serve_another_parent(void **state)
{
	make(0, 1, 257, NODE);
	make(2 * NODE, 1, 258, NODE);
	assert_int_equal(walk_all(0, 1), 1);
	assert_int_equal(walk_all(2 * NODE, 1), 0);
	assert_int_equal(walk.lost, 1);
	assert_int_equal(walk_all(0, 1), 1);
	assert_int_equal(walk.lost, 1);
}

static void a_root_without_anything_is_nobodys_child(void **state)
{
	struct btrfs_disk_head *h = (void *)(walk.disk + NODE);

	h->nritems = le32(0);
	make(0, 1, 257, NODE);
	assert_int_equal(walk_all(NODE, 0), 0);
	assert_int_equal(walk.lost, 0);
	assert_int_equal(walk_all(0, 1), 0);
	assert_int_equal(walk.lost, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_walk_ends_when_told_though_nothing_is_read, begin,
						end),
		cmocka_unit_test_setup_teardown(what_is_kept_is_work_as_well, begin, end),
		cmocka_unit_test_setup_teardown(a_block_that_is_kept_does_not_serve_another_parent,
						begin, end),
		cmocka_unit_test_setup_teardown(a_root_without_anything_is_nobodys_child, begin,
						end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
