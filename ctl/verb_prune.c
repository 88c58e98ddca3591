/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/verb.h"
#include "lib/base/io.h"
#include "lib/repo/gc.h"

static const char prune_help[] =
	"Usage: ambroctl prune [OPTION]…\n"
	"Give back the space that no image uses: what was forgotten longer than a grace period ago is deleted,\n"
	"packs that nothing needs are marked, and deleted by a prune that is a grace period later. Captures and\n"
	"restores go on meanwhile. It may be interrupted at any time.\n"
	"\n" VERB_REPO_HELP
	"      --grace TIME          how long what is let go stays: 36h, 2d (default and least: 24h). Longer than the\n"
	"                            longest capture of any machine! 0: nothing else writes to the repository\n"
	"                            now, so that all is done at once\n"
	"      --repack-dead PERCENT copy what is needed of packs with more dead bytes than that (default: 25;\n"
	"                            100: of none)\n"
	"      --max-repack SIZE     copy about so much at most (default: 64G; 0: no limit)\n"
	"      --trust-clock         this machine's clock is right, whatever that of the storage says\n"
	"      --dry-run             only say what would be done\n"
	"      --json                the result is one object\n"
	"  -h, --help                this text\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 3 something is damaged, and nothing was deleted;\n"
	"6 a repair is at work, or was killed; 7 not allowed; 130 interrupted.\n";

enum {
	OPTION_GRACE = VERB_OPTION_OWN,
	OPTION_REPACK_DEAD,
	OPTION_MAX_REPACK,
	OPTION_TRUST_CLOCK,
	OPTION_DRY_RUN,
};

#define GRACE_HOURS_MAX 100000u

/* "36h", "2d", "0" */
static int prune_parse_time(const char *text, uint64_t *ret_ns)
{
	char number[32];
	const size_t len = strlen(text);
	uint64_t v, unit = 0;

	if (!strcmp(text, "0")) {
		*ret_ns = 0;
		return 0;
	}
	switch (len ? text[len - 1] : 0) {
	case 'h':
		unit = 3600;
		break;
	case 'd':
		unit = UINT64_C(24) * 3600;
		break;
	default:
		break;
	}
	if (!unit || len >= sizeof(number)) {
		verb_usage("prune", "--grace: %s is not a time such as 36h or 2d", text);
		return -EINVAL;
	}
	memcpy(number, text, len - 1);
	number[len - 1] = '\0';
	if (verb_parse_u64("prune", "--grace", number, 1, GRACE_HOURS_MAX, &v) < 0)
		return -EINVAL;
	*ret_ns = v * unit * 1000000000;
	/* captures count on it: they commit within so long */
	if (*ret_ns < GC_GRACE_DEFAULT_NS) {
		verb_usage(
			"prune",
			"--grace: less than 24h would be shorter than a capture may take (0: nothing "
			"else writes to the repository now)");
		return -EINVAL;
	}
	return 0;
}

static void prune_progress(void *ctx, const struct gc_progress *p)
{
	char extra[64];
	const struct render_progress r = { .phase = p->phase, .extra = extra };

	snprintf(extra, sizeof(extra), "%" PRIu64 " of %" PRIu64, p->done, p->total);
	render_bar_update(ctx, &r);
}

static int prune_print_json(const struct gc_result *g, bool dry_run)
{
	json_t *o = json_pack(
		"{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
		"s:I}",
		"dry_run", (int)dry_run, "images", (json_int_t)g->images, "images_deleted",
		(json_int_t)g->images_deleted, "images_waiting", (json_int_t)g->images_waiting,
		"packs", (json_int_t)g->packs, "bytes", (json_int_t)g->bytes, "packs_marked",
		(json_int_t)g->packs_marked, "bytes_marked", (json_int_t)g->bytes_marked,
		"packs_repacked", (json_int_t)g->packs_repacked, "packs_joined",
		(json_int_t)g->packs_joined, "packs_gathered", (json_int_t)g->packs_gathered,
		"bytes_copied", (json_int_t)g->bytes_copied, "packs_deleted",
		(json_int_t)g->packs_deleted, "bytes_deleted", (json_int_t)g->bytes_deleted,
		"packs_waiting", (json_int_t)g->packs_waiting, "bytes_waiting",
		(json_int_t)g->bytes_waiting, "next_ns", (json_int_t)g->next_ns);

	return render_json(o, stdout);
}

static void prune_print(const struct gc_result *g, bool dry_run)
{
	char a[RENDER_MAX], b[RENDER_MAX], images[RENDER_MAX], packs[RENDER_MAX];

	printf("%sdeleted %s and %s (%s)\n", dry_run ? "would have " : "",
	       render_count(g->images_deleted, "image", "images", images),
	       render_count(g->packs_deleted, "pack", "packs", packs),
	       render_size(g->bytes_deleted, a));
	if (g->packs_marked) {
		printf("%smarked %s (%s)", dry_run ? "would have " : "",
		       render_count(g->packs_marked, "pack", "packs", packs),
		       render_size(g->bytes_marked, a));
		if (g->packs_repacked) {
			printf(", of them %" PRIu64 " because what is needed was copied (%s)",
			       g->packs_repacked, render_size(g->bytes_copied, b));
			if (g->packs_joined)
				printf(", to join %" PRIu64 " small ones", g->packs_joined);
			if (g->packs_gathered) {
				printf(", %" PRIu64 " to put together what the newest images need",
				       g->packs_gathered);
			}
		}
		putchar('\n');
	}
	if (g->next_ns) {
		printf("%s (%s) and %s wait for their grace period; the first until %s\n",
		       render_count(g->packs_waiting, "pack", "packs", packs),
		       render_size(g->bytes_waiting, a),
		       render_count(g->images_waiting, "forgotten image", "forgotten images",
				    images),
		       render_time(g->next_ns, b));
	}
}

static int prune_open(struct repo **ret, struct err *e)
{
	int r = repo_arg_require(e);

	return r < 0 ? r : repo_arg_open(&arg_repo, REPO_ARG_CHUNKS, ret, e);
}

static int prune_run(const struct gc_settings *settings)
{
	struct gc_settings s = *settings;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct render_bar bar;
	struct gc_result g = { 0 };
	struct err e = { 0 };
	int n;

	s.cancel = verb_catch_signals();
	s.progress = prune_progress;
	s.progress_ctx = &bar;
	n = prune_open(&r, &e);
	if (n < 0)
		return verb_fail("prune", &e);
	render_bar_begin(&bar, arg_json ? RENDER_BAR_NONE : RENDER_BAR_AUTO);
	n = gc_prune(r, &s, &g, &e);
	render_bar_end(&bar);
	if (n >= 0 && !s.dry_run)
		store_dir_clean(r->store, 86400, NULL);
	if (n < 0)
		return verb_fail("prune", &e);
	if (arg_json && prune_print_json(&g, s.dry_run) < 0)
		return VERB_FAILED;
	if (!arg_json)
		prune_print(&g, s.dry_run);
	if (g.damaged) {
		verb_say("prune",
			 "%" PRIu64
			 " entries are damaged and were not copied, their packs stay; see "
			 "'ambroctl repo check --read-data'. The first: %s",
			 g.damaged, g.first_damage);
		return VERB_DAMAGED;
	}
	return VERB_OK;
}

static int prune_option(struct gc_settings *s, int option)
{
	uint64_t percent;

	switch (option) {
	case OPTION_GRACE:
		return prune_parse_time(optarg, &s->grace_ns);
	case OPTION_REPACK_DEAD:
		if (verb_parse_u64("prune", "--repack-dead", optarg, 0, 100, &percent) < 0)
			return -EINVAL;
		s->repack_dead_percent = (unsigned int)percent;
		return 0;
	case OPTION_MAX_REPACK:
		return verb_parse_size("prune", "--max-repack", optarg, 0, &s->max_repack_bytes);
	case OPTION_TRUST_CLOCK:
		s->trust_clock = true;
		return 0;
	default:
		s->dry_run = true;
		return 0;
	}
}

int verb_prune(int argc, char **argv)
{
	static const struct option options[] = {
		{ "grace", required_argument, NULL, OPTION_GRACE },
		{ "repack-dead", required_argument, NULL, OPTION_REPACK_DEAD },
		{ "max-repack", required_argument, NULL, OPTION_MAX_REPACK },
		{ "trust-clock", no_argument, NULL, OPTION_TRUST_CLOCK },
		{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	struct gc_settings s = { .grace_ns = GC_GRACE_DEFAULT_NS,
				 .repack_dead_percent = GC_REPACK_DEAD_PERCENT_DEFAULT,
				 .max_repack_bytes = GC_REPACK_BYTES_DEFAULT };
	int c, code;

	while ((c = verb_getopt(argc, argv, "", options, prune_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (prune_option(&s, c) < 0)
			return VERB_USAGE;
	}
	if (argc != optind)
		return verb_usage("prune", "it takes no argument: give --repo DIR");
	return prune_run(&s);
}
