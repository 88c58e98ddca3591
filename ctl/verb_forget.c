/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/forget_policy.h"
#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/verb.h"
#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/repo/gc.h"
#include "lib/repo/repo_image.h"

static const char forget_help[] =
	"Usage: ambroctl forget [OPTION]… IMAGE…\n"
	"       ambroctl forget [OPTION]… --keep-last N …\n"
	"       ambroctl forget --undo IMAGE…\n"
	"Let images go: those named, or, by a policy, all that no rule keeps. They are hidden at once, deleted by\n"
	"'ambroctl prune' a grace period (24 h) later, and until then --undo brings them back.\n"
	"\n" VERB_REPO_HELP VERB_HOST_HELP FORGET_POLICY_HELP
	"      --disk NAME           only images of this disk are looked at\n"
	"      --tag TAG             only images with this tag are looked at\n"
	"      --undo                take it back\n"
	"      --dry-run             only say what would be forgotten\n"
	"      --yes                 by a policy: do not ask; without it a terminal is asked, and anything else\n"
	"                            is refused\n"
	"      --json                the result is one object\n"
	"  -h, --help                this text\n"
	"\n"
	"Each disk of each host is a group of its own, from which a policy never takes all images.\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 6 refused; 7 not allowed; 130 interrupted.\n";

/* One image with a wrong clock must not make all others look old. */
#define FORGET_CLOCK_SLACK_NS (UINT64_C(300) * 1000000000)

enum {
	OPTION_TAG = FORGET_OPTION_OWN,
	OPTION_DISK,
	OPTION_UNDO,
	OPTION_DRY_RUN,
	OPTION_YES,
};

struct forget_args {
	struct forget_policy policy;
	const char *tag, *disk;
	bool undo, dry_run, yes;
	char **names;
	int n_names;
};

/* What one forget has; verdicts are by the place in images. */
struct forget {
	const struct forget_args *args;
	struct repo *repo;
	struct repo_images images;
	struct retention_image *looked_at; /* those that the policy is about */
	size_t *place;			   /* of these in images */
	struct retention_verdict *verdicts;
	size_t n;
	uint8_t (*go)[REPO_NAME_HASH]; /* what is forgotten, or taken back; each once */
	size_t n_go;
	uint8_t (*idle)[REPO_NAME_HASH]; /* named, and so already; each once */
	size_t n_idle;
};

static void forget_done(struct forget *f)
{
	for (size_t i = 0; f->looked_at && i < f->n; i++)
		free((char *)f->looked_at[i].group);
	for (size_t i = 0; f->looked_at && i < f->n; i++)
		free((char *)f->looked_at[i].id);
	free(f->looked_at);
	free(f->place);
	free(f->verdicts);
	free(f->go);
	free(f->idle);
	repo_images_done(&f->images);
	repo_free(f->repo);
}

/* ---- by name ------------------------------------------------------------------------------------- */

/* What a name stands for; !@forgotten: among those that are not. Borrows of f->images. */
static int forget_select(const struct forget *f, const char *name, bool forgotten,
			 struct repo_image **ret, struct err *e)
{
	_cleanup_free_ struct repo_image **items = NULL;
	struct repo_images side = { 0 };

	items = calloc(f->images.count + 1, sizeof(struct repo_image *));
	if (!items)
		return err_oom(e);
	side.items = items;
	for (size_t i = 0; i < f->images.count; i++) {
		if (f->images.items[i]->forgotten == forgotten)
			items[side.count++] = f->images.items[i];
	}
	return repo_images_select(&side, name, arg_repo.host, ret, e);
}

/* An image that is damaged is in no list, and has its hash only. */
static bool forget_is_damaged(const struct forget *f, const char *name, uint8_t ret[REPO_NAME_HASH])
{
	if (hex_decode(name, ret, REPO_NAME_HASH) < 0)
		return false;
	for (size_t i = 0; i < f->images.count; i++) {
		if (!memcmp(f->images.items[i]->hash, ret, REPO_NAME_HASH))
			return false;
	}
	return true;
}

/* 1: @name is an image that is to be forgotten (or taken back); 0: one that is so already. */
static int forget_find(const struct forget *f, const char *name, uint8_t ret[REPO_NAME_HASH],
		       struct err *e)
{
	const bool undo = f->args->undo;
	struct repo_image *image;
	int r, found;

	if (forget_is_damaged(f, name, ret)) {
		r = gc_is_forgotten(f->repo, ret, e);
		return r < 0 ? r : (r > 0) == undo;
	}
	found = r = forget_select(f, name, undo, &image, e);
	if (r == -ENOENT)
		r = forget_select(f, name, !undo, &image, NULL);
	if (r >= 0) {
		memcpy(ret, image->hash, REPO_NAME_HASH);
		return found >= 0;
	}
	if (found == -ENOENT && undo) {
		return err_set(e, found,
			       "no forgotten image %.100s: 'ambroctl list --forgotten' shows them",
			       name);
	}
	return found;
}

/* Names may mean the same image. */
static void forget_add(uint8_t (*list)[REPO_NAME_HASH], size_t *n,
		       const uint8_t hash[REPO_NAME_HASH])
{
	for (size_t i = 0; i < *n; i++) {
		if (!memcmp(list[i], hash, REPO_NAME_HASH))
			return;
	}
	memcpy(list[(*n)++], hash, REPO_NAME_HASH);
}

static int forget_by_name(struct forget *f, struct err *e)
{
	for (int i = 0; i < f->args->n_names; i++) {
		uint8_t hash[REPO_NAME_HASH];
		int r = forget_find(f, f->args->names[i], hash, e);

		if (r < 0)
			return r;
		if (r > 0) {
			forget_add(f->go, &f->n_go, hash);
		} else {
			forget_add(f->idle, &f->n_idle, hash);
		}
	}
	return 0;
}

/* ---- by policy ----------------------------------------------------------------------------------- */

static size_t forget_tags(const struct repo_image *i)
{
	size_t n = 0;

	while (i->tags && i->tags[n])
		n++;
	return n;
}

static bool forget_looks_at(const struct forget *f, const struct repo_image *i)
{
	if (arg_repo.host && strcmp(arg_repo.host, i->host) != 0)
		return false;
	if (f->args->disk && strcmp(f->args->disk, i->disk) != 0)
		return false;
	for (size_t t = 0; f->args->tag && t < forget_tags(i); t++) {
		if (!strcmp(i->tags[t], f->args->tag))
			return true;
	}
	return !f->args->tag;
}

static int forget_collect(struct forget *f)
{
	const uint64_t now = io_realtime_ns() + FORGET_CLOCK_SLACK_NS;
	char name[REPO_IMAGE_NAME_MAX];

	f->looked_at = calloc(f->images.count + 1, sizeof(*f->looked_at));
	f->place = calloc(f->images.count + 1, sizeof(*f->place));
	f->verdicts = calloc(f->images.count + 1, sizeof(*f->verdicts));
	if (!f->looked_at || !f->place || !f->verdicts)
		return -ENOMEM;
	for (size_t i = 0; i < f->images.count; i++) {
		const struct repo_image *image = f->images.items[i];
		char hash[2 * REPO_NAME_HASH + 1], *group, *id;

		if (!forget_looks_at(f, image))
			continue;
		if (image->time_ns > now) {
			verb_say("forget",
				 "note: %s is from the future, by this machine's clock: no rule of "
				 "age looks at it",
				 repo_image_name(image, name));
			continue;
		}
		id = strdup(hex_encode(image->hash, sizeof(image->hash), hash));
		if (!id || asprintf(&group, "%s/%s", image->host, image->disk) < 0) {
			free(id);
			return -ENOMEM;
		}
		f->place[f->n] = i;
		f->looked_at[f->n++] = (struct retention_image){
			.time_ns = image->time_ns,
			.group = group,
			.id = id,
			.tags = (const char *const *)image->tags,
			.n_tags = forget_tags(image),
		};
	}
	return 0;
}

static int forget_by_policy(struct forget *f, struct err *e)
{
	int r;

	if (forget_collect(f) < 0)
		return err_oom(e);
	if (!f->n)
		return 0;
	r = retention_apply(&f->args->policy.policy, f->looked_at, f->n, f->verdicts, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < f->n; i++) {
		if (!f->verdicts[i].rules) {
			memcpy(f->go[f->n_go++], f->images.items[f->place[i]]->hash,
			       REPO_NAME_HASH);
		}
	}
	return 0;
}

/* ---- showing ------------------------------------------------------------------------------------- */

static void forget_reasons(const struct forget *f, size_t i, char *buf, size_t size)
{
	size_t n = 0;

	*buf = '\0';
	for (unsigned int rule = 0; rule < RETENTION_RULES; rule++) {
		char reason[RETENTION_REASON_MAX];

		if (!(f->verdicts[i].rules & 1u << rule) || n >= size)
			continue;
		n += (size_t)snprintf(buf + n, size - n, "%s%s", n ? ", " : "",
				      retention_reason(&f->looked_at[i], &f->verdicts[i],
						       (enum retention_rule)rule, reason));
	}
}

static int forget_print_policy(const struct forget *f, FILE *out)
{
	static const char *const headings[] = { "IMAGE", "", "KEPT BY", NULL };
	_cleanup_(render_table_freep) struct render_table *t = NULL;
	int r = render_table_new(headings, &t);

	for (size_t i = 0; i < f->n && r >= 0; i++) {
		char name[REPO_IMAGE_NAME_MAX], reasons[512];
		const char *const cells[] = {
			repo_image_name(f->images.items[f->place[i]], name),
			f->verdicts[i].rules ? "keep" : "forget",
			reasons,
		};

		forget_reasons(f, i, reasons, sizeof(reasons));
		r = render_table_add(t, cells);
	}
	if (r >= 0)
		render_table_print(t, out);
	return r;
}

/* NULL: it is damaged, so nobody knows. */
static const char *forget_name(const struct forget *f, const uint8_t hash[REPO_NAME_HASH],
			       char buf[REPO_IMAGE_NAME_MAX])
{
	for (size_t i = 0; i < f->images.count; i++) {
		if (!memcmp(f->images.items[i]->hash, hash, REPO_NAME_HASH))
			return repo_image_name(f->images.items[i], buf);
	}
	return NULL;
}

static json_t *forget_json_image(const struct forget *f, const uint8_t hash[REPO_NAME_HASH])
{
	char hex[2 * REPO_NAME_HASH + 1], name[REPO_IMAGE_NAME_MAX];
	json_t *o = json_pack("{s:s}", "hash", hex_encode(hash, REPO_NAME_HASH, hex));

	if (o && forget_name(f, hash, name))
		json_object_set_new(o, "name", json_string(name));
	return o;
}

static int forget_print_json(const struct forget *f)
{
	json_t *go = json_array(), *idle = json_array(), *kept = json_array();

	for (size_t i = 0; i < f->n_go; i++)
		json_array_append_new(go, forget_json_image(f, f->go[i]));
	for (size_t i = 0; i < f->n_idle; i++)
		json_array_append_new(idle, forget_json_image(f, f->idle[i]));
	for (size_t i = 0; i < f->n; i++) {
		char reasons[512];
		json_t *o;

		if (!f->verdicts[i].rules)
			continue;
		o = forget_json_image(f, f->images.items[f->place[i]]->hash);
		forget_reasons(f, i, reasons, sizeof(reasons));
		if (o)
			json_object_set_new(o, "kept_by", json_string(reasons));
		json_array_append_new(kept, o);
	}
	return render_json(json_pack("{s:b, s:o, s:o, s:o}", "dry_run", (int)f->args->dry_run,
				     f->args->undo ? "taken_back" : "forgotten", go, "unchanged",
				     idle, "kept", kept),
			   stdout);
}

static void forget_print(const struct forget *f)
{
	const struct forget_args *a = f->args;

	for (size_t i = 0; i < f->n_idle; i++) {
		char hex[2 * REPO_NAME_HASH + 1], buf[REPO_IMAGE_NAME_MAX];
		const char *name = forget_name(f, f->idle[i], buf);

		verb_say("forget", "note: %s (%.8s) %s", name ? name : "a damaged image",
			 hex_encode(f->idle[i], REPO_NAME_HASH, hex),
			 a->undo ? "is not forgotten" : "was forgotten already");
	}
	printf("%s%s %zu image%s\n", a->dry_run ? "would have " : "",
	       a->undo ? "taken back" : "forgotten", f->n_go, f->n_go == 1 ? "" : "s");
	if (f->images.damaged) {
		verb_say("forget", "note: %zu image%s damaged and %s not looked at: %s",
			 f->images.damaged, f->images.damaged == 1 ? " is" : "s are",
			 f->images.damaged == 1 ? "was" : "were", f->images.first_damage.text);
	}
}

/* ---- doing --------------------------------------------------------------------------------------- */

static bool forget_ask(const struct forget *f)
{
	char answer[16] = "";

	fprintf(stderr, "Forget %zu of %zu images? Type yes: ", f->n_go, f->n);
	fflush(stderr);
	return fgets(answer, sizeof(answer), stdin) && strcmp(answer, "yes\n") == 0;
}

/* Who names an image means it, and can take it back; what a policy takes was not seen before. */
static int forget_consent(const struct forget *f, struct err *e)
{
	if (f->args->n_names || f->args->yes || !f->n_go)
		return 0;
	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
		return err_set(e, -EBUSY,
			       "%zu of %zu images would be forgotten; --yes does it, --dry-run "
			       "shows them",
			       f->n_go, f->n);
	}
	if (forget_print_policy(f, stderr) < 0)
		return err_oom(e);
	return forget_ask(f) ? 0 : err_set(e, -EBUSY, "not confirmed; nothing was forgotten");
}

static int forget_choose(struct forget *f, struct err *e)
{
	int r = repo_arg_require(e);

	if (r >= 0)
		r = repo_arg_open(&arg_repo, REPO_ARG_IMAGES, &f->repo, e);
	if (r >= 0)
		r = repo_images_load(f->repo, f->args->n_names > 0, &f->images, e);
	if (r < 0)
		return r;
	f->go = calloc(f->images.count + (size_t)f->args->n_names + 1, sizeof(*f->go));
	f->idle = calloc((size_t)f->args->n_names + 1, sizeof(*f->idle));
	if (!f->go || !f->idle) {
		err_oom(e);
		return -ENOMEM;
	}
	return f->args->n_names ? forget_by_name(f, e) : forget_by_policy(f, e);
}

static int forget_act(struct forget *f, struct err *e)
{
	int r = 0;

	if (f->args->dry_run)
		return 0;
	if (!f->args->undo)
		return gc_forget(f->repo, (const uint8_t(*)[REPO_NAME_HASH])f->go, f->n_go, 0, e);
	for (size_t i = 0; i < f->n_go && r >= 0; i++)
		r = gc_unforget(f->repo, f->go[i], f->args->yes, e);
	return r;
}

static int forget_run(const struct forget_args *a)
{
	_cleanup_(forget_done) struct forget f = { .args = a };
	struct err e = { 0 };
	int r = forget_choose(&f, &e);

	if (r >= 0 && !a->dry_run)
		r = forget_consent(&f, &e);
	if (r >= 0)
		r = forget_act(&f, &e);
	if (r < 0)
		return verb_fail("forget", &e);
	if (arg_json)
		return forget_print_json(&f) < 0 ? VERB_FAILED : VERB_OK;
	if (!a->n_names && a->dry_run && forget_print_policy(&f, stdout) < 0)
		return VERB_FAILED;
	forget_print(&f);
	return VERB_OK;
}

static int forget_option(struct forget_args *a, int option)
{
	switch (option) {
	case OPTION_TAG:
		a->tag = optarg;
		return verb_check_name("forget", "--tag", optarg);
	case OPTION_DISK:
		a->disk = optarg;
		return verb_check_name("forget", "--disk", optarg);
	case OPTION_UNDO:
		a->undo = true;
		return 0;
	case OPTION_DRY_RUN:
		a->dry_run = true;
		return 0;
	case OPTION_YES:
		a->yes = true;
		return 0;
	default:
		return forget_policy_option(&a->policy, "forget", option);
	}
}

int verb_forget(int argc, char **argv)
{
	static const struct option options[] = {
		FORGET_POLICY_OPTIONS,
		{ "tag", required_argument, NULL, OPTION_TAG },
		{ "disk", required_argument, NULL, OPTION_DISK },
		{ "undo", no_argument, NULL, OPTION_UNDO },
		{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
		{ "yes", no_argument, NULL, OPTION_YES },
		VERB_HOST_OPTION,
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	struct forget_args a = { 0 };
	int c, code;

	while ((c = verb_getopt(argc, argv, "", options, forget_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (forget_option(&a, c) < 0)
			return VERB_USAGE;
	}
	a.names = argv + optind;
	a.n_names = argc - optind;
	if (a.n_names && (a.policy.given || a.tag || a.disk))
		return verb_usage("forget", "either images, or what is to be kept");
	if (!a.n_names && a.undo)
		return verb_usage("forget", "which images?");
	if (!a.n_names && !a.policy.given)
		return verb_usage("forget", "which images, or what is to be kept?");
	return forget_run(&a);
}
