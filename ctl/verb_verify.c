/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "ctl/image_file.h"
#include "ctl/render.h"
#include "ctl/verb.h"
#include "lib/base/io.h"
#include "lib/image/verify.h"

static const char verify_help[] =
	"Usage: ambroctl verify [OPTION]… IMAGE\n"
	"IMAGE is a file, or with --repo an image of a repository: HOST/DISK/TIME or the beginning of it,\n"
	"or latest.\n"
	"Read a whole image, decode every chunk and compare it with its SHA-256. Nothing is written.\n"
	"\n" VERB_REPO_HELP VERB_HOST_HELP "      --threads N  workers (default: one per CPU)\n"
	"      --json       the result is one object\n"
	"  -h, --help       this text\n"
	"\n"
	"Exit codes: 0 all is well; 1 failed; 2 wrong command line; 3 the image is damaged, or is none;\n"
	"130 interrupted.\n";

#define VERIFY_OPTION_THREADS VERB_OPTION_OWN
#define VERIFY_THREADS_MAX    256

static void verify_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct render_progress p = { .phase = "verify", .done = done, .total = total };

	render_bar_update(ctx, &p);
}

static int verify_print_json(const struct image_file *f, const struct verify_result *v,
			     uint64_t elapsed_ns, bool ok)
{
	double seconds = (double)elapsed_ns / 1e9;
	json_t *o;

	o = json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:f, s:I}", "ok", ok, "chunks",
		      (json_int_t)v->chunks, "data_chunks", (json_int_t)v->data_chunks,
		      "plain_bytes", (json_int_t)v->plain_bytes, "damaged_chunks",
		      (json_int_t)v->damaged_chunks, "bad",
		      (json_int_t)extent_set_total(&f->manifest->bad), "seconds", seconds, "rate",
		      (json_int_t)(seconds > 0 ? (double)v->plain_bytes / seconds : 0));
	if (image_file_to_json(f, o) < 0) {
		json_decref(o);
		o = NULL;
	}
	if (o && !ok) {
		json_object_set_new(o, "first_offset", json_integer((json_int_t)v->first_offset));
		json_object_set_new(o, "first_damage", render_json_string(v->first_damage));
	}
	return render_json(o, stdout);
}

static void verify_print(const struct image_file *f, const struct verify_result *v,
			 uint64_t elapsed_ns)
{
	char size[RENDER_MAX], rate[RENDER_MAX], time[RENDER_MAX], path[1024];
	char name[REPO_IMAGE_NAME_MAX];

	printf("%s: OK, %" PRIu64 " chunks, %" PRIu64 " with data (%s), in %s (%s)\n",
	       render_safe(image_file_name(f, name), path, sizeof(path)), v->chunks, v->data_chunks,
	       render_size(v->plain_bytes, size),
	       render_seconds((elapsed_ns + 500000000) / 1000000000, time),
	       render_rate((uint64_t)((double)v->plain_bytes * 1e9 / (double)MAX(elapsed_ns, 1u)),
			   rate));
}

/* The image is as it was made; it was made of a disk that could not be read everywhere. */
static void verify_warn(const struct image_file *f)
{
	uint64_t bad = extent_set_total(&f->manifest->bad);

	if (bad) {
		verb_say("verify",
			 "note: %" PRIu64 " bytes of the disk could not be read when the image was "
			 "made; there are zeros in their place",
			 bad);
	}
}

static int verify_run(const char *path, unsigned int threads, struct err *e)
{
	_cleanup_(image_file_done) struct image_file f = IMAGE_FILE_NONE;
	struct cancel *c = verb_catch_signals();
	struct verify_result v = { 0 };
	struct render_bar bar;
	char name[REPO_IMAGE_NAME_MAX];
	const char *what;
	uint64_t begun;
	int r;

	r = image_file_open(path, true, &f, e);
	if (r < 0)
		return r;
	what = image_file_name(&f, name);
	begun = io_now_ns();
	render_bar_begin(&bar, arg_json ? RENDER_BAR_NONE : RENDER_BAR_AUTO);
	r = image_verify(f.reader, threads, c, verify_progress, &bar, &v, e);
	render_bar_end(&bar);
	if (r < 0 && r != -EBADMSG)
		return err_prefix(e, "%s", what), r;
	begun = io_now_ns() - begun;
	if (arg_json && verify_print_json(&f, &v, begun, r == 0) < 0)
		return err_set(e, -EIO, "cannot write the result");
	if (r == 0 && !arg_json) {
		verify_print(&f, &v, begun);
		verify_warn(&f);
	}
	if (r == -EBADMSG && !v.damaged_chunks) {
		return err_set(
			e, r,
			"%s is damaged, but every chunk can be restored by ambroctl (plain zstd "
			"may fail): %.300s",
			what, v.first_damage);
	}
	if (r == -EBADMSG) {
		return err_set(e, r,
			       "%s is damaged: %" PRIu64 " of %" PRIu64
			       " chunks cannot be restored; the first: %s",
			       what, v.damaged_chunks, v.chunks, v.first_damage);
	}
	return r;
}

int verb_verify(int argc, char **argv)
{
	static const struct option options[] = {
		{ "threads", required_argument, NULL, VERIFY_OPTION_THREADS },
		VERB_HOST_OPTION,
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	uint64_t threads = 0;
	struct err e = { 0 };
	int c, code;

	while ((c = verb_getopt(argc, argv, "", options, verify_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (verb_parse_u64("verify", "--threads", optarg, 1, VERIFY_THREADS_MAX, &threads) <
		    0)
			return VERB_USAGE;
	}
	if (argc - optind != 1)
		return verb_usage("verify", "one image, please");
	if (verify_run(argv[optind], (unsigned int)threads, &e) < 0)
		return verb_fail("verify", &e);
	return VERB_OK;
}
