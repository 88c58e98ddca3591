/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Without arguments: the rules that need no root. With `SOURCE COPY live|offline`: write what the map calls
 * used, and nothing else, to a new sparse file COPY, and print the map; tests/integration/usedmap-*.sh then
 * ask the file system's own tools whether the copy is whole.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/disk.h"
#include "agent/usedmap.h"
#include "lib/base/io.h"

#define MIB (UINT64_C(1) << 20)

/* A disk of a memory file with a layout made by hand. */
struct fixture {
	struct disk disk;
	struct layout layout;
	struct layout_region regions[8];
};

static void fixture_init(struct fixture *f, uint64_t size)
{
	*f = (struct fixture){ 0 };
	f->disk.is_file = true;
	f->disk.path = (char *)"image";
	f->disk.size = size;
	f->disk.logical_sector = 512;
	f->disk.layout = &f->layout;
	f->layout.size = size;
	f->layout.regions = f->regions;
	f->disk.fd = memfd_create("disk", MFD_CLOEXEC);
	assert_true(f->disk.fd >= 0);
	assert_int_equal(ftruncate(f->disk.fd, (off_t)size), 0);
}

static void fixture_add(struct fixture *f, enum layout_kind kind, uint64_t length,
			const char *fs_type)
{
	size_t n = f->layout.n_regions++;

	f->regions[n] = (struct layout_region){
		.kind = kind,
		.start = n ? f->regions[n - 1].start + f->regions[n - 1].length : 0,
		.length = length,
		.fs_type = (char *)fs_type,
	};
}

static struct usedmap *fixture_map(struct fixture *f)
{
	struct usedmap *m = NULL;
	struct err e = { 0 };

	assert_int_equal(usedmap_make(&f->disk, USEDMAP_IDLE, &m, &e), 0);
	close(f->disk.fd);
	return m;
}

static void a_small_gap_is_read_whole_and_a_large_one_at_its_edges(void **state)
{
	struct fixture f;
	struct usedmap *m;

	fixture_init(&f, 100 * MIB);
	fixture_add(&f, LAYOUT_GAP, 30 * MIB, NULL);
	fixture_add(&f, LAYOUT_PARTITION, 10 * MIB, NULL);
	fixture_add(&f, LAYOUT_GAP, 16 * MIB, NULL);
	fixture_add(&f, LAYOUT_PARTITION, 14 * MIB, NULL);
	fixture_add(&f, LAYOUT_GAP, 30 * MIB, NULL);
	m = fixture_map(&f);
	assert_int_equal(m->regions[0].content, CONTENT_ALL);
	assert_int_equal(m->regions[2].content, CONTENT_ALL);
	assert_int_equal(m->regions[4].content, CONTENT_EDGES);
	assert_int_equal(m->regions[4].used.count, 2);
	assert_int_equal(m->regions[4].used.items[0].start, 70 * MIB);
	assert_int_equal(m->regions[4].used.items[0].length, MIB);
	assert_int_equal(m->regions[4].used.items[1].start, 99 * MIB);
	assert_int_equal(m->regions[4].used.items[1].length, MIB);
	usedmap_free(m);
}

static void a_gap_inside_an_extended_partition_is_read_whole(void **state)
{
	struct fixture f;
	struct usedmap *m;

	fixture_init(&f, 100 * MIB);
	fixture_add(&f, LAYOUT_PARTITION, 10 * MIB, NULL);
	fixture_add(&f, LAYOUT_GAP, 90 * MIB, NULL);
	f.regions[1].in_extended = true;
	m = fixture_map(&f);
	assert_int_equal(m->regions[1].content, CONTENT_ALL);
	assert_int_equal(extent_set_total(&m->regions[1].used), 90 * MIB);
	usedmap_free(m);
}

static void of_swap_only_the_header_is_read(void **state)
{
	struct fixture f;
	struct usedmap *m;

	fixture_init(&f, 40 * MIB);
	fixture_add(&f, LAYOUT_PARTITION, 20 * MIB, "swap");
	fixture_add(&f, LAYOUT_PARTITION, 20 * MIB, "swap");
	m = fixture_map(&f);
	assert_int_equal(m->regions[1].content, CONTENT_HEADER);
	assert_int_equal(m->regions[1].used.items[0].start, 20 * MIB);
	assert_int_equal(extent_set_total(&m->regions[1].used), 65536);
	usedmap_free(m);
}

static void volumes_arrays_and_unknown_content_are_read_whole(void **state)
{
	const char *const types[] = { "LVM2_member", "crypto_LUKS", "linux_raid_member",
				      "zfs_member", NULL };
	struct fixture f;
	struct usedmap *m;

	fixture_init(&f, 100 * MIB);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		fixture_add(&f, LAYOUT_PARTITION, 20 * MIB, types[i]);
	m = fixture_map(&f);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		assert_int_equal(m->regions[i].content, CONTENT_ALL);
		assert_int_equal(extent_set_total(&m->regions[i].used), 20 * MIB);
	}
	usedmap_free(m);
}

static void a_known_file_system_without_a_map_is_read_whole_and_says_why(void **state)
{
	struct fixture f;
	struct usedmap *m;

	fixture_init(&f, 20 * MIB);
	fixture_add(&f, LAYOUT_WHOLE, 20 * MIB, "ext4");
	m = fixture_map(&f);
	assert_int_equal(m->regions[0].content, CONTENT_ALL);
	assert_true(m->regions[0].why[0]);
	usedmap_free(m);
}

static void mounts_that_contradict_the_table_make_everything_read_whole(void **state)
{
	struct disk_mount mount = {
		.path = (char *)"/x", .fs_type = (char *)"ext4", .direct = true, .start = MIB
	};
	struct fixture f;
	struct usedmap *m;

	fixture_init(&f, 40 * MIB);
	fixture_add(&f, LAYOUT_PARTITION, 20 * MIB, "swap");
	fixture_add(&f, LAYOUT_PARTITION, 20 * MIB, "swap");
	f.disk.mounts = &mount;
	f.disk.n_mounts = 1;
	m = fixture_map(&f);
	assert_int_equal(m->regions[0].content, CONTENT_ALL);
	assert_int_equal(m->regions[1].content, CONTENT_ALL);
	usedmap_free(m);
}

static void copy_extent(int from, int to, const struct extent *x)
{
	uint8_t *buf = aligned_alloc(4096, MIB);

	assert_non_null(buf);
	for (uint64_t at = x->start; at < extent_end(x);) {
		size_t want = (size_t)MIN(MIB, ROUND_UP(extent_end(x) - at, 4096));
		ssize_t n = io_pread_some(from, buf, want, at);

		if (n <= 0) {
			fprintf(stderr, "read at %llu: %zd\n", (unsigned long long)at, n);
			exit(1);
		}
		n = (ssize_t)MIN((uint64_t)n, extent_end(x) - at);
		assert_int_equal(io_pwrite_all(to, buf, (size_t)n, at), 0);
		at += (uint64_t)n;
	}
	free(buf);
}

static int copy_used(const char *source, const char *copy, bool live)
{
	_cleanup_(disk_freep) struct disk *d = NULL;
	_cleanup_(usedmap_freep) struct usedmap *m = NULL;
	_cleanup_close_ int to = open(copy, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct err e = { 0 };
	uint64_t start = io_now_ns();

	if (to < 0 || disk_open(source, &d, &e) < 0 || ftruncate(to, (off_t)d->size) < 0 ||
	    usedmap_make(d, live ? USEDMAP_LIVE : USEDMAP_IDLE, &m, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	printf("%s table=%s mounts=%zu in_use=%d ms=%llu\n", d->path, d->layout->table, d->n_mounts,
	       d->in_use, (unsigned long long)(io_now_ns() - start) / 1000000);
	for (size_t i = 0; i < m->n_regions; i++) {
		const struct layout_region *region = &d->layout->regions[i];
		const struct usedmap_region *u = &m->regions[i];

		printf("region=%zu start=%llu length=%llu fs=%s map=%s used=%llu extents=%zu why=%s\n",
		       i, (unsigned long long)region->start, (unsigned long long)region->length,
		       region->fs_type ? region->fs_type : "-", u->map,
		       (unsigned long long)extent_set_total(&u->used), u->used.count, u->why);
		extent_for_each(x, &u->used)
			copy_extent(d->fd, to, x);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_small_gap_is_read_whole_and_a_large_one_at_its_edges),
		cmocka_unit_test(a_gap_inside_an_extended_partition_is_read_whole),
		cmocka_unit_test(of_swap_only_the_header_is_read),
		cmocka_unit_test(volumes_arrays_and_unknown_content_are_read_whole),
		cmocka_unit_test(a_known_file_system_without_a_map_is_read_whole_and_says_why),
		cmocka_unit_test(mounts_that_contradict_the_table_make_everything_read_whole),
	};

	if (argc == 4)
		return copy_used(argv[1], argv[2], !strcmp(argv[3], "live"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
