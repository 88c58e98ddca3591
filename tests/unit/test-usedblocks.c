/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/layout/tool.h"
#include "lib/layout/usedblocks.h"
#include "lib/layout/usedblocks_btrfs.h"

#define HEAD "# Domain logfile created by partclone.vfat\n# current_pos\n"

static void assert_refused(const char *text, uint64_t length)
{
	struct extent_set s = { 0 };

	assert_int_equal(usedblocks_parse_domain(text, length, &s), -EBADMSG);
	assert_null(s.items);
}

static void a_domain_file_gives_its_plus_ranges(void **state)
{
	struct extent_set s = { 0 };

	assert_int_equal(usedblocks_parse_domain(HEAD "0x00003000     ?\n"
						      "0x00000000  0x00001000  +\n"
						      "0x00001000  0x00001000  ?\n"
						      "0x00002000  0x00001000  +\n",
						 0x3000, &s),
			 0);
	assert_int_equal(s.count, 2);
	assert_int_equal(s.items[0].start, 0);
	assert_int_equal(s.items[0].length, 0x1000);
	assert_int_equal(s.items[1].start, 0x2000);
	extent_set_done(&s);
}

static void what_lies_behind_the_domain_is_in_use(void **state)
{
	struct extent_set s = { 0 };

	assert_int_equal(usedblocks_parse_domain("0x1000 ?\n0x0 0x1000 ?\n", 0x1200, &s), 0);
	assert_int_equal(s.count, 1);
	assert_int_equal(s.items[0].start, 0x1000);
	assert_int_equal(s.items[0].length, 0x200);
	extent_set_done(&s);
}

static void a_domain_with_a_hole_is_refused(void **state)
{
	assert_refused("0x3000 ?\n0x0 0x1000 +\n0x2000 0x1000 +\n", 0x3000);
}

static void a_domain_that_overlaps_itself_is_refused(void **state)
{
	assert_refused("0x3000 ?\n0x0 0x2000 +\n0x1000 0x2000 ?\n", 0x3000);
}

static void a_domain_that_does_not_begin_at_the_beginning_is_refused(void **state)
{
	assert_refused("0x3000 ?\n0x1000 0x2000 +\n", 0x3000);
}

static void a_domain_beyond_the_end_is_refused(void **state)
{
	assert_refused("0x4000 ?\n0x0 0x4000 +\n", 0x3000);
	assert_refused("0x0 ?\n0x0 0xffffffffffffffff +\n0xffffffffffffffff 0x1 +\n", 0x3000);
}

static void a_domain_that_was_cut_off_is_refused(void **state)
{
	assert_refused("0x3000 ?\n0x0 0x1000 +\n0x1000 0x1000 ?\n", 0x3000);
	assert_refused("0x3000 ?\n0x0 0x1000 +\n0x1000 0x20", 0x3000);
	assert_refused("0x3000 ?\n", 0x3000);
	assert_refused("", 0x3000);
}

static void other_letters_and_numbers_are_refused(void **state)
{
	assert_refused("0x1000 ?\n0x0 0x1000 -\n", 0x1000);
	assert_refused("0x1000 ?\n0x0 4096 +\n", 0x1000);
	assert_refused("0x1000 ?\n0x0 0x1000 + +\n", 0x1000);
	assert_refused("0x1000 ?\n0x0 0x0 +\n0x0 0x1000 ?\n", 0x1000);
	assert_refused("0x1000 ?\n0x 0x1000 +\n", 0x1000);
	assert_refused("0x1000 ?\n0x0 0x10000000000001000 +\n", 0x1000);
	assert_refused("disk is full\n", 0x1000);
}

#define CHUNK(length, type) "\t\tlength " length " owner 2 stripe_len 65536 type " type "\n"

static void
both_copies_of_a_btrfs_chunk_are_in_use_and_plain_data_is_left_to_partclone(void **state)
{
	struct extent_set s = { 0 };

	assert_int_equal(
		usedblocks_btrfs_parse_chunks(
			"chunk tree\n" CHUNK("4096", "DATA|single") "\t\t\tstripe 0 devid 1 offset 0\n" CHUNK(
				"8192", "METADATA|DUP") "\t\t\tstripe 0 devid 1 offset 16384\n"
							"\t\t\tstripe 1 devid 1 offset 65536\n",
			1 << 20, &s),
		0);
	assert_int_equal(s.count, 2);
	assert_int_equal(s.items[0].start, 16384);
	assert_int_equal(s.items[1].start, 65536);
	assert_int_equal(s.items[1].length, 8192);
	extent_set_done(&s);
}

static void btrfs_chunks_that_make_no_sense_are_refused(void **state)
{
	const char *const texts[] = {
		"",
		"stripe 0 devid 1 offset 0\n",
		CHUNK("0", "DATA|single"),
		CHUNK("8192", "DATA|DUP") "stripe 0 devid 1 offset 1044480\n",
		CHUNK("99999999999999999999", "DATA|DUP") "stripe 0 devid 1 offset 0\n",
		CHUNK("4096", "DATA|DUP") "stripe 0 devid 1 offset x\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct extent_set s = { 0 };

		assert_int_equal(usedblocks_btrfs_parse_chunks(texts[i], 1 << 20, &s), -EBADMSG);
		extent_set_done(&s);
	}
}

static void a_helper_that_does_not_exist_is_named(void **state)
{
	const char *argv[] = { "no-such-helper", NULL };
	struct err e = { 0 };
	char *text = NULL;

	assert_int_equal(tool_run(argv, false, &text, &e), -ENOENT);
	assert_non_null(strstr(e.text, "no-such-helper"));
}

static void a_helper_that_fails_is_quoted(void **state)
{
	const char *argv[] = { "sh", "-c", "echo one >&2; echo two >&2; exit 3", NULL };
	struct err e = { 0 };
	char *text = NULL;

	assert_int_equal(tool_run(argv, false, &text, &e), -ECHILD);
	assert_non_null(strstr(e.text, "two"));
	assert_null(text);
}

static void a_helper_gets_no_descriptor_and_no_environment_of_ours(void **state)
{
	const char *argv[] = { "sh", "-c", "echo /proc/self/fd/*; env", NULL };
	struct err e = { 0 };
	char *text = NULL;

	assert_int_equal(setenv("SECRET", "yes", 1), 0); /* NOLINT(concurrency-mt-unsafe) */
	assert_int_equal(dup2(1, 77), 77);
	assert_int_equal(tool_run(argv, false, &text, &e), 0);
	close(77);
	assert_null(strstr(text, "SECRET"));
	assert_null(strstr(text, "/77"));
	assert_non_null(strstr(text, "LC_ALL=C"));
	free(text);
}

static void the_answer_can_be_kept_apart_from_the_noise(void **state)
{
	const char *argv[] = { "sh", "-c", "echo noise; echo answer >" TOOL_ANSWER_PATH, NULL };
	struct err e = { 0 };
	char *text = NULL;

	assert_int_equal(tool_run(argv, true, &text, &e), 0);
	assert_string_equal(text, "answer\n");
	free(text);
}

static void a_helper_that_says_too_much_is_ended(void **state)
{
	const char *argv[] = { "cat", "/dev/zero", NULL };
	struct err e = { 0 };
	char *text = NULL;

	assert_int_equal(tool_run(argv, false, &text, &e), -EFBIG);
	assert_null(text);
}

static void an_unclean_or_unknown_file_system_has_no_map(void **state)
{
	static const char *const types[] = { "ext4", "xfs",   "btrfs", "f2fs",
					     "vfat", "exfat", "ntfs",  "reiserfs" };
	char path[] = "/tmp/test-usedblocks-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 16 << 20), 0);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		struct extent_set s = { 0 };
		const char *source = NULL;
		struct err e = { 0 };

		assert_int_equal(usedblocks_map(path, types[i], 16 << 20, USEDBLOCKS_IDLE, &s,
						&source, &e),
				 0);
		assert_true(e.text[0]);
		assert_null(s.items);
		assert_null(source);
	}
	close(fd);
	unlink(path);
}

static void a_live_file_system_with_a_log_has_no_map(void **state)
{
	struct extent_set s = { 0 };
	const char *source = NULL;
	struct err e = { 0 };

	assert_int_equal(
		usedblocks_map("/dev/null", "ext4", 1 << 20, USEDBLOCKS_LIVE, &s, &source, &e), 0);
	assert_true(e.text[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_domain_file_gives_its_plus_ranges),
		cmocka_unit_test(what_lies_behind_the_domain_is_in_use),
		cmocka_unit_test(a_domain_with_a_hole_is_refused),
		cmocka_unit_test(a_domain_that_overlaps_itself_is_refused),
		cmocka_unit_test(a_domain_that_does_not_begin_at_the_beginning_is_refused),
		cmocka_unit_test(a_domain_beyond_the_end_is_refused),
		cmocka_unit_test(a_domain_that_was_cut_off_is_refused),
		cmocka_unit_test(other_letters_and_numbers_are_refused),
		cmocka_unit_test(
			both_copies_of_a_btrfs_chunk_are_in_use_and_plain_data_is_left_to_partclone),
		cmocka_unit_test(btrfs_chunks_that_make_no_sense_are_refused),
		cmocka_unit_test(a_helper_that_does_not_exist_is_named),
		cmocka_unit_test(a_helper_that_fails_is_quoted),
		cmocka_unit_test(a_helper_gets_no_descriptor_and_no_environment_of_ours),
		cmocka_unit_test(the_answer_can_be_kept_apart_from_the_noise),
		cmocka_unit_test(a_helper_that_says_too_much_is_ended),
		cmocka_unit_test(an_unclean_or_unknown_file_system_has_no_map),
		cmocka_unit_test(a_live_file_system_with_a_log_has_no_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
