/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl/run_conf.h"
#include "lib/base/cleanup.h"

static char dir[] = "/tmp/ambro-run-conf.XXXXXX";

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "%s/x.conf", dir);
	unlink(path);
	return rmdir(dir);
}

static int load(const char *text, struct run_conf *c, struct err *e)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/x.conf", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return run_conf_load(dir, "x", c, e);
}

/* The words of @w with a blank between. */
static void expect_words(struct run_words *w, const char *want)
{
	char all[1024] = "";

	for (size_t i = 0; i < w->n; i++) {
		strncat(all, i ? " " : "", sizeof(all) - strlen(all) - 1);
		strncat(all, w->words[i], sizeof(all) - strlen(all) - 1);
	}
	assert_null(w->words[w->n]);
	assert_string_equal(all, want);
	run_words_done(w);
}

static void the_least_is_a_repository(void **state)
{
	_cleanup_(run_conf_done) struct run_conf c = { 0 };
	struct run_words w;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(load("repository=/srv/r\n", &c, &e), 0);
	assert_string_equal(c.name, "x");
	assert_false(run_conf_keeps(&c));
	assert_false(run_conf_yes(&c, RUN_PRUNE));
	assert_int_equal(run_conf_capture(&c, &w), 0);
	expect_words(&w, "capture --json --repo=/srv/r");
}

static void each_key_becomes_its_verbs_option(void **state)
{
	_cleanup_(run_conf_done) struct run_conf c = { 0 };
	struct run_words w;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(
		load("# what\n; and\n\n  repository =  /srv/a b  \nsource = /dev/sdb\n"
		     "host=h\ndisk=d\nlevel=-3\ntags = one, two\tthree,\nfull_speed=yes\n"
		     "ignore_read_errors=no\nlimit_read=10M\nkey_file=/k\n"
		     "keep_daily=7\nkeep_yearly=all\nkeep_tags=a b\nprune=yes\nstrategy=\n",
		     &c, &e),
		0);
	assert_true(run_conf_keeps(&c));
	assert_true(run_conf_yes(&c, RUN_PRUNE));
	assert_int_equal(run_conf_capture(&c, &w), 0);
	expect_words(&w, "capture --json --repo=/srv/a b --key-file=/k --host=h --disk=d "
			 "--level=-3 --tag=one --tag=two --tag=three --limit-read=10M --full-speed "
			 "-- /dev/sdb");
	assert_int_equal(run_conf_forget(&c, "h", "d", &w), 0);
	expect_words(&w, "forget --json --repo=/srv/a b --key-file=/k --yes --host=h --disk=d "
			 "--keep-daily=7 --keep-yearly=all --keep-tag=a --keep-tag=b");
	assert_int_equal(run_conf_prune(&c, &w), 0);
	expect_words(&w, "prune --json --repo=/srv/a b --key-file=/k");
}

static void what_cannot_be_is_refused_with_its_line(void **state)
{
	static const struct {
		const char *text, *words;
	} wrong[] = {
		{ "repository=/r\nretention=7\n", "x.conf:2: retention is not a key" },
		{ "repository=/r\n\n\nhost\n", "x.conf:4: not key = value" },
		{ "repository=/r\nrepository=/s\n", "x.conf:2: repository is given twice" },
		{ "full_speed=maybe\n", "x.conf:1: full_speed: maybe is not yes or no" },
		{ "keep_daily=many\n", "x.conf:1: keep_daily: many is not a number" },
		{ "threads=-1\n", "x.conf:1: threads: -1 is not a number" },
		{ "key_file=k\n", "x.conf:1: key_file: k is not an absolute path" },
		{ "repository=r\n", "x.conf: repository: r is not an absolute path" },
		{ "host=h\n", "x.conf: no repository is given" },
		{ "", "x.conf: no repository is given" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct run_conf c;
		struct err e = { 0 };

		assert_int_equal(load(wrong[i].text, &c, &e), -EINVAL);
		assert_non_null(strstr(e.text, wrong[i].words));
		assert_null(c.name);
	}
}

static void a_long_line_is_refused(void **state)
{
	struct err e = { 0 };
	struct run_conf c;
	char text[5000];

	(void)state;
	memset(text, 'a', sizeof(text));
	memcpy(text, "host=", 5);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(load(text, &c, &e), -EINVAL);
	assert_non_null(strstr(e.text, "too long"));
}

static void a_name_is_a_units_instance(void **state)
{
	struct err e = { 0 };
	struct run_conf c;

	(void)state;
	assert_true(run_conf_name_valid("root"));
	assert_true(run_conf_name_valid("web1.data_2:x-y"));
	assert_false(run_conf_name_valid(""));
	assert_false(run_conf_name_valid("../x"));
	assert_false(run_conf_name_valid(".x"));
	assert_false(run_conf_name_valid("-x"));
	assert_false(run_conf_name_valid("a b"));
	assert_false(run_conf_name_valid("ä"));
	assert_int_equal(run_conf_load(dir, "a/b", &c, &e), -EINVAL);
	assert_int_equal(run_conf_load(dir, "none", &c, &e), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_least_is_a_repository),
		cmocka_unit_test(each_key_becomes_its_verbs_option),
		cmocka_unit_test(what_cannot_be_is_refused_with_its_line),
		cmocka_unit_test(a_long_line_is_refused),
		cmocka_unit_test(a_name_is_a_units_instance),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
