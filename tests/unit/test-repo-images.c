// SPDX-License-Identifier: GPL-2.0-or-later
/* Selecting an image by what a person writes (lib/repo/repo_images.c). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/cleanup.h"
#include "lib/repo/repo_image.h"

#define T0_NS UINT64_C(1767225600000000000) /* 2026-01-01T00:00:00Z */
#define S_NS  UINT64_C(1000000000)

static char web[] = "web", web1[] = "web1", vda[] = "vda", vdb[] = "vdb";

/* Oldest first, as they are loaded; the last two are of one second. */
static struct repo_image all[] = {
	{ .hash = { 0xaa, 0xaa, 0xaa, 0xaa, 0x01 }, .host = web, .disk = vda, .time_ns = T0_NS },
	{ .hash = { 0xaa, 0xaa, 0xaa, 0xaa, 0x02 },
	  .host = web1,
	  .disk = vda,
	  .time_ns = T0_NS + S_NS },
	{ .hash = { 0x03 }, .host = web, .disk = vdb, .time_ns = T0_NS + 2 * S_NS },
	{ .hash = { 0x04 }, .host = web, .disk = vda, .time_ns = T0_NS + 3 * S_NS },
	{ .hash = { 0x05 }, .host = web, .disk = vda, .time_ns = T0_NS + 3 * S_NS + 1 },
};
static struct repo_image *items[] = { &all[0], &all[1], &all[2], &all[3], &all[4] };
static const struct repo_images list = { .items = items, .count = 5 };

static void expect(const char *text, const char *host, int place)
{
	struct repo_image *found = NULL;
	struct err e = { 0 };

	if (place < 0) {
		assert_int_equal(repo_images_select(&list, text, host, &found, &e), place);
		assert_null(found);
		assert_int_equal(e.code, place);
		return;
	}
	assert_int_equal(repo_images_select(&list, text, host, &found, &e), 0);
	assert_ptr_equal(found, &all[place]);
}

static void latest(void **state)
{
	(void)state;
	expect("latest", NULL, 4);
	expect("latest", "web1", 1);
	expect("latest", "we", -ENOENT);
	expect("web/latest", NULL, 4);
	expect("web1/latest", NULL, 1);
	expect("web/vdb/latest", NULL, 2);
	expect("web/vd/latest", NULL, -ENOENT);
	expect("web1/latest", "web", -ENOENT);
}

static void beginnings(void **state)
{
	(void)state;
	expect("web1", NULL, 1);
	expect("web/vdb", NULL, 2);
	expect("web/vda/2026-01-01T00:00:00", NULL, 0);
	expect("web", NULL, -ENOTUNIQ);
	expect("web", "web1", 1);
	expect("web2", NULL, -ENOENT);
	expect("", NULL, -EINVAL);
}

static void hashes(void **state)
{
	(void)state;
	expect("04000000", NULL, 3);
	expect("0400000", NULL, -ENOENT);
	expect("aaaaaaaa", NULL, -ENOTUNIQ);
	expect("aaaaaaaa02", NULL, 1);
	expect("aaaaaaaa", "web1", 1);
	expect("04000000", "web1", -ENOENT);
}

static void one_second(void **state)
{
	struct repo_image *found = NULL;
	struct err e = { 0 };

	(void)state;
	expect("web/vda/2026-01-01T00:00:00Z", NULL, 0);
	assert_int_equal(repo_images_select(&list, "web/vda/2026-01-01T00:00:03Z", "web", &found,
					    &e),
			 -ENOTUNIQ);
	assert_non_null(strstr(e.text, "is the name of 2 images"));
	assert_non_null(strstr(e.text, "04000000 = web/vda/2026-01-01T00:00:03Z"));
	assert_non_null(strstr(e.text, "05000000 = web/vda/2026-01-01T00:00:03Z"));
}

/* Only those that it could be are told, three of them, and of the right host. */
static void told(void **state)
{
	struct repo_image *found = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(repo_images_select(&list, "web", "web", &found, &e), -ENOTUNIQ);
	assert_non_null(strstr(e.text, "any of 4 images"));
	assert_null(strstr(e.text, "web1"));
	assert_non_null(strstr(e.text, "04000000"));
	assert_null(strstr(e.text, "05000000"));
}

static void assert_disk_word(const char *path, const char *model, const char *want)
{
	_cleanup_free_ char *word = repo_image_disk_word(path, model);

	assert_string_equal(word, want);
}

static void disks_names(void **state)
{
	(void)state;
	assert_disk_word("/dev/sda", "Best disk", "sda");
	assert_disk_word("/dev/dm-0", "vg-root", "vg-root");
	assert_disk_word("/dev/dm-12", "a volume", "a-volume");
	assert_disk_word("/dev/dm-0", NULL, "dm-0");
	assert_disk_word("/dev/dm-0", "", "dm-0");
	/* a file of that name is none */
	assert_disk_word("/images/dm-0.raw", "vg-root", "dm-0.raw");
	assert_disk_word(NULL, NULL, "unknown");
}

static void long_names_stay_apart(void **state)
{
	char text[200], *a, *b;

	(void)state;
	memset(text, 'x', sizeof(text));
	text[REPO_IMAGE_WORD_MAX] = '\0';
	a = repo_image_word(text);
	assert_string_equal(a, text);
	free(a);
	text[REPO_IMAGE_WORD_MAX] = 'x';
	text[150] = '\0';
	a = repo_image_word(text);
	text[149] = 'y';
	b = repo_image_word(text);
	assert_int_equal(strlen(a), REPO_IMAGE_WORD_MAX);
	assert_int_equal(strlen(b), REPO_IMAGE_WORD_MAX);
	assert_string_not_equal(a, b);
	assert_true(repo_image_word_valid(a));
	assert_false(repo_image_word_valid(text));
	free(a);
	free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(latest),
		cmocka_unit_test(beginnings),
		cmocka_unit_test(hashes),
		cmocka_unit_test(one_second),
		cmocka_unit_test(told),
		cmocka_unit_test(disks_names),
		cmocka_unit_test(long_names_stay_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
