/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/io.h"
#include "lib/base/newfile.h"

/* A directory of its own for each test; the working directory is in it. */
static int setup(void **state)
{
	char dir[] = "/tmp/ambro-newfile.XXXXXX";

	if (!mkdtemp(dir) || chdir(dir) < 0)
		return -1;
	*state = strdup(dir);
	return *state ? 0 : -1;
}

static int entries(void)
{
	_cleanup_dir_ DIR *d = opendir(".");
	int n = -2;

	while (d && readdir(d))
		n++;
	return n;
}

static int teardown(void **state)
{
	const char *names[] = { "image", "link", "other" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (unlink(names[i]) < 0 && errno == EISDIR)
			rmdir(names[i]);
	}
	if (chdir("/") < 0 || rmdir(*state) < 0)
		return -1;
	free(*state);
	return 0;
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(name, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void expect(const char *name, const char *text)
{
	char line[64];

	assert_true(io_read_line(name, line, sizeof(line)) >= 0);
	assert_string_equal(line, text);
}

static void a_file_appears_when_it_is_published(void **state)
{
	_cleanup_(newfile_freep) struct newfile *f = NULL;

	(void)state;
	assert_int_equal(newfile_open("image", 0600, false, &f, NULL), 0);
	assert_int_equal(io_write_all(f->fd, "new", 3), 0);
	assert_int_equal(access("image", F_OK), -1);
	assert_int_equal(newfile_publish(f, NULL), 0);
	expect("image", "new");
	assert_int_equal(entries(), 1);
}

static void a_file_that_is_given_up_leaves_nothing(void **state)
{
	struct newfile *f;

	(void)state;
	assert_int_equal(newfile_open("image", 0600, false, &f, NULL), 0);
	newfile_free(f);
	newfile_free(NULL);
	assert_int_equal(entries(), 0);
}

static void a_file_that_exists_is_refused(void **state)
{
	struct newfile *f = NULL;
	struct err e = { 0 };

	(void)state;
	put("image", "old");
	assert_int_equal(newfile_open("image", 0600, false, &f, &e), -EEXIST);
	assert_null(f);
	expect("image", "old");
}

static void a_file_that_comes_into_being_meanwhile_is_not_replaced(void **state)
{
	_cleanup_(newfile_freep) struct newfile *f = NULL;

	(void)state;
	assert_int_equal(newfile_open("image", 0600, false, &f, NULL), 0);
	put("image", "theirs");
	assert_int_equal(newfile_publish(f, NULL), -EEXIST);
	expect("image", "theirs");
}

static void a_file_is_replaced_when_asked(void **state)
{
	_cleanup_(newfile_freep) struct newfile *f = NULL;

	(void)state;
	put("image", "old");
	assert_int_equal(newfile_open("image", 0600, true, &f, NULL), 0);
	assert_int_equal(io_write_all(f->fd, "new", 3), 0);
	expect("image", "old");
	assert_int_equal(newfile_publish(f, NULL), 0);
	expect("image", "new");
	assert_int_equal(entries(), 1);
}

static void a_link_is_followed_and_stays(void **state)
{
	_cleanup_(newfile_freep) struct newfile *f = NULL;
	struct stat st;

	(void)state;
	put("image", "old");
	assert_int_equal(symlink("image", "link"), 0);
	assert_int_equal(newfile_open("link", 0600, true, &f, NULL), 0);
	assert_int_equal(io_write_all(f->fd, "new", 3), 0);
	assert_int_equal(newfile_publish(f, NULL), 0);
	expect("image", "new");
	assert_int_equal(lstat("link", &st), 0);
	assert_true(S_ISLNK(st.st_mode));
}

static void a_link_to_nowhere_is_refused(void **state)
{
	struct newfile *f = NULL;

	(void)state;
	assert_int_equal(symlink("nowhere", "link"), 0);
	assert_int_equal(newfile_open("link", 0600, false, &f, NULL), -EEXIST);
	assert_int_equal(newfile_open("link", 0600, true, &f, NULL), -ENOENT);
	assert_null(f);
}

static void a_directory_is_refused(void **state)
{
	struct newfile *f = NULL;

	(void)state;
	assert_int_equal(mkdir("image", 0700), 0);
	assert_int_equal(newfile_open("image", 0600, false, &f, NULL), -EISDIR);
	assert_int_equal(newfile_open("image", 0600, true, &f, NULL), -EISDIR);
	assert_int_equal(newfile_open("other/", 0600, false, &f, NULL), -EISDIR);
	assert_int_equal(newfile_open("no/image", 0600, false, &f, NULL), -ENOENT);
	assert_null(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_file_appears_when_it_is_published, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_file_that_is_given_up_leaves_nothing, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_file_that_exists_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_file_that_comes_into_being_meanwhile_is_not_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(a_file_is_replaced_when_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(a_link_is_followed_and_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(a_link_to_nowhere_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_directory_is_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
