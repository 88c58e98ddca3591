/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/repo_check_cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/verb.h"
#include "lib/base/io.h"
#include "lib/repo/repo_check.h"
#include "lib/repo/repo_repair.h"

static const char check_help[] =
	"Usage: ambroctl repo check [OPTION]…\n"
	"Is everything there that the images need? Names what is damaged, and which bytes of which images that\n"
	"hurts. Nothing is changed.\n"
	"\n" VERB_REPO_HELP
	"      --read-data[=PART]    read packs, too: all, or a part of them, 10% (another tenth each day, or with\n"
	"                            --state each time) or 3/10 (the third of ten parts)\n"
	"      --no-key              compare what is stored with its names, which needs no key\n"
	"      --state FILE          note in FILE what was read, to go on there after an interruption, and with 10%\n"
	"                            which tenth is next\n"
	"      --threads N           readers (default: one per CPU, at most 4)\n"
	"      --json                the result is one object\n"
	"  -h, --help                this text\n"
	"\n"
	"Exit codes: 0 all is well; 1 failed; 2 wrong command line; 3 something is damaged or missing; 6 FILE is\n"
	"not the state of a check, or another check uses it; 7 not allowed; 130 interrupted.\n";

static const char repair_help[] =
	"Usage: ambroctl repo repair [OPTION]…\n"
	"Read all packs and make the index anew, without what is damaged: later captures store that again. No\n"
	"pack and no image is deleted. A prune and a repair that work at the same time hinder each other.\n"
	"\n" VERB_REPO_HELP
	"      --alone               no other repair and no prune is at work on any machine: what killed ones\n"
	"                            left behind is no hindrance, and is removed\n"
	"      --dry-run             only say what would be done\n"
	"      --json                the result is one object\n"
	"  -h, --help                this text\n"
	"\n"
	"Exit codes: 0 done, and every image is whole; 1 failed; 2 wrong command line; 3 done, but some images are\n"
	"not whole (they are named); 6 a prune is at work, or was killed; 7 not allowed; 130 interrupted.\n";

enum {
	OPTION_READ_DATA = VERB_OPTION_OWN,
	OPTION_NO_KEY,
	OPTION_STATE,
	OPTION_THREADS,
	OPTION_DRY_RUN,
	OPTION_ALONE,
};

#define CHECK_THREADS_MAX 64
#define CHECK_PARTS_MAX	  1000
/* Said one by one on a terminal; all of them are in the JSON. */
#define CHECK_DAMAGES_SHOWN 50
#define COUNT_MAX	    48
#define DAY_NS		    (UINT64_C(24) * 3600 * 1000000000)

struct check_args {
	struct repo_check_settings check;
	bool no_key, dry_run;
};

/* What is told while it goes on. */
struct telling {
	struct render_bar bar;
	const char *verb, *phase;
	json_t *damages; /* array */
	uint64_t said;
};

static void telling_begin(struct telling *t, const char *verb, const char *phase)
{
	*t = (struct telling){ .verb = verb, .phase = phase, .damages = json_array() };
	render_bar_begin(&t->bar, arg_json ? RENDER_BAR_NONE : RENDER_BAR_AUTO);
}

static void telling_done(struct telling *t)
{
	render_bar_end(&t->bar);
	json_decref(t->damages);
}

static void telling_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct telling *t = ctx;
	const struct render_progress p = { .phase = t->phase, .done = done, .total = total };

	render_bar_update(&t->bar, &p);
}

/* Open it, without its index: that may be what is damaged. */
static int check_open(bool no_key, struct repo **ret, struct err *e)
{
	_cleanup_(repo_freep) struct repo *r = NULL;
	int n = repo_arg_require(e);

	if (n >= 0)
		n = repo_arg_open(&arg_repo, REPO_ARG_FORMAT, &r, e);
	if (n < 0)
		return n;
	if (!r->format.encrypted && key_source_given(&arg_repo.keys))
		return err_set(e, -EINVAL, "the repository is not encrypted, but a key was given");
	if (r->format.encrypted && !no_key)
		n = key_source_unlock(&arg_repo.keys, r, e);
	if (n >= 0)
		*ret = TAKE_PTR(r);
	return n;
}

/* "1 image", "2 images". */
static const char *count_of(uint64_t n, const char *one, const char *many, char buf[COUNT_MAX])
{
	snprintf(buf, COUNT_MAX, "%" PRIu64 " %s", n, n == 1 ? one : many);
	return buf;
}

/* ---- damage -------------------------------------------------------------------------------------- */

static json_t *damage_json(const struct repo_damage *d)
{
	json_t *o = json_pack("{s:o}", "what", render_json_string(d->what));

	if (o && d->object)
		json_object_set_new(o, "object", render_json_string(d->object));
	if (o && d->image) {
		json_object_set_new(o, "image", render_json_string(d->image));
		json_object_set_new(o, "region", json_integer(d->region));
		json_object_set_new(o, "partition", json_integer(d->partition));
		json_object_set_new(o, "offset", json_integer((json_int_t)d->offset));
		json_object_set_new(o, "length", json_integer((json_int_t)d->length));
	}
	return o;
}

static void telling_damage(void *ctx, const struct repo_damage *d)
{
	struct telling *t = ctx;
	char partition[32] = "", size[COUNT_MAX];

	if (arg_json) {
		json_array_append_new(t->damages, damage_json(d));
		return;
	}
	if (t->said++ >= CHECK_DAMAGES_SHOWN)
		return;
	if (!d->image) {
		verb_say(t->verb, "%s %s", d->object, d->what);
		return;
	}
	if (d->partition)
		snprintf(partition, sizeof(partition), ", in partition %u", d->partition);
	verb_say(t->verb, "%s cannot be restored: %s at byte %" PRIu64 " of the disk%s: %s",
		 d->image, count_of(d->length, "byte", "bytes", size), d->offset, partition,
		 d->what);
}

/* ---- check --------------------------------------------------------------------------------------- */

static int check_print_json(const struct telling *t, const struct repo_check_settings *s,
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

	return render_json(o, stdout);
}

static void check_print(const struct telling *t, const struct repo_check_settings *s,
			const struct repo_check_result *r)
{
	char size[RENDER_MAX], path[1024], images[COUNT_MAX], packs[COUNT_MAX];

	if (t->said > CHECK_DAMAGES_SHOWN) {
		verb_say("repo check", "… and %" PRIu64 " more; --json lists all",
			 t->said - CHECK_DAMAGES_SHOWN);
	}
	printf("%s: %s, %s, %s", render_safe(arg_repo.path, path, sizeof(path)),
	       r->damages ? "DAMAGED" : "OK", count_of(r->images, "image", "images", images),
	       count_of(r->packs, "pack", "packs", packs));
	if (s->parts) {
		printf(", %" PRIu64 " read (%s)", r->packs_read, render_size(r->bytes_read, size));
		if (r->packs_skipped)
			printf(", %" PRIu64 " before the interruption", r->packs_skipped);
		if (s->parts > 1)
			printf(", part %u of %u", r->part + 1, s->parts);
	}
	if (r->damages)
		printf(", %s hurt", count_of(r->images_hurt, "image", "images", images));
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
	_cleanup_(telling_done) struct telling t;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct repo_check_settings s = a->check;
	struct repo_check_result result = { 0 };
	struct err e = { 0 };
	int n;

	telling_begin(&t, "repo check", "check");
	s.cancel = verb_catch_signals();
	s.report = telling_damage;
	s.progress = telling_progress;
	s.ctx = &t;
	n = check_open(a->no_key, &r, &e);
	if (n >= 0)
		n = repo_check(r, &s, &result, &e);
	render_bar_end(&t.bar);
	if (n < 0 && (n != -EBADMSG || !result.damages))
		return verb_fail("repo check", &e);
	if (arg_json && check_print_json(&t, &s, &result) < 0)
		return VERB_FAILED;
	if (!arg_json)
		check_print(&t, &s, &result);
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
	case OPTION_DRY_RUN:
		a->dry_run = true;
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

/* ---- repair -------------------------------------------------------------------------------------- */

static void telling_repaired(void *ctx, const char *object, const char *what)
{
	struct telling *t = ctx;

	if (arg_json) {
		json_array_append_new(t->damages, json_pack("{s:s, s:o}", "object", object, "what",
							    render_json_string(what)));
	} else if (t->said++ < CHECK_DAMAGES_SHOWN) {
		verb_say(t->verb, "%s %s", object, what);
	}
}

static int repair_print_json(const struct telling *t, const struct repo_repair_result *r,
			     const struct repo_check_result *check, bool dry_run)
{
	json_t *o = json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "dry_run",
			      (int)dry_run, "packs", (json_int_t)r->packs, "packs_damaged",
			      (json_int_t)r->packs_damaged, "entries", (json_int_t)r->entries,
			      "entries_lost", (json_int_t)r->entries_lost, "index_files",
			      (json_int_t)r->index_files, "index_deleted",
			      (json_int_t)r->index_deleted, "images", (json_int_t)check->images,
			      "images_hurt", (json_int_t)check->images_hurt, "damages", t->damages);

	return render_json(o, stdout);
}

static void repair_print(const struct repo_repair_result *r, const struct repo_check_result *check,
			 bool dry_run)
{
	char entries[COUNT_MAX], packs[COUNT_MAX], images[COUNT_MAX];

	printf("%s %s from %s (%" PRIu64 " damaged)", dry_run ? "would index" : "indexed",
	       count_of(r->entries, "entry", "entries", entries),
	       count_of(r->packs, "pack", "packs", packs), r->packs_damaged);
	if (dry_run) {
		putchar('\n');
		return;
	}
	printf("; whole: %" PRIu64 " of %s\n",
	       check->images - MIN(check->images, check->images_hurt),
	       count_of(check->images, "image", "images", images));
}

/* Which images are whole now? */
static int repair_salvage(struct repo *r, struct telling *t, struct repo_check_result *ret,
			  struct err *e)
{
	const struct repo_check_settings s = {
		.cancel = verb_catch_signals(),
		.report = telling_damage,
		.ctx = t,
	};
	int n = repo_check(r, &s, ret, e);

	return n == -EBADMSG ? 0 : n;
}

static int repair_run(bool dry_run, bool alone)
{
	_cleanup_(telling_done) struct telling t;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct repo_repair_settings s = { .dry_run = dry_run, .alone = alone };
	struct repo_repair_result result = { 0 };
	struct repo_check_result check = { 0 };
	struct err e = { 0 };
	int n;

	telling_begin(&t, "repo repair", "repair");
	s.cancel = verb_catch_signals();
	s.report = telling_repaired;
	s.progress = telling_progress;
	s.ctx = &t;
	n = check_open(false, &r, &e);
	if (n >= 0)
		n = repo_repair(r, &s, &result, &e);
	render_bar_end(&t.bar);
	if (n >= 0 && !dry_run)
		n = repair_salvage(r, &t, &check, &e);
	if (n < 0)
		return verb_fail("repo repair", &e);
	if (arg_json && repair_print_json(&t, &result, &check, dry_run) < 0)
		return VERB_FAILED;
	if (!arg_json)
		repair_print(&result, &check, dry_run);
	return check.images_hurt ? VERB_DAMAGED : VERB_OK;
}

int repo_repair_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "alone", no_argument, NULL, OPTION_ALONE },
		{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	bool dry_run = false, alone = false;
	int c, code;

	while ((c = verb_getopt(argc, argv, "", options, repair_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		dry_run |= c == OPTION_DRY_RUN;
		alone |= c == OPTION_ALONE;
	}
	if (argc != optind)
		return verb_usage("repo repair", "it takes no argument: give --repo DIR");
	return repair_run(dry_run, alone);
}
