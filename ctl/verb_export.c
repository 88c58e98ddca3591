/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
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

static const char export_help[] =
	"Usage: ambroctl export [OPTION]… IMAGE FILE|-\n"
	"Write an image of a repository as a single file, which 'zstd -dc' turns into the disk. Frames are copied\n"
	"as they are, nothing is compressed again.\n"
	"\n" VERB_REPO_HELP VERB_HOST_HELP "      --force               replace FILE\n"
	"  -q, --quiet               no progress\n"
	"      --json                the result is one object (stderr when the image goes to stdout)\n"
	"  -h, --help                this text\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 3 the image is damaged; 6 FILE exists; 7 not\n"
	"allowed; 130 interrupted.\n";

enum {
	OPTION_FORCE = VERB_OPTION_OWN,
};

struct export_args {
	const char *image, *path;
	bool force, quiet;
};

struct export_sink {
	int fd;
	uint64_t written;
};

static int export_write(void *ctx, const void *buf, size_t len)
{
	struct export_sink *s = ctx;

	s->written += len;
	return io_write_all(s->fd, buf, len);
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
	const struct image_sink out = { export_write, sink };
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
	return r < 0 ? err_prefix(e, "%s", a->image) : 0;
}

static int export_run(const struct export_args *a, struct err *e)
{
	_cleanup_(image_file_done) struct image_file f = IMAGE_FILE_NONE;
	_cleanup_(newfile_freep) struct newfile *file = NULL;
	const bool to_stdout = !strcmp(a->path, "-");
	struct export_sink sink = { .fd = STDOUT_FILENO };
	char name[REPO_IMAGE_NAME_MAX];
	int r;

	r = repo_arg_require(e);
	arg_repo.explicit = true;
	if (r >= 0)
		r = image_file_open(a->image, &f, e);
	if (r >= 0 && !to_stdout) {
		r = newfile_open(a->path, 0600, a->force, &file, e);
		if (r == -EEXIST && !a->force)
			err_set(e, r, "%s exists already; --force replaces it", a->path);
		if (r >= 0)
			sink.fd = file->fd;
	}
	if (r >= 0)
		r = export_to(a, &f, &sink, e);
	if (r >= 0 && file)
		r = newfile_publish(file, e);
	if (r < 0 || !arg_json)
		return r;
	return render_json(json_pack("{s:s, s:o, s:I}", "name", repo_image_name(f.image, name),
				     "output", render_json_string(a->path), "written",
				     (json_int_t)sink.written),
			   to_stdout ? stderr : stdout);
}

int verb_export(int argc, char **argv)
{
	static const struct option options[] = {
		{ "force", no_argument, NULL, OPTION_FORCE },
		{ "quiet", no_argument, NULL, 'q' },
		VERB_HOST_OPTION,
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	struct export_args a = { 0 };
	struct err e = { 0 };
	int c, code;

	while ((c = verb_getopt(argc, argv, "q", options, export_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (c == 'q') {
			a.quiet = true;
		} else {
			a.force = true;
		}
	}
	if (argc - optind != 2)
		return verb_usage("export", "one image and one file, please");
	a.image = argv[optind];
	a.path = argv[optind + 1];
	return export_run(&a, &e) < 0 ? verb_fail("export", &e) : VERB_OK;
}
