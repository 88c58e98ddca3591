/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/repo_repair_cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "ctl/render.h"
#include "ctl/repo_telling.h"
#include "ctl/verb.h"
#include "lib/repo/repo_check.h"
#include "lib/repo/repo_repair.h"

static const char repair_help[] =
	"Usage: ambroctl repo repair [OPTION]…\n"
	"Read all packs and make the index anew, without what is damaged: later captures store that again. No\n"
	"pack and no image is deleted. A prune and a repair that work at the same time hinder each other.\n"
	"\n" VERB_REPO_HELP
	"      --alone               no other repair and no prune is at work on any machine: what killed ones\n"
	"                            left behind is no hindrance, and is removed\n"
	"      --dry-run             only say what would be done\n"
	"      --no-files            as of repo check\n"
	"      --json                the result is one object\n"
	"  -h, --help                this text\n"
	"\n"
	"Exit codes: 0 done, and every image is whole; 1 failed; 2 wrong command line; 3 done, but some images are\n"
	"not whole (they are named); 6 a prune is at work, or was killed; 7 not allowed; 130 interrupted.\n";

enum {
	OPTION_DRY_RUN = VERB_OPTION_OWN,
	OPTION_ALONE,
	OPTION_NO_FILES,
};

struct repair_args {
	bool dry_run, alone, no_files;
};

static int repair_print_json(const struct repo_telling *t, const struct repo_repair_result *r,
			     const struct repo_check_result *check, bool dry_run)
{
	json_t *o = json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "dry_run",
			      (int)dry_run, "packs", (json_int_t)r->packs, "packs_damaged",
			      (json_int_t)r->packs_damaged, "entries", (json_int_t)r->entries,
			      "entries_lost", (json_int_t)r->entries_lost, "index_files",
			      (json_int_t)r->index_files, "index_deleted",
			      (json_int_t)r->index_deleted, "images", (json_int_t)check->images,
			      "images_hurt", (json_int_t)check->images_hurt, "damages", t->damages);

	repo_telling_add_files(t, o);
	return render_json(o, stdout);
}

static void repair_print(const struct repo_repair_result *r, const struct repo_check_result *check,
			 bool dry_run)
{
	char entries[RENDER_MAX], packs[RENDER_MAX], images[RENDER_MAX];

	printf("%s %s from %s (%" PRIu64 " damaged)", dry_run ? "would index" : "indexed",
	       render_count(r->entries, "entry", "entries", entries),
	       render_count(r->packs, "pack", "packs", packs), r->packs_damaged);
	if (dry_run) {
		putchar('\n');
		return;
	}
	printf("; whole: %" PRIu64 " of %s\n",
	       check->images - MIN(check->images, check->images_hurt),
	       render_count(check->images, "image", "images", images));
}

/* Which images are whole now? */
static int repair_salvage(struct repo *r, struct repo_telling *t, struct repo_check_result *ret,
			  struct err *e)
{
	const struct repo_check_settings s = {
		.cancel = verb_catch_signals(),
		.report = repo_telling_damage,
		.ctx = t,
	};
	int n = repo_check(r, &s, ret, e);

	return n == -EBADMSG ? 0 : n;
}

static int repair_run(const struct repair_args *a)
{
	_cleanup_(repo_telling_done) struct repo_telling t;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct repo_repair_settings s = { .dry_run = a->dry_run, .alone = a->alone };
	struct repo_repair_result result = { 0 };
	struct repo_check_result check = { 0 };
	struct err e = { 0 };
	int n;

	repo_telling_begin(&t, "repo repair", "repair", !a->no_files && !a->dry_run);
	s.cancel = verb_catch_signals();
	s.report = repo_telling_repaired;
	s.progress = repo_telling_progress;
	s.ctx = &t;
	n = repo_telling_open(false, &r, &e);
	if (n >= 0)
		n = repo_repair(r, &s, &result, &e);
	render_bar_end(&t.bar);
	if (n >= 0 && !a->dry_run)
		n = repair_salvage(r, &t, &check, &e);
	if (n < 0)
		return verb_fail("repo repair", &e);
	n = repo_telling_files(&t, r, s.cancel);
	if (arg_json && repair_print_json(&t, &result, &check, a->dry_run) < 0)
		return VERB_FAILED;
	if (!arg_json)
		repair_print(&result, &check, a->dry_run);
	if (n == -ECANCELED)
		return VERB_INTERRUPTED;
	return check.images_hurt ? VERB_DAMAGED : VERB_OK;
}

int repo_repair_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "alone", no_argument, NULL, OPTION_ALONE },
		{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
		{ "no-files", no_argument, NULL, OPTION_NO_FILES },
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	struct repair_args a = { 0 };
	int c, code;

	while ((c = verb_getopt(argc, argv, "", options, repair_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		a.alone |= c == OPTION_ALONE;
		a.dry_run |= c == OPTION_DRY_RUN;
		a.no_files |= c == OPTION_NO_FILES;
	}
	if (argc != optind)
		return verb_usage("repo repair", "it takes no argument: give --repo DIR");
	return repair_run(&a);
}
