/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/file_unsealer.h"
#include "ctl/import_args.h"
#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/verb.h"
#include "lib/base/hex.h"
#include "lib/repo/ingest.h"

static const char import_help[] =
	"Usage: ambroctl import [OPTION]… FILE|-\n"
	"Put an image file into a repository. Frames are copied as they are; every chunk is decoded and\n"
	"compared with its id on the way. The file must have the repository's chunk size.\n"
	"\n" VERB_REPO_HELP VERB_HOST_HELP "      --image-key-file F, --image-passphrase-file F\n"
	"                            of FILE, when it is encrypted; without: those of the repository, or a prompt\n"
	"      --disk NAME           under this disk's name (default: as the image says; --host too)\n"
	"      --tag TAG             a tag; may be repeated\n"
	"  -q, --quiet               no progress and no summary\n"
	"      --json                the result is one object\n"
	"  -h, --help                this text\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 3 the file is damaged, or no image; 7 not allowed;\n"
	"130 interrupted.\n";

enum {
	OPTION_DISK = VERB_OPTION_OWN,
	OPTION_TAG,
	OPTION_KEY,
	OPTION_PASSPHRASE,
};

struct import_args {
	const char *path, *disk;
	struct tag_list tags;
	struct key_source keys; /* of the image */
	bool quiet;
};

static void import_progress(void *ctx, uint64_t stream_bytes, uint64_t new_bytes)
{
	struct render_progress p = { .phase = "import", .done = stream_bytes };
	char extra[RENDER_MAX + 8], size[RENDER_MAX];

	snprintf(extra, sizeof(extra), "%s new", render_size(new_bytes, size));
	p.extra = extra;
	render_bar_update(ctx, &p);
}

static int import_print(const struct repo_image *i, const struct ingest_result *r)
{
	char name[REPO_IMAGE_NAME_MAX], hash[2 * REPO_NAME_HASH + 1];
	char a[RENDER_MAX], b[RENDER_MAX];

	repo_image_name(i, name);
	if (arg_json) {
		return render_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "image", name,
					     "hash", hex_encode(i->hash, REPO_NAME_HASH, hash),
					     "stream_bytes", (json_int_t)r->stream_bytes,
					     "new_bytes", (json_int_t)r->new_bytes, "chunks",
					     (json_int_t)r->chunks, "new_chunks",
					     (json_int_t)r->new_chunks),
				   stdout);
	}
	printf("imported %s: %s read, %s new\n", name, render_size(r->stream_bytes, a),
	       render_size(r->new_bytes, b));
	return 0;
}

static int import_open(const char *path, struct err *e)
{
	int fd;

	if (!strcmp(path, "-"))
		return STDIN_FILENO;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_set_errno(e, -errno, "cannot open %s", path) : fd;
}

/* What is put into the repository is what was encrypted, to the last byte. */
static int import_gate(void *ctx)
{
	return file_unsealer_finish(ctx, NULL);
}

/* The image's own keys, or those that opened the repository; a descriptor was read for that, and is empty. */
static struct key_source import_keys(const struct import_args *a)
{
	struct key_source k = key_source_given_by_hand(&a->keys) ? a->keys : arg_repo.keys;

	k.passphrase_fd = -1;
	k.of = "image-";
	return k;
}

static int import_stream(const struct import_args *a, struct ingest_settings *s, int fd,
			 struct repo_image **image, struct ingest_result *result, struct err *e)
{
	_cleanup_(file_unsealer_done) struct file_unsealer u = { .fd = -EBADF, .from = -EBADF };
	const struct key_source keys = import_keys(a);
	struct render_bar bar;
	struct err why;
	int n;

	n = file_unsealer_begin(&u, fd, a->path, &keys, s->cancel, e);
	if (n == -ENOKEY && !key_source_given_by_hand(&a->keys) && key_source_given(&keys)) {
		why = *e;
		return err_set(e, n, "%s (by the repository's key; it may need --image-key-file)",
			       why.text);
	}
	if (n < 0)
		return n;
	if (!u.head && key_source_given_by_hand(&a->keys)) {
		return err_set(e, -EINVAL,
			       "the image is not encrypted, but a key was given for it: was it "
			       "replaced?");
	}
	s->fd = u.fd;
	s->before_commit = import_gate;
	s->before_commit_ctx = &u;
	render_bar_begin(&bar, a->quiet || arg_json ? RENDER_BAR_NONE : RENDER_BAR_AUTO);
	s->progress_ctx = &bar;
	n = ingest_run(s, image, result, e);
	render_bar_end(&bar);
	/* why there was no more to read, if that is what it says */
	if (n < 0 && file_unsealer_failed(&u, e))
		return e->code;
	return n;
}

static int import_run(const struct import_args *a, struct err *e)
{
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct ingest_result result = { 0 };
	struct ingest_settings s = { .host = arg_repo.host,
				     .disk = a->disk,
				     .tags = a->tags.items,
				     .check_chunks = true,
				     .grace_ns = REPO_GRACE_NS,
				     .cancel = verb_catch_signals(),
				     .progress = import_progress };
	int fd, n;

	n = repo_arg_require(e);
	if (n >= 0)
		n = repo_arg_open(&arg_repo, REPO_ARG_CHUNKS, &r, e);
	if (n < 0)
		return n;
	s.repo = r;
	fd = import_open(a->path, e);
	if (fd < 0)
		return fd;
	n = import_stream(a, &s, fd, &image, &result, e);
	if (fd != STDIN_FILENO)
		close_fd(fd);
	/* cut off: damaged like any other, as show and verify have it */
	if (n == -ENODATA)
		e->code = n = -EBADMSG;
	if (n < 0)
		return err_prefix(e, "%s", a->path), n;
	n = a->quiet ? 0 : import_print(image, &result);
	return n < 0 ? err_set_errno(e, n, "cannot print the result") : 0;
}

int verb_import(int argc, char **argv)
{
	static const struct option options[] = {
		{ "disk", required_argument, NULL, OPTION_DISK },
		{ "tag", required_argument, NULL, OPTION_TAG },
		{ "image-key-file", required_argument, NULL, OPTION_KEY },
		{ "image-passphrase-file", required_argument, NULL, OPTION_PASSPHRASE },
		{ "quiet", no_argument, NULL, 'q' },
		VERB_HOST_OPTION,
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	struct import_args a = { .keys = KEY_SOURCE_NONE };
	struct err e = { 0 };
	int c, code;

	while ((c = verb_getopt(argc, argv, "q", options, import_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (c == OPTION_DISK) {
			if (verb_check_name("import", "--disk", optarg) < 0)
				return VERB_USAGE;
			a.disk = optarg;
		} else if (c == 'q') {
			a.quiet = true;
		} else if (c == OPTION_KEY) {
			a.keys.key_file = optarg;
		} else if (c == OPTION_PASSPHRASE) {
			a.keys.passphrase_file = optarg;
		} else if (tag_list_add(&a.tags, "import", optarg) < 0) {
			return VERB_USAGE;
		}
	}
	if (argc - optind != 1)
		return verb_usage("import", "one image file, please");
	a.path = argv[optind];
	return import_run(&a, &e) < 0 ? verb_fail("import", &e) : VERB_OK;
}
