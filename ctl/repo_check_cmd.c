/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/repo_check_cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/repo_telling.h"
#include "ctl/verb.h"
#include "lib/base/io.h"
#include "lib/repo/repo_check.h"

static const char check_help[] =
	"Usage: ambroctl repo check [OPTION]…\n"
	"Is everything there that the images need? Names what is damaged, which bytes of which images that hurts,\n"
	"and which files. Nothing is changed.\n"
	"\n" VERB_REPO_HELP
	"      --read-data[=PART]    read packs, too: all, or a part of them, 10% (another tenth each day, or with\n"
	"                            --state each time) or 3/10 (the third of ten parts)\n"
	"      --no-key              compare what is stored with its names, which needs no key\n"
	"      --state FILE          note in FILE what was read, to go on there after an interruption, and with 10%\n"
	"                            which tenth is next\n"
	"      --no-files            do not look which files are hurt, for which the tables of the file systems in all\n"
	"                            images that are hurt are read\n"
	"      --threads N           readers (default: one per CPU, at most 4)\n"
	"      --json                the result is one object\n"
	"  -h, --help                this text\n"
	"\n"
	"Exit codes: 0 all is well; 1 failed; 2 wrong command line; 3 something is damaged or missing; 6 FILE is\n"
	"not the state of a check, or another check uses it; 7 not allowed; 130 interrupted.\n";

enum {
	OPTION_READ_DATA = VERB_OPTION_OWN,
	OPTION_NO_KEY,
	OPTION_NO_FILES,
	OPTION_STATE,
	OPTION_THREADS,
};

#define CHECK_THREADS_MAX 64
#define CHECK_PARTS_MAX	  1000
#define DAY_NS		  (UINT64_C(24) * 3600 * 1000000000)

struct check_args {
	struct repo_check_settings check;
	bool no_key, no_files;
};

static int check_print_json(const struct repo_telling *t, const struct repo_check_settings *s,
			    const struct repo_check_result *r)
{
	json_t *o = json_pack(
		"{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:O}", "ok",
		r->damages == 0, "part", (json_int_t)(s->parts ? r->part + 1 : 0), "parts",
		(json_int_t)s->parts, "objects", (json_int_t)r->objects, "packs",
		(json_int_t)r->packs, "images", (json_int_t)r->images, "images_hurt",
		(json_int_t)r->images_hurt, "packs_read", (json_int_t)r->packs_read,
		"packs_skipped", (json_int_t)r->packs_skipped, "bytes_read",
		(json_int_t)r->bytes_read, "entries_checked", (json_int_t)r->entries_checked,
		"decoded", (int)r->decoded, "walked", (int)r->walked, "damages", t->damages);

	repo_telling_add_files(t, o);
	return render_json(o, stdout);
}

static void check_print(const struct repo_check_settings *s, const struct repo_check_result *r)
{
	char size[RENDER_MAX], path[1024], images[RENDER_MAX], packs[RENDER_MAX];

	printf("%s: %s, %s, %s", render_safe(arg_repo.path, path, sizeof(path)),
	       r->damages ? "DAMAGED" : "OK", render_count(r->images, "image", "images", images),
	       render_count(r->packs, "pack", "packs", packs));
	if (s->parts) {
		printf(", %" PRIu64 " read (%s)", r->packs_read, render_size(r->bytes_read, size));
		if (r->packs_skipped)
			printf(", %" PRIu64 " before the interruption", r->packs_skipped);
		if (s->parts > 1)
			printf(", part %u of %u", r->part + 1, s->parts);
	}
	if (r->damages)
		printf(", %s hurt", render_count(r->images_hurt, "image", "images", images));
	putchar('\n');
	if (!r->walked) {
		verb_say("repo check",
			 "note: %s, so whether images lack something was not looked at",
			 r->damages ? "the index cannot be used, or no full key was given"
				    : "no full key was given");
	}
}

static int check_run(const struct check_args *a)
{
	_cleanup_(repo_telling_done) struct repo_telling t;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct repo_check_settings s = a->check;
	struct repo_check_result result = { 0 };
	struct err e = { 0 };
	int n;

	repo_telling_begin(&t, "repo check", "check", !a->no_files);
	s.cancel = verb_catch_signals();
	s.report = repo_telling_damage;
	s.progress = repo_telling_progress;
	s.ctx = &t;
	n = repo_telling_open(a->no_key, &r, &e);
	if (n >= 0)
		n = repo_check(r, &s, &result, &e);
	render_bar_end(&t.bar);
	if (n < 0 && (n != -EBADMSG || !result.damages))
		return verb_fail("repo check", &e);
	n = repo_telling_files(&t, r, s.cancel);
	if (arg_json && check_print_json(&t, &s, &result) < 0)
		return VERB_FAILED;
	if (!arg_json)
		check_print(&s, &result);
	if (n == -ECANCELED)
		return VERB_INTERRUPTED;
	return result.damages ? VERB_DAMAGED : VERB_OK;
}

/* NULL (all), "10%", "3/10" */
static int check_parse_part(const char *text, struct repo_check_settings *s)
{
	unsigned long a, b;
	char *end;

	s->parts = 1;
	s->part = 0;
	s->rotate = false;
	if (!text)
		return 0;
	a = strtoul(text, &end, 10);
	if (*text >= '0' && *text <= '9' && strcmp(end, "%") == 0 && a >= 1 && a <= 100) {
		s->parts = (unsigned int)DIV_ROUND_UP(100, a);
		s->part = repo_check_part_of_day(io_realtime_ns() / DAY_NS, s->parts);
		s->rotate = s->parts > 1;
		return 0;
	}
	if (*text >= '0' && *text <= '9' && *end == '/' && end[1] >= '0' && end[1] <= '9') {
		b = strtoul(end + 1, &end, 10);
		if (!*end && a >= 1 && a <= b && b <= CHECK_PARTS_MAX) {
			s->parts = (unsigned int)b;
			s->part = (unsigned int)a - 1;
			return 0;
		}
	}
	verb_usage("repo check", "--read-data: %s is neither a percentage nor a part (3/10)", text);
	return -EINVAL;
}

static int check_option(struct check_args *a, int option)
{
	uint64_t threads;

	switch (option) {
	case OPTION_READ_DATA:
		return check_parse_part(optarg, &a->check);
	case OPTION_NO_KEY:
		a->no_key = true;
		return 0;
	case OPTION_STATE:
		a->check.state = optarg;
		return 0;
	case OPTION_NO_FILES:
		a->no_files = true;
		return 0;
	default:
		if (verb_parse_u64("repo check", "--threads", optarg, 1, CHECK_THREADS_MAX,
				   &threads) < 0)
			return -EINVAL;
		a->check.threads = (unsigned int)threads;
		return 0;
	}
}

int repo_check_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "read-data", optional_argument, NULL, OPTION_READ_DATA },
		{ "no-key", no_argument, NULL, OPTION_NO_KEY },
		{ "no-files", no_argument, NULL, OPTION_NO_FILES },
		{ "state", required_argument, NULL, OPTION_STATE },
		{ "threads", required_argument, NULL, OPTION_THREADS },
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	struct check_args a = { 0 };
	int c, code;

	while ((c = verb_getopt(argc, argv, "", options, check_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (check_option(&a, c) < 0)
			return VERB_USAGE;
	}
	if (argc != optind)
		return verb_usage("repo check", "it takes no argument: give --repo DIR");
	if (a.check.state && !a.check.parts)
		return verb_usage("repo check", "--state is of use with --read-data only");
	return check_run(&a);
}
