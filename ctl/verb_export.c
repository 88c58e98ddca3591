/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/image_file.h"
#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/verb.h"
#include "lib/base/io.h"
#include "lib/base/newfile.h"
#include "lib/repo/repo_export.h"
#include "lib/repo/sealed_writer.h"

static const char export_help[] =
	"Usage: ambroctl export [OPTION]… IMAGE FILE|-\n"
	"Write an image of a repository as a single file, which 'zstd -dc' turns into the disk. Frames are copied\n"
	"as they are, nothing is compressed again.\n"
	"\n" VERB_REPO_HELP VERB_HOST_HELP "      --force               replace FILE\n"
	"      --encrypt             encrypt FILE for a new passphrase (asked for), or for:\n"
	"      --recipient KEY       a public key, or a file with one; may be repeated (ambroctl-key(1))\n"
	"      --new-passphrase-file F, --new-passphrase-fd N\n"
	"                            with --encrypt: the passphrase of FILE\n"
	"  -q, --quiet               no progress and no summary\n"
	"      --json                the result is one object (stderr when the image goes to stdout)\n"
	"  -h, --help                this text\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 3 the image is damaged; 6 FILE exists; 7 not\n"
	"allowed; 130 interrupted.\n";

enum {
	OPTION_FORCE = VERB_OPTION_OWN,
	OPTION_ENCRYPT,
	OPTION_RECIPIENT,
	OPTION_NEW_FILE,
	OPTION_NEW_FD,
};

struct export_args {
	const char *image, *path;
	bool force, quiet;
	bool encrypt;
	const char *recipients[SEALED_SLOTS_MAX];
	size_t n_recipients;
	struct key_source new; /* of FILE */
};

struct export_sink {
	int fd;
	uint64_t written;
	int error;		      /* of writing to fd: then it is not the image's fault */
	struct sealed_writer *sealed; /* NULL: not encrypted */
};

static int export_write(void *ctx, const void *buf, size_t len)
{
	struct export_sink *s = ctx;
	const int r = io_write_all(s->fd, buf, len);

	s->written += len;
	if (r < 0 && !s->error)
		s->error = r;
	return r;
}

/* What is to be encrypted on its way there. */
static int export_seal(void *ctx, const void *buf, size_t len)
{
	struct export_sink *s = ctx;

	return sealed_writer_write(s->sealed, buf, len);
}

struct export_view {
	struct render_bar bar;
	uint64_t disk_size;
};

static void export_progress(void *ctx, uint64_t disk_bytes, uint64_t written)
{
	struct export_view *v = ctx;
	struct render_progress p = { .phase = "export", .done = disk_bytes, .total = v->disk_size };

	(void)written;
	render_bar_update(&v->bar, &p);
}

static int export_to(const struct export_args *a, const struct image_file *f,
		     struct export_sink *sink, struct err *e)
{
	const struct image_sink out = { sink->sealed ? export_seal : export_write, sink };
	struct export_view view = { .disk_size = f->manifest->disk_size };
	const struct repo_export x = { .reader = f->reader,
				       .sink = &out,
				       .cancel = verb_catch_signals(),
				       .progress = export_progress,
				       .progress_ctx = &view };
	int r;

	render_bar_begin(&view.bar, a->quiet || arg_json ? RENDER_BAR_NONE : RENDER_BAR_AUTO);
	r = repo_export_run(&x, e);
	render_bar_end(&view.bar);
	if (r >= 0 && sink->sealed) {
		r = sealed_writer_finish(sink->sealed);
		if (r < 0)
			err_set_errno(e, r, "cannot write the encrypted image");
	}
	if (r < 0 && sink->error) {
		return err_set_errno(e, sink->error, "cannot write %s",
				     strcmp(a->path, "-") ? a->path : "to standard output");
	}
	if (r < 0)
		err_prefix(e, "%s", a->image);
	return MIN(r, 0);
}

static int export_encrypt(const struct export_args *a, struct export_sink *sink, struct err *e)
{
	_cleanup_(key_source_readers_done) struct key_source_readers readers = { 0 };
	const struct image_sink out = { export_write, sink };
	struct sealed_head *head = NULL;
	int r;

	r = key_source_readers(&a->new, a->recipients, a->n_recipients, &readers, e);
	if (r >= 0)
		r = sealed_head_new(readers.keys, readers.n, SEALED_SHIFT, &head, e);
	if (r < 0)
		return r;
	return sealed_writer_new(head, &out, &sink->sealed) < 0 ? err_oom(e) : 0;
}

static void export_sink_done(struct export_sink *s)
{
	sealed_writer_free(s->sealed);
}

/* To stderr when the image went to stdout. */
static int export_print(const struct export_args *a, const struct image_file *f, uint64_t written,
			struct err *e)
{
	FILE *out = strcmp(a->path, "-") ? stdout : stderr;
	char name[REPO_IMAGE_NAME_MAX], path[1024], size[RENDER_MAX];
	json_t *o;

	if (!arg_json) {
		if (!a->quiet) {
			fprintf(out, "exported %s: %s written to %s\n",
				repo_image_name(f->image, name), render_size(written, size),
				render_safe(a->path, path, sizeof(path)));
		}
		return 0;
	}
	o = json_pack("{s:o, s:I}", "output", render_json_string(a->path), "written",
		      (json_int_t)written);
	if (image_file_to_json(f, o) < 0) {
		json_decref(o);
		return err_oom(e);
	}
	return render_json(o, out) < 0 ? err_set(e, -EIO, "cannot print the result") : 0;
}

static int export_run(const struct export_args *a, struct err *e)
{
	_cleanup_(image_file_done) struct image_file f = IMAGE_FILE_NONE;
	_cleanup_(newfile_freep) struct newfile *file = NULL;
	const bool to_stdout = !strcmp(a->path, "-");
	_cleanup_(export_sink_done) struct export_sink sink = { .fd = STDOUT_FILENO };
	int r;

	r = repo_arg_require(e);
	arg_repo.explicit = true;
	if (r >= 0)
		r = image_file_open(a->image, true, &f, e);
	if (r >= 0 && !to_stdout) {
		r = newfile_open(a->path, 0600, a->force, &file, e);
		if (r == -EEXIST && !a->force)
			err_set(e, r, "%s exists already; --force replaces it", a->path);
		if (r >= 0)
			sink.fd = file->fd;
	}
	if (r >= 0 && a->encrypt)
		r = export_encrypt(a, &sink, e);
	if (r >= 0)
		r = export_to(a, &f, &sink, e);
	if (r >= 0 && file)
		r = newfile_publish(file, e);
	return r < 0 ? r : export_print(a, &f, sink.written, e);
}

/* 0, or -EINVAL after telling the user. */
static int export_set(struct export_args *a, int option)
{
	uint64_t fd;

	switch (option) {
	case 'q':
		a->quiet = true;
		return 0;
	case OPTION_ENCRYPT:
		a->encrypt = true;
		return 0;
	case OPTION_RECIPIENT:
		if (a->n_recipients == SEALED_SLOTS_MAX - 1) {
			verb_usage("export", "more than %d recipients", SEALED_SLOTS_MAX - 1);
			return -EINVAL;
		}
		a->recipients[a->n_recipients++] = optarg;
		return 0;
	case OPTION_NEW_FILE:
		a->new.passphrase_file = optarg;
		return 0;
	case OPTION_NEW_FD:
		if (verb_parse_u64("export", "--new-passphrase-fd", optarg, 0, INT_MAX, &fd) < 0)
			return -EINVAL;
		a->new.passphrase_fd = (int)fd;
		return 0;
	default:
		a->force = true;
		return 0;
	}
}

int verb_export(int argc, char **argv)
{
	static const struct option options[] = {
		{ "force", no_argument, NULL, OPTION_FORCE },
		{ "quiet", no_argument, NULL, 'q' },
		{ "encrypt", no_argument, NULL, OPTION_ENCRYPT },
		{ "recipient", required_argument, NULL, OPTION_RECIPIENT },
		{ "new-passphrase-file", required_argument, NULL, OPTION_NEW_FILE },
		{ "new-passphrase-fd", required_argument, NULL, OPTION_NEW_FD },
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	struct export_args a = { .new = KEY_SOURCE_NONE };
	struct err e = { 0 };
	int c, code;

	while ((c = verb_getopt(argc, argv, "q", options, export_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (export_set(&a, c) < 0)
			return VERB_USAGE;
	}
	if (argc - optind != 2)
		return verb_usage("export", "one image and one file, please");
	if (!a.encrypt && (a.n_recipients || key_source_given_by_hand(&a.new)))
		return verb_usage("export", "--recipient and a new passphrase are for --encrypt");
	a.image = argv[optind];
	a.path = argv[optind + 1];
	return export_run(&a, &e) < 0 ? verb_fail("export", &e) : VERB_OK;
}
