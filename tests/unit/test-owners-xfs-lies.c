/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose bytes of an xfs made by hand (version 4: without check values), as no kernel makes it. */
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/layout/owners.h"

#define BLOCK	4096u
#define INODES	2u  /* block of the tree of these */
#define ROOT	64u /* an inode, and the only one */
#define NAMES	16u /* block where the names begin */
#define COUNT	5000u
#define DISK	((NAMES + COUNT) * (uint64_t)BLOCK)
#define ROOT_AT (ROOT * UINT64_C(256))
/* As many names of directories would need several times as much. */
#define ROOM_KIB 16384

static uint8_t *disk;

static void put16(uint64_t at, uint16_t v)
{
	v = htobe16(v);
	memcpy(disk + at, &v, sizeof(v));
}

static void put32(uint64_t at, uint32_t v)
{
	v = htobe32(v);
	memcpy(disk + at, &v, sizeof(v));
}

static void put64(uint64_t at, uint64_t v)
{
	v = htobe64(v);
	memcpy(disk + at, &v, sizeof(v));
}

static void make_super(void)
{
	memcpy(disk, "XFSB", 4);
	put32(4, BLOCK);
	put64(8, NAMES + COUNT);
	put64(56, ROOT);
	put32(84, NAMES + COUNT);
	put32(88, 1);
	/* version 4, with directories of the second kind, and more features: entries say what they lead to */
	put16(100, 0xa004);
	put32(200, 0x200);
	put16(102, 512);
	put16(104, 256);
	disk[120] = 12;
	disk[121] = 9;
	disk[122] = 8;
	disk[123] = 4;
	disk[124] = 13;
}

/* One group, of its inodes one in use: a directory, whose names are in one piece. */
static void make_root(void)
{
	memcpy(disk + 1024, "XAGI", 4);
	put32(1024 + 20, INODES);
	put32(1024 + 24, 1);
	memcpy(disk + INODES * BLOCK, "IABT", 4);
	put16(INODES * BLOCK + 6, 1);
	put32(INODES * BLOCK + 16, ROOT);
	put64(INODES * BLOCK + 24, ~UINT64_C(1));
	memcpy(disk + ROOT_AT, "IN", 2);
	put16(ROOT_AT + 2, S_IFDIR | 0755);
	disk[ROOT_AT + 4] = 2;
	disk[ROOT_AT + 5] = 2;
	put64(ROOT_AT + 56, COUNT * (uint64_t)BLOCK);
	put32(ROOT_AT + 76, 1);
	put64(ROOT_AT + 108, (uint64_t)NAMES << 21 | COUNT);
}

/* A name as short as they are, "d": 16 bytes, for inode @number, said to be a directory. */
static void make_name(uint64_t at, uint64_t number)
{
	put64(at, number);
	memcpy(disk + at + 8,
	       "\x01"
	       "d\x02",
	       3);
}

static int disk_read(void *ctx, void *buf, size_t len, uint64_t offset, struct err *e)
{
	(void)ctx;
	(void)e;
	assert_true(offset <= DISK && len <= DISK - offset);
	memcpy(buf, disk + offset, len);
	return 0;
}

static long resident_most(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return u.ru_maxrss;
}

/* As many as there is room for, each of another inode. */
static void names_of_directories_that_there_are_not_take_no_room(void **state)
{
	const struct owners_io io = { .read = disk_read, .size = DISK };
	struct extent root = { ROOT_AT, 256 };
	const struct extent_set wanted = { .items = &root, .count = 1 };
	_cleanup_(owners_done) struct owners o = { 0 };
	_cleanup_(cancel_done) struct cancel c;
	struct err e = { 0 };
	uint64_t number = 1000;
	long before;

	make_super();
	make_root();
	for (unsigned int i = NAMES; i < NAMES + COUNT; i++) {
		const uint64_t block = i * (uint64_t)BLOCK;

		memcpy(disk + block, "XD2D", 4);
		for (uint64_t at = block + 16; at < block + BLOCK; at += 16)
			make_name(at, number++);
	}
	before = resident_most();
	assert_int_equal(cancel_init(&c), 0);
	assert_int_equal(owners_find("xfs", &io, &wanted, &c, &o, &e), 0);
	assert_false(o.incomplete);
	assert_true(o.count > 0);
	assert_string_equal(o.items[0].path, "/");
	assert_true(resident_most() - before < ROOM_KIB);
}

static int make_disk(void **state)
{
	disk = calloc(1, DISK);
	return disk ? 0 : -1;
}

static int remove_disk(void **state)
{
	free(disk);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_of_directories_that_there_are_not_take_no_room),
	};

	return cmocka_run_group_tests(tests, make_disk, remove_disk);
}
