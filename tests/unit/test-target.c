/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "ctl/disk_writer.h"
#include "ctl/target.h"
#include "lib/base/io.h"

static char dir[] = "/tmp/ambro-target.XXXXXX";
static char path[64];
static int image_fd;

static int set_up(void **state)
{
	image_fd = memfd_create("image", MFD_CLOEXEC);
	if (image_fd < 0 || !mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/target", dir);
	return 0;
}

static int tear_down(void **state)
{
	unlink(path);
	close_fd(image_fd);
	return rmdir(dir);
}

static void a_file_that_was_made_and_not_used_goes_away(void **state)
{
	struct target *t = NULL;
	struct stat st;

	assert_int_equal(target_open(path, 1 << 20, image_fd, &t, NULL), 0);
	assert_true(t->is_file && t->fresh);
	assert_int_equal(stat(path, &st), 0);
	target_free(t);
	assert_int_equal(stat(path, &st), -1);
}

static void a_file_grows_to_what_is_needed_and_stays(void **state)
{
	struct target *t = NULL;
	struct stat st;

	assert_int_equal(target_open(path, 12345, image_fd, &t, NULL), 0);
	assert_int_equal(target_begin(t, 12345, NULL), 0);
	target_free(t);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 12345);
	unlink(path);
}

static void a_mistyped_device_is_not_made_a_file(void **state)
{
	struct target *t = NULL;
	struct err e = { 0 };

	assert_true(target_open("/dev/ambro-none", 1, image_fd, &t, &e) < 0);
	assert_null(t);
	assert_int_equal(access("/dev/ambro-none", F_OK), -1);
}

static void the_image_is_no_target(void **state)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct target *t = NULL;
	struct err e = { 0 };

	assert_int_equal(target_open(path, 1, fd, &t, &e), -EBUSY);
	assert_non_null(strstr(e.text, "the image itself"));
	unlink(path);
}

static void zeroed_and_given_back_ranges_read_as_zeros(void **state)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	static uint8_t bytes[1 << 16];
	struct target *t = NULL;

	memset(bytes, 0xaa, sizeof(bytes));
	assert_int_equal(io_pwrite_all(fd, bytes, sizeof(bytes), 0), 0);
	assert_int_equal(target_open(path, sizeof(bytes), image_fd, &t, NULL), 0);
	assert_false(t->fresh);
	assert_int_equal(target_zero(t, 100, 1000, NULL), 0);
	assert_true(target_discard(t, 8192, 4096, NULL) >= 0);
	assert_int_equal(io_pread_all(fd, bytes, sizeof(bytes), 0), 0);
	assert_int_equal(bytes[99], 0xaa);
	for (size_t i = 100; i < 1100; i++)
		assert_int_equal(bytes[i], 0);
	assert_int_equal(bytes[1100], 0xaa);
	assert_int_equal(bytes[8191], 0xaa);
	assert_int_equal(bytes[12288], 0xaa);
	target_free(t);
	unlink(path);
}

static void a_writer_writes_every_buffer_to_its_place(void **state)
{
	_cleanup_(disk_writer_freep) struct disk_writer *w = NULL;
	_cleanup_close_ int fd = memfd_create("disk", MFD_CLOEXEC);
	struct disk_writer_options o = {
		.fd = fd, .direct_fd = -EBADF, .align = 512, .size = 5000, .depth = 3
	};
	uint8_t byte;
	void *b;

	assert_int_equal(disk_writer_new(&o, &w), 0);
	for (unsigned int i = 0; i < 50; i++) {
		assert_int_equal(disk_writer_buffer(w, &b, NULL), 0);
		memset(b, (int)i, 5000);
		assert_int_equal(disk_writer_write(w, b, 5000, UINT64_C(5000) * (49 - i), NULL), 0);
	}
	assert_int_equal(disk_writer_drain(w, NULL), 0);
	for (unsigned int i = 0; i < 50 * 5000; i += 777) {
		assert_int_equal(io_pread_all(fd, &byte, 1, i), 0);
		assert_int_equal(byte, 49 - i / 5000);
	}
}

static void a_failed_write_is_told_once_and_the_writer_goes_on(void **state)
{
	_cleanup_(disk_writer_freep) struct disk_writer *w = NULL;
	_cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct disk_writer_options o = {
		.fd = full, .direct_fd = -EBADF, .align = 512, .size = 4096, .depth = 2
	};
	struct err e = { 0 };
	void *b;

	assert_int_equal(disk_writer_new(&o, &w), 0);
	assert_int_equal(disk_writer_buffer(w, &b, NULL), 0);
	assert_int_equal(disk_writer_write(w, b, 4096, 8192, &e), 0);
	assert_int_equal(disk_writer_drain(w, &e), -ENOSPC);
	assert_non_null(strstr(e.text, "byte 8192"));
	assert_int_equal(disk_writer_drain(w, &e), 0);
	assert_int_equal(disk_writer_buffer(w, &b, &e), 0);
	disk_writer_return(w, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_that_was_made_and_not_used_goes_away),
		cmocka_unit_test(a_file_grows_to_what_is_needed_and_stays),
		cmocka_unit_test(a_mistyped_device_is_not_made_a_file),
		cmocka_unit_test(the_image_is_no_target),
		cmocka_unit_test(zeroed_and_given_back_ranges_read_as_zeros),
		cmocka_unit_test(a_writer_writes_every_buffer_to_its_place),
		cmocka_unit_test(a_failed_write_is_told_once_and_the_writer_goes_on),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
