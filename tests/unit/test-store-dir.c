/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a store in a directory adds to test-store: every step at which it can be killed or fail, and strange directories. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "lib/repo/store.h"
#include "tests/unit/store-fixture.h"

#define NAME  "packs/4f/4f0c"
#define BYTES "sixteen bytes..."
#define LEN   16

#define KILLED 42
#define NOBODY 65534

static int path_of(void **state, const char *name, char *buf, size_t size)
{
	const struct store_fixture *f = *state;

	return snprintf(buf, size, "%s/%s", f->dir, name);
}

static mode_t mode_of(void **state, const char *name)
{
	char path[300];
	struct stat st;

	path_of(state, name, path, sizeof(path));
	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

/* What is in tmp/; 0 also when there is no such folder. */
static int temporary(void **state)
{
	char path[300];
	_cleanup_dir_ DIR *d = NULL;
	int n = -2;

	path_of(state, "tmp", path, sizeof(path));
	d = opendir(path);
	while (d && readdir(d))
		n++;
	return d ? n : 0;
}

static int count(void *ctx, const char *name, uint64_t size)
{
	(void)name;
	(void)size;
	++*(int *)ctx;
	return 0;
}

/* ---- steps ---------------------------------------------------------------------------------------------------------- */

static struct {
	int (*below)(const char *step); /* what the fixture put there */
	int number, at;			/* steps so far; the one where it happens, -1: nowhere */
	int error;			/* fail with it; 0: die */
	const char *only;		/* count this step only, if not NULL */
	char seen[500];
} steps;

static int count_step(const char *step)
{
	size_t len = strlen(steps.seen);

	if (steps.only && strcmp(steps.only, step) != 0)
		return steps.below ? steps.below(step) : 0;
	snprintf(steps.seen + len, sizeof(steps.seen) - len, "%s ", step);
	if (steps.number++ == steps.at) {
		if (steps.error == 0)
			_exit(KILLED);
		return steps.error;
	}
	return steps.below ? steps.below(step) : 0;
}

static void steps_begin(int at, int error)
{
	if (store_dir_step != count_step)
		steps.below = store_dir_step;
	store_dir_step = count_step;
	steps.number = 0;
	steps.at = at;
	steps.error = error;
	steps.only = NULL;
	*steps.seen = '\0';
}

/* Is the object whole (true) or absent? Anything else fails. */
static bool whole(struct store *s)
{
	char buf[LEN];
	uint64_t size = 0;
	int r = store_size(s, NAME, &size, NULL), listed = 0;

	assert_int_equal(store_list(s, "", count, &listed, NULL), 0);
	if (r == -ENOENT) {
		assert_int_equal(listed, 0);
		return false;
	}
	assert_int_equal(r, 0);
	assert_int_equal(listed, 1);
	assert_int_equal(size, LEN);
	assert_int_equal(store_get(s, NAME, 0, buf, LEN, NULL), 0);
	assert_memory_equal(buf, BYTES, LEN);
	return true;
}

/* Of a child that does @what and is killed at step @at. True: it was, false: it came to its end. */
static bool killed_at(struct store *s, int at, int (*what)(struct store *s))
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		steps_begin(at, 0);
		_exit(what(s) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == KILLED);
	return WEXITSTATUS(status) == KILLED;
}

static int put(struct store *s)
{
	return store_put(s, NAME, BYTES, LEN, NULL);
}

/* The same in two pieces. */
static int put_draft_said(struct store *s, struct err *e)
{
	const struct iovec parts[] = { { (void *)BYTES, 3 }, { (void *)&BYTES[3], LEN - 3 } };
	_cleanup_(store_draft_freep) struct store_draft *d = NULL;
	int r = store_draft_new(s, "packs/", &d, e);

	for (size_t i = 0; i < ARRAY_SIZE(parts) && r == 0; i++)
		r = store_draft_add(d, &parts[i], 1, e);
	return r == 0 ? store_draft_put(d, NAME, e) : r;
}

static int put_draft(struct store *s)
{
	return put_draft_said(s, NULL);
}

static int put_said(struct store *s, struct err *e)
{
	return store_put(s, NAME, BYTES, LEN, e);
}

static int del(struct store *s)
{
	return store_del(s, NAME, NULL);
}

/* As nobody had ever put anything. */
static void begin_anew(void **state)
{
	static const char *const folders[] = { "packs/4f", "packs", "tmp" };
	char path[300];

	assert_int_equal(del(store_fixture_store(state)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		path_of(state, folders[i], path, sizeof(path));
		if (rmdir(path) < 0)
			assert_int_equal(errno, ENOENT);
	}
}

static void killed_while_putting(void **state, int (*how)(struct store *s))
{
	struct store *s = store_fixture_store(state);
	int at, there = 0;

	for (at = 0; killed_at(s, at, how); at++) {
		bool is = whole(s);

		there += is;
		assert_int_equal(store_dir_clean(s, 0, NULL), 0);
		assert_int_equal(temporary(state), 0);
		assert_int_equal(whole(s), is);
		assert_int_equal(put(s), is ? -EEXIST : 0);
		assert_true(whole(s));
		begin_anew(state);
	}
	/* folder (2), nameless, write, flush, link, flush-folder (3), and more where that is not the way */
	assert_true(at >= 9);
	assert_true(there >= 3);
	assert_true(whole(s));
}

static void who_is_killed_while_putting_leaves_all_or_nothing(void **state)
{
	killed_while_putting(state, put);
}

static void who_is_killed_with_a_draft_leaves_all_or_nothing(void **state)
{
	killed_while_putting(state, put_draft);
}

static void who_is_killed_while_deleting_leaves_all_or_nothing(void **state)
{
	struct store *s = store_fixture_store(state);
	int at;

	assert_int_equal(put(s), 0);
	for (at = 0; killed_at(s, at, del); at++) {
		whole(s);
		assert_true(put(s) == 0 || at == 0);
	}
	assert_int_equal(at, 2);
	assert_false(whole(s));
}

static void failing_put(void **state, int (*how)(struct store *s, struct err *e))
{
	struct store *s = store_fixture_store(state);
	bool failed = true;

	for (int at = 0; failed; at++) {
		struct err e = { 0 };
		bool is;
		int r;

		steps_begin(at, -EIO);
		r = how(s, &e);
		failed = steps.number > at;
		steps_begin(-1, 0);
		is = whole(s);
		assert_true(r == -EIO || (r == 0 && is));
		if (r < 0)
			assert_non_null(strstr(e.text, "packs/"));
		/* a name in tmp/ that cannot be removed is no reason to fail */
		assert_int_equal(temporary(state), failed && r == 0);
		assert_int_equal(store_dir_clean(s, 0, NULL), 0);
		assert_int_equal(temporary(state), 0);
		assert_int_equal(put(s), is ? -EEXIST : 0);
		begin_anew(state);
	}
}

static void a_put_that_fails_leaves_all_or_nothing(void **state)
{
	failing_put(state, put_said);
}

static void a_draft_that_fails_leaves_all_or_nothing(void **state)
{
	failing_put(state, put_draft_said);
}

/* After a write or an fsync that failed nobody knows what is there. */
static void a_draft_is_not_tried_twice(void **state)
{
	static const char *const only[] = { "write", "flush" };
	const struct iovec part = { (void *)BYTES, LEN };
	struct store *s = store_fixture_store(state);

	for (size_t i = 0; i < ARRAY_SIZE(only); i++) {
		_cleanup_(store_draft_freep) struct store_draft *d = NULL;
		int r;

		assert_int_equal(store_draft_new(s, "packs/", &d, NULL), 0);
		steps_begin(0, -EIO);
		steps.only = only[i];
		r = store_draft_add(d, &part, 1, NULL);
		assert_int_equal(r, i == 0 ? -EIO : 0);
		if (r == 0)
			assert_int_equal(store_draft_put(d, NAME, NULL), -EIO);
		steps_begin(-1, 0);
		assert_int_equal(store_draft_add(d, &part, 1, NULL), -EIO);
		assert_int_equal(store_draft_put(d, NAME, NULL), -EIO);
		assert_false(whole(s));
	}
}

static void a_deletion_that_fails_says_so(void **state)
{
	struct store *s = store_fixture_store(state);
	struct err e = { 0 };

	assert_int_equal(put(s), 0);
	steps_begin(0, -EIO);
	assert_int_equal(store_del(s, NAME, &e), -EIO);
	assert_non_null(strstr(e.text, NAME));
	assert_true(whole(s));
	steps_begin(1, -EIO);
	assert_int_equal(store_del(s, NAME, &e), -EIO);
	steps_begin(-1, 0);
	assert_false(whole(s));
}

/* How the put that was just seen was done: the file system may itself be one that cannot. */
static enum store_kind way_of(void **state)
{
	enum store_kind way = strstr(steps.seen, "rename")	? STORE_KIND_DIR_RENAME
			      : strstr(steps.seen, "temporary") ? STORE_KIND_DIR_TEMPORARY
								: STORE_KIND_DIR;

	assert_true(way >= ((const struct store_fixture *)*state)->kind);
	return way;
}

static void the_steps_are_those_that_are_written_down(void **state)
{
	static const char *const expected[] = {
		"folder folder nameless write flush link flush-folder flush-folder flush-folder ",
		"folder folder nameless folder temporary write flush link unlink flush-folder "
		"flush-folder flush-folder ",
		"folder folder nameless folder temporary write flush link rename flush-folder "
		"flush-folder flush-folder ",
	};
	struct store *s = store_fixture_store(state);

	steps_begin(-1, 0);
	assert_int_equal(put(s), 0);
	assert_string_equal(steps.seen, expected[way_of(state)]);
	steps_begin(-1, 0);
	assert_int_equal(del(s), 0);
	assert_string_equal(steps.seen, "delete flush-folder ");
}

static void the_steps_of_a_draft_are_those_that_are_written_down(void **state)
{
	static const char *const expected[] = {
		"folder nameless write write folder flush link flush-folder flush-folder "
		"flush-folder ",
		"folder nameless folder temporary write write folder flush link unlink flush-folder "
		"flush-folder flush-folder ",
		"folder nameless folder temporary write write folder flush link rename flush-folder "
		"flush-folder flush-folder ",
	};

	steps_begin(-1, 0);
	assert_int_equal(put_draft(store_fixture_store(state)), 0);
	assert_string_equal(steps.seen, expected[way_of(state)]);
}

/* Another writer may have been killed before it had flushed them. */
static void what_is_found_is_made_durable(void **state)
{
	struct store *s = store_fixture_store(state);
	int n = 0;

	assert_int_equal(put(s), 0);
	steps_begin(-1, 0);
	assert_int_equal(put(s), -EEXIST);
	assert_string_equal(steps.seen, "flush-folder flush-folder flush-folder ");
	steps_begin(-1, 0);
	assert_int_equal(store_list(s, "packs/", count, &n, NULL), 0);
	assert_int_equal(n, 1);
	/* packs/4f, packs, and from there up again */
	assert_string_equal(steps.seen, "flush-folder flush-folder flush-folder flush-folder ");
	steps_begin(0, -EIO);
	assert_int_equal(put(s), -EIO);
	steps_begin(0, -EIO);
	assert_int_equal(store_list(s, "packs/", count, &n, NULL), -EIO);
}

static struct store *rival;

/* Somebody else puts the object after this writer has looked. */
static int put_by_rival(const char *step)
{
	struct store *s = rival;

	if (s && !strcmp(step, "link")) {
		rival = NULL;
		assert_int_equal(put(s), 0);
	}
	return steps.below ? steps.below(step) : 0;
}

static void who_is_slower_is_told_that_it_exists(void **state)
{
	struct store *s = store_fixture_store(state);

	steps.below = store_dir_step;
	rival = s;
	store_dir_step = put_by_rival;
	assert_int_equal(store_put(s, NAME, "other", 5, NULL), -EEXIST);
	assert_null(rival);
	assert_true(whole(s));
	assert_int_equal(temporary(state), 0);
}

static const char *lost_dir;

/* The server made the link, and its answer never came: the client asks again, and is told that it exists. */
static int lose_answer(const char *step)
{
	char from[300], to[300];
	_cleanup_dir_ DIR *d = NULL;
	const struct dirent *entry;

	if (strcmp(step, "link") != 0)
		return store_fixture_no_nameless(step);
	snprintf(from, sizeof(from), "%s/tmp", lost_dir);
	snprintf(to, sizeof(to), "%s/" NAME, lost_dir);
	d = opendir(from);
	while (d && (entry = readdir(d))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(from, sizeof(from), "%s/tmp/%.100s", lost_dir, entry->d_name);
		return link(from, to) < 0 ? -errno : -EEXIST;
	}
	return -ENOENT;
}

static void a_link_whose_answer_was_lost_is_ones_own(void **state)
{
	const struct store_fixture *f = *state;
	int r;

	lost_dir = f->dir;
	store_dir_step = lose_answer;
	r = put(f->s);
	/* no links here */
	if (r == -EOPNOTSUPP || r == -EPERM)
		skip();
	assert_int_equal(r, 0);
	assert_true(whole(f->s));
	assert_int_equal(temporary(state), 0);
}

static void no_room_is_said_with_what_to_do(void **state)
{
	struct store *s = store_fixture_store(state);
	struct err e = { 0 };

	steps_begin(0, -ENOSPC);
	steps.only = "write";
	assert_int_equal(store_put(s, NAME, BYTES, LEN, &e), -ENOSPC);
	assert_non_null(strstr(e.text, "no room"));
	assert_non_null(strstr(e.text, "prune"));
	assert_non_null(strstr(e.text, NAME));
	steps_begin(-1, 0);
	assert_false(whole(s));
	assert_int_equal(temporary(state), 0);
}

static void a_file_system_that_can_neither_is_refused(void **state)
{
	struct store *s = store_fixture_store(state);
	struct err e = { 0 };

	/* it is one */
	if (((const struct store_fixture *)*state)->kind != STORE_KIND_DIR_RENAME)
		skip();
	steps_begin(0, -EINVAL);
	steps.only = "rename";
	assert_int_equal(store_put(s, NAME, BYTES, LEN, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.text, "another"));
	steps_begin(-1, 0);
	assert_false(whole(s));
	assert_int_equal(temporary(state), 0);
}

/* ---- limits --------------------------------------------------------------------------------------------------------- */

/* The limit is reached in the middle of a write, which is then a short one. */
static void an_object_that_does_not_fit_leaves_nothing(void **state)
{
	struct store *s = store_fixture_store(state);
	struct rlimit old, small;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){ .rlim_cur = LEN / 2, .rlim_max = old.rlim_max };
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(put(s), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_false(whole(s));
	assert_int_equal(temporary(state), 0);
	assert_int_equal(put(s), 0);
}

/* Only where the directory is on a small file system: tests/integration/store-file-systems.sh */
static void a_full_file_system_leaves_nothing(void **state)
{
	const struct store_fixture *f = *state;
	struct store *s = store_fixture_store(state);
	_cleanup_free_ char *bytes = NULL;
	struct err e = { 0 };
	struct statvfs st;
	uint64_t len;

	assert_int_equal(statvfs(f->dir, &st), 0);
	len = (uint64_t)(st.f_blocks + 1) * st.f_frsize;
	if (len > (64U << 20))
		skip();
	bytes = calloc(1, len);
	assert_non_null(bytes);
	assert_int_equal(store_put(s, NAME, bytes, len, &e), -ENOSPC);
	assert_non_null(strstr(e.text, "no room"));
	assert_false(whole(s));
	assert_int_equal(temporary(state), 0);
	assert_int_equal(put(s), 0);
	assert_true(whole(s));
}

static void only_the_owner_may_read(void **state)
{
	struct store *s = store_fixture_store(state);
	mode_t old = umask(0);
	char path[300];

	assert_int_equal(put(s), 0);
	umask(old);
	/* FAT has one mode for all */
	path_of(state, "probe", path, sizeof(path));
	assert_int_equal(mkdir(path, 0710), 0);
	if (mode_of(state, "probe") != 0710)
		skip();
	assert_int_equal(mode_of(state, NAME), 0600);
	assert_int_equal(mode_of(state, "packs"), 0700);
	assert_int_equal(mode_of(state, "packs/4f"), 0700);
	if (((const struct store_fixture *)*state)->kind != STORE_KIND_DIR)
		assert_int_equal(mode_of(state, "tmp"), 0700);
}

static int put_as_nobody(struct store *s)
{
	struct err e = { 0 };

	/* root may do everything */
	if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return 1;
	if (store_put(s, "images/0", "x", 1, &e) != -EACCES || !strstr(e.text, "images/0"))
		return 2;
	if (store_put(s, "b", "x", 1, &e) != -EACCES || !strstr(e.text, "Permission denied"))
		return 3;
	return store_del(s, "a", &e) == -EACCES ? 0 : 4;
}

static void a_directory_that_may_not_be_written_is_left_alone(void **state)
{
	const struct store_fixture *f = *state;
	struct store *s = store_fixture_store(state);
	struct stat st;

	assert_int_equal(store_put(s, "a", "x", 1, NULL), 0);
	/* FAT has one mode for all */
	if (chmod(f->dir, 0555) < 0 || stat(f->dir, &st) < 0 || (st.st_mode & 0777) != 0555)
		skip();
	assert_false(killed_at(s, -1, put_as_nobody));
	assert_int_equal(chmod(f->dir, 0700), 0);
}

static void a_directory_that_is_none_is_not_opened(void **state)
{
	char path[300];
	struct store *s = NULL;
	struct err e = { 0 };

	path_of(state, "gone", path, sizeof(path));
	assert_int_equal(store_dir_open(path, true, &s, &e), -ENOENT);
	assert_non_null(strstr(e.text, path));
	assert_int_equal(store_put(store_fixture_store(state), "file", "", 0, NULL), 0);
	path_of(state, "file", path, sizeof(path));
	assert_int_equal(store_dir_open(path, true, &s, &e), -ENOTDIR);
	assert_null(s);
}

/* ---- what others put there ------------------------------------------------------------------------------------------ */

static void make(void **state, const char *name)
{
	char path[300];
	int fd;

	path_of(state, name, path, sizeof(path));
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void strange_things_are_not_seen(void **state)
{
	struct store *s = store_fixture_store(state);
	char path[300];

	assert_int_equal(put(s), 0);
	make(state, "packs/.nfs0000000000000001");
	make(state, "packs/README");
	make(state, "packs/4f/4f0c~");
	path_of(state, "lost+found", path, sizeof(path));
	assert_int_equal(mkdir(path, 0700), 0);
	make(state, "lost+found/a");
	path_of(state, ".snapshot", path, sizeof(path));
	assert_int_equal(mkdir(path, 0700), 0);
	make(state, ".snapshot/a");
	path_of(state, "tmp", path, sizeof(path));
	if (mkdir(path, 0700) < 0)
		assert_int_equal(errno, EEXIST);
	make(state, "tmp/0123456789abcdef");
	assert_true(whole(s));
}

/* Not every file system has links and pipes. */
static void a_link_or_a_pipe_is_no_object(void **state)
{
	struct store *s = store_fixture_store(state);
	char path[300], c;
	uint64_t size;
	int n = 0;

	make(state, "target");
	path_of(state, "link", path, sizeof(path));
	if (symlink("target", path) < 0)
		skip();
	path_of(state, "pipe", path, sizeof(path));
	assert_int_equal(mkfifo(path, 0600), 0);
	path_of(state, "folder", path, sizeof(path));
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(store_get(s, "link", 0, &c, 1, NULL), -ELOOP);
	assert_int_equal(store_size(s, "link", &size, NULL), -EISDIR);
	assert_int_equal(store_get(s, "pipe", 0, &c, 1, NULL), -EISDIR);
	assert_int_equal(store_get(s, "folder", 0, &c, 1, NULL), -EISDIR);
	assert_int_equal(store_put(s, "link", "x", 1, NULL), -EISDIR);
	assert_int_equal(store_put(s, "pipe", "x", 1, NULL), -EISDIR);
	assert_int_equal(store_put(s, "folder", "x", 1, NULL), -EISDIR);
	assert_int_equal(store_size(s, "target", &size, NULL), 0);
	assert_int_equal(size, 0);
	assert_int_equal(store_list(s, "", count, &n, NULL), 0);
	assert_int_equal(n, 1);
}

static void a_folder_that_is_a_link_leads_nowhere(void **state)
{
	struct store *s = store_fixture_store(state);
	char path[300];
	uint64_t size;
	int n = 0;

	assert_int_equal(put(s), 0);
	path_of(state, "index", path, sizeof(path));
	if (symlink("packs", path) < 0)
		skip();
	assert_int_equal(store_put(s, "index/4f/4f0d", "x", 1, NULL), -ENOTDIR);
	assert_int_equal(store_size(s, "index/4f/4f0c", &size, NULL), -ENOTDIR);
	assert_int_equal(store_del(s, "index/4f/4f0c", NULL), -ENOTDIR);
	assert_int_equal(store_list(s, "index/", count, &n, NULL), -ENOTDIR);
	assert_int_equal(n, 0);
	assert_true(whole(s));
}

static void only_old_temporary_files_are_cleaned(void **state)
{
	struct store *s = store_fixture_store(state);
	char path[300];

	assert_int_equal(store_dir_clean(s, 0, NULL), 0);
	path_of(state, "tmp", path, sizeof(path));
	assert_int_equal(mkdir(path, 0700), 0);
	make(state, "tmp/0123456789abcdef");
	assert_int_equal(store_dir_clean(s, 3600, NULL), 0);
	assert_int_equal(temporary(state), 1);
	assert_int_equal(store_dir_clean(s, 0, NULL), 0);
	assert_int_equal(temporary(state), 0);
}

static const struct CMUnitTest tests_of_each[] = {
	cmocka_unit_test(who_is_killed_while_putting_leaves_all_or_nothing),
	cmocka_unit_test(who_is_killed_with_a_draft_leaves_all_or_nothing),
	cmocka_unit_test(who_is_killed_while_deleting_leaves_all_or_nothing),
	cmocka_unit_test(a_put_that_fails_leaves_all_or_nothing),
	cmocka_unit_test(a_draft_that_fails_leaves_all_or_nothing),
	cmocka_unit_test(a_draft_is_not_tried_twice),
	cmocka_unit_test(a_deletion_that_fails_says_so),
	cmocka_unit_test(the_steps_are_those_that_are_written_down),
	cmocka_unit_test(the_steps_of_a_draft_are_those_that_are_written_down),
	cmocka_unit_test(what_is_found_is_made_durable),
	cmocka_unit_test(who_is_slower_is_told_that_it_exists),
	cmocka_unit_test(no_room_is_said_with_what_to_do),
	cmocka_unit_test(an_object_that_does_not_fit_leaves_nothing),
	cmocka_unit_test(a_full_file_system_leaves_nothing),
	cmocka_unit_test(only_the_owner_may_read),
	cmocka_unit_test(a_directory_that_may_not_be_written_is_left_alone),
};

static const struct CMUnitTest tests_of_one[] = {
	cmocka_unit_test(a_directory_that_is_none_is_not_opened),
	cmocka_unit_test(strange_things_are_not_seen),
	cmocka_unit_test(a_link_whose_answer_was_lost_is_ones_own),
	cmocka_unit_test(a_link_or_a_pipe_is_no_object),
	cmocka_unit_test(a_folder_that_is_a_link_leads_nowhere),
	cmocka_unit_test(only_old_temporary_files_are_cleaned),
};

int main(void)
{
	struct CMUnitTest tests[3 * ARRAY_SIZE(tests_of_each) + ARRAY_SIZE(tests_of_one) + 1];
	static char names[ARRAY_SIZE(tests)][100];
	size_t n = 0;

	for (enum store_kind kind = 0; kind <= STORE_KIND_DIR_RENAME; kind++) {
		for (size_t i = 0; i < ARRAY_SIZE(tests_of_each); i++, n++) {
			snprintf(names[n], sizeof(names[n]), "%s: %s", store_kind_names[kind],
				 tests_of_each[i].name);
			tests[n] = store_fixture_test(tests_of_each[i].test_func, names[n], kind);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(tests_of_one); i++, n++) {
		tests[n] = store_fixture_test(tests_of_one[i].test_func, tests_of_one[i].name,
					      STORE_KIND_DIR);
	}
	tests[n] = store_fixture_test(a_file_system_that_can_neither_is_refused,
				      "a_file_system_that_can_neither_is_refused",
				      STORE_KIND_DIR_RENAME);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
