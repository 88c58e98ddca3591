/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Without arguments: what needs no root. `show SOURCE` prints a disk and what is mounted on it, `holds
 * SOURCE FILE` exits 0 when the file lies on it: for tests/integration/disk-*.sh.
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
#include "agent/medium.h"

static char image[] = "/tmp/test-disk-XXXXXX";

static int image_make(void **state)
{
	int fd = mkstemp(image);

	if (fd < 0 || ftruncate(fd, 8 << 20) < 0 || pwrite(fd, "some bytes", 10, 4096) != 10)
		return -1;
	close(fd);
	return 0;
}

static int image_remove(void **state)
{
	return unlink(image);
}

static void assert_refused(const char *source, int code)
{
	struct disk *d = NULL;
	struct err e = { 0 };

	assert_int_equal(disk_open(source, &d, &e), code);
	assert_null(d);
	assert_true(strlen(e.text) > 5);
}

static void an_image_file_is_a_disk_without_a_device(void **state)
{
	struct disk *d = NULL;
	struct err e = { 0 };

	assert_int_equal(disk_open(image, &d, &e), 0);
	assert_true(d->is_file);
	assert_int_equal(d->device, 0);
	assert_int_equal(d->size, 8 << 20);
	assert_int_equal(d->logical_sector, 512);
	assert_string_equal(d->path, image);
	assert_string_equal(d->layout->table, "none");
	assert_int_equal(d->n_mounts, 0);
	assert_false(d->in_use);
	assert_int_equal(disk_refresh_mounts(d, &e), 0);
	disk_free(d);
}

static void an_image_file_holds_itself_and_nothing_else(void **state)
{
	int self = open(image, O_RDWR | O_CLOEXEC), memory = memfd_create("x", MFD_CLOEXEC);
	int other = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), ends[2];
	struct disk *d = NULL;
	struct err e = { 0 };

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(disk_open(image, &d, &e), 0);
	assert_true(disk_holds_fd(d, self));
	assert_false(disk_holds_fd(d, other));
	assert_false(disk_holds_fd(d, memory));
	assert_false(disk_holds_fd(d, ends[1]));
	assert_false(disk_holds_fd(d, -1));
	disk_free(d);
	close(self);
	close(other);
	close(memory);
	close(ends[0]);
	close(ends[1]);
}

static void an_empty_file_is_refused(void **state)
{
	char path[] = "/tmp/test-disk-empty-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_refused(path, -ENOMEDIUM);
	close(fd);
	unlink(path);
}

static void what_is_no_disk_is_refused_in_words(void **state)
{
	assert_refused("/no/such/thing", -ENOENT);
	assert_refused("/dev/null", -ENOTBLK);
	assert_refused("/proc", -ENOTBLK);
	assert_refused("/proc/self", -EINVAL);
}

static void the_list_of_devices_can_be_made_by_anyone(void **state)
{
	struct disk_row *rows = NULL;
	struct err e = { 0 };
	size_t count = 0;

	assert_int_equal(disk_list(&rows, &count, &e), 0);
	for (size_t i = 0; i < count; i++) {
		assert_non_null(rows[i].name);
		assert_non_null(rows[i].kind);
		assert_int_equal(strncmp(rows[i].path, "/dev/", 5), 0);
		assert_true(rows[i].size > 0);
	}
	disk_list_free(rows, count);
}

static void a_copy_of_the_medium_has_the_parts_and_zeros_between(void **state)
{
	struct extent parts[] = { { 4096, 512 }, { (8 << 20) - 512, 512 } };
	struct extent_set set = { .items = parts, .count = 2 };
	int from = open(image, O_RDONLY | O_CLOEXEC), fd = -1;
	struct err e = { 0 };
	char buf[16] = { 0 };

	assert_int_equal(medium_copy(from, 8 << 20, &set, &fd, &e), 0);
	assert_int_equal(pread(fd, buf, 10, 4096), 10);
	assert_string_equal(buf, "some bytes");
	assert_int_equal(lseek(fd, 0, SEEK_END), 8 << 20);
	assert_int_equal(pread(fd, buf, 1, 0), 1);
	assert_int_equal(buf[0], 0);
	close(fd);
	close(from);
}

static void a_part_behind_the_end_of_the_medium_is_an_error(void **state)
{
	struct extent part = { 8 << 20, 512 };
	struct extent_set set = { .items = &part, .count = 1 };
	int from = open(image, O_RDONLY | O_CLOEXEC), fd = -1;
	struct err e = { 0 };

	assert_true(medium_copy(from, 16 << 20, &set, &fd, &e) < 0);
	assert_int_equal(fd, -1);
	close(from);
}

static int show(const char *source)
{
	_cleanup_(disk_freep) struct disk *d = NULL;
	struct err e = { 0 };

	if (disk_open(source, &d, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	printf("path=%s partition=%d offset=%llu size=%llu table=%s regions=%zu in_use=%d\n",
	       d->path, d->is_partition, (unsigned long long)d->whole_offset,
	       (unsigned long long)d->size, d->layout->table, d->layout->n_regions, d->in_use);
	for (size_t i = 0; i < d->n_mounts; i++) {
		printf("mount=%s type=%s direct=%d start=%llu ro=%d\n", d->mounts[i].path,
		       d->mounts[i].fs_type, d->mounts[i].direct,
		       (unsigned long long)d->mounts[i].start, d->mounts[i].read_only);
	}
	return 0;
}

static int holds(const char *source, const char *path)
{
	_cleanup_(disk_freep) struct disk *d = NULL;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct err e = { 0 };

	if (fd < 0 || disk_open(source, &d, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 2;
	}
	return disk_holds_fd(d, fd) ? 0 : 1;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_image_file_is_a_disk_without_a_device),
		cmocka_unit_test(an_image_file_holds_itself_and_nothing_else),
		cmocka_unit_test(an_empty_file_is_refused),
		cmocka_unit_test(what_is_no_disk_is_refused_in_words),
		cmocka_unit_test(the_list_of_devices_can_be_made_by_anyone),
		cmocka_unit_test(a_copy_of_the_medium_has_the_parts_and_zeros_between),
		cmocka_unit_test(a_part_behind_the_end_of_the_medium_is_an_error),
	};

	if (argc == 3 && !strcmp(argv[1], "show"))
		return show(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "holds"))
		return holds(argv[2], argv[3]);
	return cmocka_run_group_tests(tests, image_make, image_remove);
}
