/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every store promises (lib/repo/store.h), and what each kind adds. $TMPDIR says where the directories are made. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "lib/repo/store.h"
#include "tests/unit/store-fixture.h"

#define THREADS 8
#define ROUNDS	20

static void put_text(struct store *s, const char *name, const char *text)
{
	assert_int_equal(store_put(s, name, text, strlen(text), NULL), 0);
}

static void expect_text(struct store *s, const char *name, const char *text)
{
	_cleanup_free_ void *bytes = NULL;
	size_t len;

	assert_int_equal(store_get_all(s, name, 1000, &bytes, &len, NULL), 0);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(bytes, text, len);
}

/* ---- what every store promises -------------------------------------------------------------------------------------- */

static void what_was_put_can_be_got(void **state)
{
	struct store *s = store_fixture_store(state);
	const struct iovec parts[] = {
		{ (void *)"whole", 5 }, { NULL, 0 }, { (void *)" and ", 5 }, { (void *)"well", 4 }
	};
	char buf[8] = "";
	uint64_t size = 0;

	assert_int_equal(store_putv(s, "packs/4f/4f0c", parts, ARRAY_SIZE(parts), NULL), 0);
	expect_text(s, "packs/4f/4f0c", "whole and well");
	assert_int_equal(store_size(s, "packs/4f/4f0c", &size, NULL), 0);
	assert_int_equal(size, 14);
	assert_int_equal(store_get(s, "packs/4f/4f0c", 6, buf, 3, NULL), 0);
	assert_string_equal(buf, "and");
	assert_int_equal(store_get(s, "packs/4f/4f0c", 14, buf, 0, NULL), 0);
}

static void an_object_may_be_empty(void **state)
{
	struct store *s = store_fixture_store(state);
	uint64_t size = 1;

	assert_int_equal(store_putv(s, "gc/0", NULL, 0, NULL), 0);
	assert_int_equal(store_size(s, "gc/0", &size, NULL), 0);
	assert_int_equal(size, 0);
	expect_text(s, "gc/0", "");
}

static void a_second_put_changes_nothing(void **state)
{
	struct store *s = store_fixture_store(state);
	struct err e = { 0 };

	put_text(s, "format", "first");
	assert_int_equal(store_put(s, "format", "second", 6, &e), -EEXIST);
	assert_non_null(strstr(e.text, "format"));
	expect_text(s, "format", "first");
}

static void what_is_not_there_is_not_found(void **state)
{
	struct store *s = store_fixture_store(state);
	struct err e = { 0 };
	uint64_t size;
	char c;

	assert_int_equal(store_get(s, "packs/4f/4f0c", 0, &c, 1, &e), -ENOENT);
	assert_non_null(strstr(e.text, "packs/4f/4f0c"));
	assert_int_equal(store_size(s, "packs/4f/4f0c", &size, &e), -ENOENT);
	assert_int_equal(store_get(s, "format", 0, &c, 0, NULL), -ENOENT);
	assert_int_equal(store_del(s, "packs/4f/4f0c", NULL), 0);
	assert_int_equal(store_del(s, "format", NULL), 0);
}

static void nothing_is_read_beyond_the_end(void **state)
{
	struct store *s = store_fixture_store(state);
	struct err e = { 0 };
	char buf[8];

	put_text(s, "images/0", "abcd");
	assert_int_equal(store_get(s, "images/0", 1, buf, 4, &e), -ENODATA);
	assert_non_null(strstr(e.text, "images/0"));
	assert_int_equal(store_get(s, "images/0", 5, buf, 0, NULL), -ENODATA);
	assert_int_equal(store_get(s, "images/0", UINT64_MAX, buf, 4, NULL), -ENODATA);
	assert_int_equal(store_get(s, "images/0", INT64_MAX, buf, 4, NULL), -ENODATA);
}

static void an_object_longer_than_asked_for_is_not_read(void **state)
{
	struct store *s = store_fixture_store(state);
	void *bytes = NULL;
	size_t len;

	put_text(s, "images/0", "abcd");
	assert_int_equal(store_get_all(s, "images/0", 3, &bytes, &len, NULL), -EFBIG);
	assert_null(bytes);
	assert_int_equal(store_get_all(s, "images/0", 4, &bytes, &len, NULL), 0);
	free(bytes);
}

static void a_bad_name_is_refused(void **state)
{
	static const char *const bad[] = { "",	   "/",	   "/a",   "a/",    "a//b",  ".",
					   "..",   "a/..", "../a", "./a",   ".a",    "a/.",
					   "a/.b", "A",	   "a_b",  "a b",   "a\n",   "\xc3\xa4",
					   "tmp",  "a*b",  "a:b",  "tmp/a", "tmp/0", "tmp/a/b" };
	struct store *s = store_fixture_store(state);
	struct err e = { 0 };
	uint64_t size;
	char c;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_false(store_name_valid(bad[i]));
		assert_int_equal(store_put(s, bad[i], "", 0, &e), -EINVAL);
		assert_int_equal(store_get(s, bad[i], 0, &c, 1, NULL), -EINVAL);
		assert_int_equal(store_size(s, bad[i], &size, NULL), -EINVAL);
		assert_int_equal(store_del(s, bad[i], NULL), -EINVAL);
		if (*bad[i] && strcmp(bad[i], "a/") != 0)
			assert_int_equal(store_list(s, bad[i], NULL, NULL, NULL), -EINVAL);
	}
	assert_int_equal(store_list(s, "a", NULL, NULL, NULL), -EINVAL);
	assert_int_equal(store_list(s, "tmp/", NULL, NULL, NULL), -EINVAL);
}

static void a_name_may_be_as_long_as_it_says(void **state)
{
	struct store *s = store_fixture_store(state);
	char name[STORE_NAME_MAX + 2];

	memset(name, 'a', sizeof(name));
	name[100] = '/';
	name[STORE_NAME_MAX + 1] = '\0';
	assert_int_equal(store_put(s, name, "", 0, NULL), -EINVAL);
	name[STORE_NAME_MAX] = '\0';
	put_text(s, name, "long");
	expect_text(s, name, "long");
	put_text(s, "tmp.a-z.0-9", "odd");
	put_text(s, "a/tmp/b", "odd");
	expect_text(s, "a/tmp/b", "odd");
}

/* What list() said: names, each with its size, in a line each. */
struct said {
	struct store *s; /* delete what it says, if not NULL */
	char text[1000];
	int n, stop_after;
};

static int say(void *ctx, const char *name, uint64_t size)
{
	struct said *said = ctx;
	size_t at = strlen(said->text);

	snprintf(said->text + at, sizeof(said->text) - at, "<%s %d>", name, (int)size);
	if (said->s)
		assert_int_equal(store_del(said->s, name, NULL), 0);
	return ++said->n == said->stop_after ? -ECANCELED : 0;
}

static void put_some(struct store *s)
{
	put_text(s, "format", "1");
	put_text(s, "packs/4f/4f0c", "12");
	put_text(s, "packs/4f/4f0d", "123");
	put_text(s, "packs/50/500c", "");
	put_text(s, "packs-of-others/4f", "1");
	put_text(s, "packs.0", "1");
	put_text(s, "pack/0", "1");
}

static void a_list_names_every_object_below(void **state)
{
	struct store *s = store_fixture_store(state);
	struct said packs = { 0 }, one = { 0 }, all = { 0 }, none = { 0 };

	put_some(s);
	assert_int_equal(store_list(s, "packs/", say, &packs, NULL), 0);
	assert_int_equal(packs.n, 3);
	assert_non_null(strstr(packs.text, "<packs/4f/4f0c 2>"));
	assert_non_null(strstr(packs.text, "<packs/4f/4f0d 3>"));
	assert_non_null(strstr(packs.text, "<packs/50/500c 0>"));
	assert_int_equal(store_list(s, "packs/50/", say, &one, NULL), 0);
	assert_string_equal(one.text, "<packs/50/500c 0>");
	assert_int_equal(store_list(s, "", say, &all, NULL), 0);
	assert_int_equal(all.n, 7);
	assert_int_equal(store_list(s, "images/", say, &none, NULL), 0);
	assert_int_equal(store_list(s, "images/00/", say, &none, NULL), 0);
	assert_int_equal(none.n, 0);
}

static void who_is_told_may_end_the_list(void **state)
{
	struct store *s = store_fixture_store(state);
	struct said said = { .stop_after = 2 };

	put_some(s);
	assert_int_equal(store_list(s, "packs/", say, &said, NULL), -ECANCELED);
	assert_int_equal(said.n, 2);
}

static void who_is_told_may_delete(void **state)
{
	struct store *s = store_fixture_store(state);
	struct said said = { .s = s }, left = { 0 };

	put_some(s);
	assert_int_equal(store_list(s, "packs/", say, &said, NULL), 0);
	assert_int_equal(said.n, 3);
	assert_int_equal(store_list(s, "", say, &left, NULL), 0);
	assert_int_equal(left.n, 4);
}

static void what_was_deleted_is_gone_and_can_be_put_anew(void **state)
{
	struct store *s = store_fixture_store(state);
	uint64_t size;

	put_text(s, "packs/4f/4f0c", "old");
	put_text(s, "packs/4f/4f0d", "other");
	assert_int_equal(store_del(s, "packs/4f/4f0c", NULL), 0);
	assert_int_equal(store_size(s, "packs/4f/4f0c", &size, NULL), -ENOENT);
	expect_text(s, "packs/4f/4f0d", "other");
	put_text(s, "packs/4f/4f0c", "new");
	expect_text(s, "packs/4f/4f0c", "new");
}

/* A directory knows when it was put, by the clock of its file system; memory does not. */
static void when_it_was_put_is_known_or_not(void **state)
{
	const struct store_fixture *f = *state;
	uint64_t ns = 0;
	struct err e = { 0 };
	int r;

	put_text(f->s, "a/b", "text");
	r = store_time(f->s, "a/b", &ns, &e);
	if (f->kind == STORE_KIND_MEMORY || f->kind == STORE_KIND_FAULT) {
		assert_int_equal(r, -ENOTSUP);
		return;
	}
	assert_int_equal(r, 0);
	assert_true(ns / 1000000000 + 5 > (uint64_t)time(NULL));
	assert_true(ns / 1000000000 < (uint64_t)time(NULL) + 5);
	assert_int_equal(store_time(f->s, "a/c", &ns, &e), -ENOENT);
	assert_int_equal(store_time(f->s, "../c", &ns, &e), -EINVAL);
}

struct runner {
	struct store *s;
	pthread_barrier_t *start;
	int number;
	int same[ROUNDS], own[ROUNDS];
};

/* Everybody puts the same name with bytes of their own, and a name of their own in a folder that is new for all. */
static void *run(void *arg)
{
	struct runner *r = arg;
	char name[64], byte = (char)('a' + r->number);

	for (int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(r->start);
		snprintf(name, sizeof(name), "packs/%02x/same", i);
		r->same[i] = store_put(r->s, name, &byte, 1, NULL);
		snprintf(name, sizeof(name), "index/%02x/%d", i, r->number);
		r->own[i] = store_put(r->s, name, &byte, 1, NULL);
	}
	return NULL;
}

static void of_many_who_put_one_name_one_wins(void **state)
{
	struct store *s = store_fixture_store(state);
	struct runner runners[THREADS] = { 0 };
	struct said said = { 0 };
	pthread_t threads[THREADS];
	pthread_barrier_t start;

	pthread_barrier_init(&start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++) {
		runners[i] = (struct runner){ .s = s, .start = &start, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, run, &runners[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&start);
	for (int round = 0; round < ROUNDS; round++) {
		char name[64], winner[2] = "";
		int won = 0;

		for (int i = 0; i < THREADS; i++) {
			assert_int_equal(runners[i].own[round], 0);
			if (runners[i].same[round] == 0) {
				won++;
				winner[0] = (char)('a' + i);
			} else {
				assert_int_equal(runners[i].same[round], -EEXIST);
			}
		}
		assert_int_equal(won, 1);
		snprintf(name, sizeof(name), "packs/%02x/same", round);
		expect_text(s, name, winner);
	}
	assert_int_equal(store_list(s, "index/", say, &said, NULL), 0);
	assert_int_equal(said.n, THREADS * ROUNDS);
}

/* ---- in memory ------------------------------------------------------------------------------------------------------- */

static void a_byte_in_memory_can_rot(void **state)
{
	struct store *s = store_fixture_store(state);

	put_text(s, "images/0", "abcd");
	assert_int_equal(store_memory_flip(s, "images/0", 2, 1), 0);
	expect_text(s, "images/0", "abbd");
	assert_int_equal(store_memory_flip(s, "images/0", 4, 1), -ERANGE);
	assert_int_equal(store_memory_flip(s, "images/1", 0, 1), -ENOENT);
	assert_int_equal(store_dir_clean(s, 0, NULL), 0);
}

/* ---- one that fails on purpose ---------------------------------------------------------------------------------------- */

/* "whole and well", in two pieces. */
static struct store_draft *draft_of(struct store *s)
{
	const struct iovec parts[] = {
		{ (void *)"whole", 5 }, { NULL, 0 }, { (void *)" and ", 5 }, { (void *)"well", 4 }
	};
	struct store_draft *d;

	assert_int_equal(store_draft_new(s, "packs/", &d, NULL), 0);
	assert_int_equal(store_draft_add(d, parts, 2, NULL), 0);
	assert_int_equal(store_draft_add(d, parts + 2, 2, NULL), 0);
	return d;
}

static void a_draft_is_seen_when_it_has_its_name(void **state)
{
	struct store *s = store_fixture_store(state);
	struct store_draft *first = draft_of(s), *second = draft_of(s);
	struct said said = { 0 };
	struct err e = { 0 };

	assert_int_equal(store_list(s, "", say, &said, NULL), 0);
	assert_int_equal(said.n, 0);
	assert_int_equal(store_draft_put(first, "packs/4f/4f0c", NULL), 0);
	expect_text(s, "packs/4f/4f0c", "whole and well");
	store_draft_free(first);
	assert_int_equal(store_draft_put(second, "packs/4f/4f0c", &e), -EEXIST);
	assert_non_null(strstr(e.text, "packs/4f/4f0c"));
	/* the other name of it is still free */
	assert_int_equal(store_draft_put(second, "packs/50/5000", NULL), 0);
	store_draft_free(second);
	expect_text(s, "packs/4f/4f0c", "whole and well");
	expect_text(s, "packs/50/5000", "whole and well");
}

static void a_draft_that_is_freed_was_never_there(void **state)
{
	struct store *s = store_fixture_store(state);
	struct store_draft *d = draft_of(s);
	struct said said = { 0 };

	assert_int_equal(store_draft_put(d, "packs/../x", NULL), -EINVAL);
	store_draft_free(d);
	assert_int_equal(store_draft_new(s, "packs", &d, NULL), -EINVAL);
	assert_int_equal(store_draft_new(s, "../", &d, NULL), -EINVAL);
	assert_int_equal(store_list(s, "", say, &said, NULL), 0);
	assert_int_equal(said.n, 0);
	store_draft_free(NULL);
}

static void calls_and_bytes_are_counted(void **state)
{
	struct store *s = store_fixture_store(state);
	struct store_counts c;
	struct said said = { 0 };
	uint64_t size;
	char buf[4];

	put_text(s, "images/0", "abcd");
	assert_int_equal(store_put(s, "images/0", "abcd", 4, NULL), -EEXIST);
	assert_int_equal(store_get(s, "images/0", 1, buf, 2, NULL), 0);
	assert_int_equal(store_get(s, "images/1", 1, buf, 2, NULL), -ENOENT);
	assert_int_equal(store_size(s, "images/0", &size, NULL), 0);
	assert_int_equal(store_list(s, "images/", say, &said, NULL), 0);
	assert_int_equal(store_del(s, "images/0", NULL), 0);
	assert_int_equal(store_put(s, "Not a name", "", 0, NULL), -EINVAL);
	c = store_fault_counts(s);
	assert_int_equal(c.puts, 2);
	assert_int_equal(c.put_bytes, 4);
	assert_int_equal(c.gets, 2);
	assert_int_equal(c.get_bytes, 2);
	assert_int_equal(c.sizes, 1);
	assert_int_equal(c.lists, 1);
	assert_int_equal(c.dels, 1);
	assert_int_equal(store_memory_flip(s, "images/0", 0, 1), -EINVAL);
}

static void one_operation_fails(void **state)
{
	struct store *s = store_fixture_store(state);
	struct err e = { 0 };

	store_fault_at(s, 1, STORE_FAULT_FAIL, -ENOSPC);
	put_text(s, "a", "a");
	assert_int_equal(store_put(s, "b", "b", 1, &e), -ENOSPC);
	assert_non_null(strstr(e.text, "on purpose"));
	put_text(s, "b", "b");
	store_fault_at(s, 0, STORE_FAULT_FAIL, -EIO);
	assert_int_equal(store_del(s, "a", NULL), -EIO);
	expect_text(s, "a", "a");
	store_fault_at(s, 0, STORE_FAULT_FAIL, -EIO);
	store_fault_at(s, 0, STORE_FAULT_NONE, 0);
	assert_int_equal(store_del(s, "a", NULL), 0);
}

/* A put like another when it gets its name, and only then. */
static void a_draft_meets_faults(void **state)
{
	struct store *s = store_fixture_store(state);
	const struct iovec part = { (void *)"more", 4 };
	struct store_draft *d = draft_of(s);
	struct err e = { 0 };
	uint64_t size;

	store_fault_at(s, 0, STORE_FAULT_FAIL, -ENOSPC);
	assert_int_equal(store_draft_put(d, "packs/a", &e), -ENOSPC);
	assert_non_null(strstr(e.text, "on purpose"));
	assert_int_equal(store_draft_put(d, "packs/a", NULL), -ENOSPC);
	store_draft_free(d);
	assert_int_equal(store_size(s, "packs/a", &size, NULL), -ENOENT);

	d = draft_of(s);
	assert_int_equal(store_draft_put(d, "packs/a", NULL), 0);
	store_draft_free(d);
	assert_int_equal(store_fault_counts(s).puts, 2);
	assert_int_equal(store_fault_counts(s).put_bytes, 14);

	d = draft_of(s);
	store_fault_at(s, 0, STORE_FAULT_DEAD, -ESHUTDOWN);
	assert_int_equal(store_del(s, "packs/b", NULL), -ESHUTDOWN);
	assert_int_equal(store_draft_add(d, &part, 1, NULL), -ESHUTDOWN);
	store_draft_free(d);
}

static void the_answer_to_an_operation_is_lost(void **state)
{
	struct store *s = store_fixture_store(state);
	uint64_t size;

	store_fault_at(s, 0, STORE_FAULT_LOST_REPLY, -ETIMEDOUT);
	assert_int_equal(store_put(s, "a", "a", 1, NULL), -ETIMEDOUT);
	expect_text(s, "a", "a");
	assert_int_equal(store_put(s, "a", "a", 1, NULL), -EEXIST);
	store_fault_at(s, 0, STORE_FAULT_LOST_REPLY, -ETIMEDOUT);
	assert_int_equal(store_del(s, "a", NULL), -ETIMEDOUT);
	assert_int_equal(store_size(s, "a", &size, NULL), -ENOENT);
}

/* Dead from the second put on, which is done if @after. */
static void expect_dead(void **state, enum store_fault fault, bool after)
{
	struct store *s = store_fixture_store(state), *below;
	struct said said = { 0 };
	uint64_t size;
	char c;

	store_fault_at(s, 1, fault, -ESHUTDOWN);
	put_text(s, "a", "a");
	expect_text(s, "a", "a");
	assert_int_equal(store_put(s, "b", "b", 1, NULL), -ESHUTDOWN);
	assert_int_equal(store_put(s, "c", "c", 1, NULL), -ESHUTDOWN);
	assert_int_equal(store_del(s, "a", NULL), -ESHUTDOWN);
	assert_int_equal(store_get(s, "a", 0, &c, 1, NULL), -ESHUTDOWN);
	assert_int_equal(store_size(s, "a", &size, NULL), -ESHUTDOWN);
	assert_int_equal(store_list(s, "", say, &said, NULL), -ESHUTDOWN);
	store_fault_at(s, 0, STORE_FAULT_NONE, 0);
	expect_text(s, "a", "a");
	below = store_fault_release(s);
	store_fixture_replace(state, below);
	expect_text(below, "a", "a");
	assert_int_equal(store_size(below, "b", &size, NULL), after ? 0 : -ENOENT);
	assert_int_equal(store_size(below, "c", &size, NULL), -ENOENT);
}

static void a_dead_store_does_nothing_any_more(void **state)
{
	expect_dead(state, STORE_FAULT_DEAD, false);
}

static void a_store_that_dies_afterwards_has_done_it(void **state)
{
	expect_dead(state, STORE_FAULT_DEAD_AFTER, true);
}

static void nothing_can_be_freed(void **state)
{
	(void)state;
	store_free(NULL);
}

/* ---- all of them -------------------------------------------------------------------------------------------------------- */

static const struct CMUnitTest promises[] = {
	cmocka_unit_test(what_was_put_can_be_got),
	cmocka_unit_test(an_object_may_be_empty),
	cmocka_unit_test(a_second_put_changes_nothing),
	cmocka_unit_test(a_draft_is_seen_when_it_has_its_name),
	cmocka_unit_test(a_draft_that_is_freed_was_never_there),
	cmocka_unit_test(what_is_not_there_is_not_found),
	cmocka_unit_test(nothing_is_read_beyond_the_end),
	cmocka_unit_test(an_object_longer_than_asked_for_is_not_read),
	cmocka_unit_test(a_bad_name_is_refused),
	cmocka_unit_test(a_name_may_be_as_long_as_it_says),
	cmocka_unit_test(a_list_names_every_object_below),
	cmocka_unit_test(who_is_told_may_end_the_list),
	cmocka_unit_test(who_is_told_may_delete),
	cmocka_unit_test(what_was_deleted_is_gone_and_can_be_put_anew),
	cmocka_unit_test(of_many_who_put_one_name_one_wins),
	cmocka_unit_test(when_it_was_put_is_known_or_not),
};

static const struct {
	enum store_kind kind;
	struct CMUnitTest test;
} others[] = {
	{ STORE_KIND_MEMORY, cmocka_unit_test(a_byte_in_memory_can_rot) },
	{ STORE_KIND_FAULT, cmocka_unit_test(calls_and_bytes_are_counted) },
	{ STORE_KIND_FAULT, cmocka_unit_test(one_operation_fails) },
	{ STORE_KIND_FAULT, cmocka_unit_test(a_draft_meets_faults) },
	{ STORE_KIND_FAULT, cmocka_unit_test(the_answer_to_an_operation_is_lost) },
	{ STORE_KIND_FAULT, cmocka_unit_test(a_dead_store_does_nothing_any_more) },
	{ STORE_KIND_FAULT, cmocka_unit_test(a_store_that_dies_afterwards_has_done_it) },
	{ STORE_KIND_MEMORY, cmocka_unit_test(nothing_can_be_freed) },
};

int main(void)
{
	struct CMUnitTest tests[STORE_KINDS * ARRAY_SIZE(promises) + ARRAY_SIZE(others)];
	static char names[ARRAY_SIZE(tests)][100];
	size_t n = 0;

	for (enum store_kind kind = 0; kind < STORE_KINDS; kind++) {
		for (size_t i = 0; i < ARRAY_SIZE(promises); i++, n++) {
			snprintf(names[n], sizeof(names[n]), "%s: %s", store_kind_names[kind],
				 promises[i].name);
			tests[n] = store_fixture_test(promises[i].test_func, names[n], kind);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(others); i++, n++) {
		tests[n] = store_fixture_test(others[i].test.test_func, others[i].test.name,
					      others[i].kind);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
