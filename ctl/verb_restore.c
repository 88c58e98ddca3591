/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/contents.h"
#include "ctl/image_file.h"
#include "ctl/parttable.h"
#include "ctl/render.h"
#include "ctl/restore.h"
#include "ctl/verb.h"
#include "lib/base/io.h"

static const char restore_help[] =
	"Usage: ambroctl restore [OPTION]… IMAGE TARGET\n"
	"Write an image to TARGET, a block device or a file (made if there is none). Every chunk is checked before\n"
	"it is written. A target that is in use, too small, read-only, or under the image is refused. IMAGE is a\n"
	"file, or with --repo an image of a repository: HOST/DISK/TIME or the beginning of it, or latest.\n"
	"\n" VERB_REPO_HELP VERB_HOST_HELP
	"      --partition N   only partition N of the image, into a partition, device or file\n"
	"      --yes           overwrite what is there; without it a terminal is asked, and anything else\n"
	"                      is refused\n"
	"      --verify        read everything back from the medium before the disk becomes valid\n"
	"      --no-discard    leave the free space of the target as it is\n"
	"      --skip-damaged  put zeros where the image is damaged, go on, and exit with 3 at the end\n"
	"      --threads N     workers (default: one per CPU)\n"
	"      --json          the result is one object\n"
	"  -h, --help          this text\n"
	"\n"
	"The beginning of the target is erased first and written last: an interrupted restore leaves a disk\n"
	"without a partition table or superblock.\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 3 the image is damaged, or is none; 6 refused;\n"
	"7 not allowed; 130 interrupted.\n";

enum {
	OPTION_PARTITION = VERB_OPTION_OWN,
	OPTION_YES,
	OPTION_VERIFY,
	OPTION_NO_DISCARD,
	OPTION_SKIP_DAMAGED,
	OPTION_THREADS,
};

#define RESTORE_THREADS_MAX   128
#define RESTORE_PARTITION_MAX 65535

struct restore_args {
	const char *image, *target;
	uint64_t partition; /* 0: the whole image */
	uint64_t threads;
	bool yes, verify, no_discard, skip_damaged;
};

/* All that one restore has; the destructor takes it half-built. */
struct restore_session {
	const struct restore_args *args;
	struct image_file image;
	struct restore_plan *plan;
	struct target *target;
	struct restore_result result;
	uint64_t elapsed_ns;
	bool table_moved;
	int partitions; /* that the kernel knows now; negative: not told */
};

static void session_done(struct restore_session *s)
{
	restore_result_done(&s->result);
	target_free(s->target);
	restore_plan_free(s->plan);
	image_file_done(&s->image);
}

static bool session_has_table(const struct restore_session *s)
{
	const char *table = s->image.manifest->table;

	return !s->args->partition && table && strcmp(table, "none") != 0;
}

static int session_plan(struct restore_session *s, struct cancel *c, struct err *e)
{
	const struct manifest *m = s->image.manifest;
	int64_t region = RESTORE_ALL_REGIONS;

	if (s->args->partition) {
		for (size_t i = 0; i < m->n_regions && region < 0; i++) {
			if (m->regions[i].partition == s->args->partition)
				region = (int64_t)i;
		}
		if (region < 0) {
			return err_set(e, -ENOENT,
				       "there is no partition %" PRIu64
				       " in it; 'ambroctl show' lists what it has",
				       s->args->partition);
		}
	}
	return restore_plan_new(s->image.reader, region, c, &s->plan, e);
}

static int session_check_sector(const struct restore_session *s, struct err *e)
{
	const struct manifest *m = s->image.manifest;

	if (s->target->is_file || !session_has_table(s) || s->target->sector == m->logical_sector)
		return 0;
	return err_set(e, -EBUSY,
		       "%s has sectors of %" PRIu32 " bytes, the imaged disk had %" PRIu32
		       ": its partition table counts in sectors and would mean other places here; "
		       "restore single partitions with --partition",
		       s->target->path, s->target->sector, m->logical_sector);
}

/* ---- consent ---------------------------------------------------------------------------------- */

static void consent_describe(const struct target *t, const struct contents *c)
{
	char path[256], model[160], size[RENDER_MAX];

	fprintf(stderr, "%s (%s%s%s) holds:\n", render_safe(t->path, path, sizeof(path)),
		render_safe(t->model, model, sizeof(model)), *t->model ? ", " : "",
		render_size(t->size, size));
	contents_print(c, "  ", stderr);
}

static bool consent_ask(const struct target *t)
{
	char answer[16] = "", path[256];

	fprintf(stderr, "All of it will be lost. Overwrite %s? Type yes: ",
		render_safe(t->path, path, sizeof(path)));
	fflush(stderr);
	return fgets(answer, sizeof(answer), stdin) && strcmp(answer, "yes\n") == 0;
}

/* Has the user agreed to lose what is there? */
static int session_consent(const struct restore_session *s, struct cancel *c, struct err *e)
{
	_cleanup_(contents_freep) struct contents *found = NULL;
	const struct target *t = s->target;
	int r;

	if (t->fresh || s->args->yes)
		return 0;
	r = contents_probe(t->fd, t->device, t->size, &found, e);
	if (r < 0)
		return err_prefix(e, "%s", t->path), r;
	/* a file was made by somebody, even if it has only zeros */
	if (!t->is_file && contents_empty(found))
		return 0;
	consent_describe(t, found);
	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return err_set(e, -EBUSY, "%s is not empty; --yes overwrites it", t->path);
	if (consent_ask(t))
		return 0;
	if (cancel_raised(c))
		return err_set(e, -ECANCELED, "interrupted; %s was not touched", t->path);
	return err_set(e, -EBUSY, "not confirmed; %s was not touched", t->path);
}

/* ---- after the bytes -------------------------------------------------------------------------- */

static int session_fit_table(struct restore_session *s, struct err *e)
{
	const struct manifest *m = s->image.manifest;
	struct target *t = s->target;
	int r;

	if (!session_has_table(s) || strcmp(m->table, "gpt") != 0 || t->size <= m->disk_size)
		return 0;
	r = parttable_move_backup(t->fd, t->path, t->is_file ? m->logical_sector : 0, e);
	if (r < 0) {
		err_prefix(e, "all data is restored, but the partition table is not yet "
			      "fitted to the larger disk");
		return r;
	}
	s->table_moved = true;
	return target_flush(t, e);
}

/* Only a comfort: the disk is restored whether the kernel looks at it or not. */
static void session_tell_kernel(struct restore_session *s)
{
	struct target *t = s->target;
	struct err e = { 0 };

	s->partitions = -1;
	if (!session_has_table(s) || t->is_file || t->is_partition)
		return;
	s->partitions = parttable_reread(t->fd, t->device, t->path, &e);
	if (s->partitions < 0) {
		verb_say("restore", "note: the kernel does not know the new partitions yet: %s",
			 e.text);
	}
}

static void session_tick(void *ctx, const char *phase, uint64_t done, uint64_t total)
{
	struct render_progress p = { .phase = phase, .done = done, .total = total };

	render_bar_update(ctx, &p);
}

static int session_write(struct restore_session *s, struct cancel *c, struct err *e)
{
	struct render_bar bar;
	struct restore_job job = {
		.reader = s->image.reader,
		.plan = s->plan,
		.target = s->target,
		.cancel = c,
		.threads = (unsigned int)s->args->threads,
		.no_discard = s->args->no_discard,
		.skip_damaged = s->args->skip_damaged,
		.verify = s->args->verify,
		.tick = session_tick,
		.ctx = &bar,
	};
	uint64_t begun = io_now_ns();
	int r;

	render_bar_begin(&bar, arg_json ? RENDER_BAR_NONE : RENDER_BAR_AUTO);
	r = restore_run(&job, &s->result, e);
	render_bar_end(&bar);
	if (r >= 0)
		r = session_fit_table(s, e);
	s->elapsed_ns = MAX(io_now_ns() - begun, UINT64_C(1));
	if (r >= 0)
		session_tell_kernel(s);
	return r;
}

/* ---- telling ---------------------------------------------------------------------------------- */

static uint64_t session_rate(const struct restore_session *s)
{
	return (uint64_t)((double)s->result.written * 1e9 / (double)s->elapsed_ns);
}

static json_t *session_damages(const struct restore_session *s)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < s->result.n_damages; i++) {
		const struct restore_damage *d = &s->result.damages[i];

		json_array_append_new(list,
				      json_pack("{s:I, s:I, s:I}", "region", (json_int_t)d->region,
						"offset", (json_int_t)d->offset, "length",
						(json_int_t)d->length));
	}
	return list;
}

static int session_print_json(const struct restore_session *s, const char *error)
{
	const struct restore_result *r = &s->result;
	json_t *o;

	o = json_pack("{s:o, s:b, s:I, s:I, s:I, s:I, s:f, s:I, s:b, s:I, s:b, s:I, s:o}", "target",
		      render_json_string(s->args->target), "ok", !error && !r->n_damages, "written",
		      (json_int_t)r->written, "zeroed", (json_int_t)r->zeroed, "discarded",
		      (json_int_t)r->discarded, "bad", (json_int_t)r->bad, "seconds",
		      (double)s->elapsed_ns / 1e9, "rate", (json_int_t)session_rate(s), "verified",
		      s->args->verify && !error, "verified_bytes", (json_int_t)r->verified,
		      "table_moved", s->table_moved, "partitions",
		      (json_int_t)MAX(s->partitions, 0), "damaged", session_damages(s));
	if (image_file_to_json(&s->image, o) < 0) {
		json_decref(o);
		o = NULL;
	}
	if (o && error)
		json_object_set_new(o, "error", render_json_string(error));
	return render_json(o, stdout);
}

static void session_print(const struct restore_session *s)
{
	const struct restore_result *r = &s->result;
	char a[RENDER_MAX], b[RENDER_MAX], c[RENDER_MAX], path[512];

	printf("%s: restored, %s written in %s (%s)",
	       render_safe(s->args->target, path, sizeof(path)), render_size(r->written, a),
	       render_seconds((s->elapsed_ns + 500000000) / 1000000000, b),
	       render_rate(session_rate(s), c));
	printf(", %s zeroed, %s given back\n", render_size(r->zeroed, a),
	       render_size(r->discarded, b));
	if (s->args->verify) {
		printf("verified: %s read back from the medium are right\n",
		       render_size(r->verified, a));
	}
	if (s->table_moved)
		printf("the disk is larger than the imaged one: its backup GPT now is at the end\n");
	if (s->partitions > 0)
		printf("partitions that the kernel knows now: %d\n", s->partitions);
}

/* What a person should know although all went well. */
static void session_warn(const struct restore_session *s)
{
	const struct restore_result *r = &s->result;
	uint64_t bad = extent_set_total(&s->image.manifest->bad);

	if (bad) {
		verb_say("restore",
			 "note: %" PRIu64 " bytes of the disk could not be read when the image was "
			 "made; there are zeros in their place",
			 bad);
	}
	for (size_t i = 0; i < r->n_damages && i < 20; i++) {
		verb_say("restore",
			 "damaged in the image, zeros on the target: region %" PRIu32
			 ", byte %" PRIu64 ", %" PRIu64 " bytes",
			 r->damages[i].region, r->damages[i].offset, r->damages[i].length);
	}
	if (r->n_damages > 20)
		verb_say("restore", "… and %zu more chunks", r->n_damages - 20);
}

static int session_run(struct restore_session *s, struct cancel *c, struct err *e)
{
	int r;

	r = image_file_open(s->args->image, true, &s->image, e);
	if (r < 0)
		return r;
	r = session_plan(s, c, e);
	if (r < 0)
		return err_prefix(e, "%s", s->args->image), r;
	r = target_open(s->args->target, restore_plan_size(s->plan), s->image.fd, &s->target, e);
	if (r < 0)
		return r;
	r = session_check_sector(s, e);
	if (r >= 0)
		r = session_consent(s, c, e);
	return r < 0 ? r : session_write(s, c, e);
}

static int restore_do(const struct restore_args *args)
{
	_cleanup_(session_done) struct restore_session s = { .args = args,
							     .image = IMAGE_FILE_NONE,
							     .partitions = -1 };
	struct cancel *c = verb_catch_signals();
	struct err e = { 0 };
	int r = session_run(&s, c, &e);

	if (arg_json && (r >= 0 || s.result.touched) &&
	    session_print_json(&s, r < 0 ? e.text : NULL) < 0)
		return VERB_FAILED;
	if (r < 0) {
		if (s.result.touched && !s.table_moved) {
			verb_say("restore",
				 "%s is now incomplete: what was there is gone, and it does not "
				 "hold what the image has",
				 args->target);
		}
		return verb_fail("restore", &e);
	}
	if (!arg_json)
		session_print(&s);
	session_warn(&s);
	return s.result.n_damages ? VERB_DAMAGED : VERB_OK;
}

static int restore_option(struct restore_args *a, int option)
{
	switch (option) {
	case OPTION_PARTITION:
		return verb_parse_u64("restore", "--partition", optarg, 1, RESTORE_PARTITION_MAX,
				      &a->partition);
	case OPTION_THREADS:
		return verb_parse_u64("restore", "--threads", optarg, 1, RESTORE_THREADS_MAX,
				      &a->threads);
	case OPTION_YES:
		a->yes = true;
		break;
	case OPTION_VERIFY:
		a->verify = true;
		break;
	case OPTION_NO_DISCARD:
		a->no_discard = true;
		break;
	default:
		a->skip_damaged = true;
		break;
	}
	return 0;
}

int verb_restore(int argc, char **argv)
{
	static const struct option options[] = {
		{ "partition", required_argument, NULL, OPTION_PARTITION },
		{ "yes", no_argument, NULL, OPTION_YES },
		{ "verify", no_argument, NULL, OPTION_VERIFY },
		{ "no-discard", no_argument, NULL, OPTION_NO_DISCARD },
		{ "skip-damaged", no_argument, NULL, OPTION_SKIP_DAMAGED },
		{ "threads", required_argument, NULL, OPTION_THREADS },
		VERB_HOST_OPTION,
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	struct restore_args args = { 0 };
	int c, code;

	while ((c = verb_getopt(argc, argv, "", options, restore_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (restore_option(&args, c) < 0)
			return VERB_USAGE;
	}
	if (argc - optind != 2)
		return verb_usage("restore", "one image and one target, please");
	args.image = argv[optind];
	args.target = argv[optind + 1];
	return restore_do(&args);
}
