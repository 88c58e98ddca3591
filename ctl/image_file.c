/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/image_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "lib/base/hex.h"
#include "lib/repo/repo_source.h"

static int image_file_open_in_repo(struct image_file *f, bool chunks, struct err *e)
{
	int r;

	r = repo_arg_open(&arg_repo, chunks ? REPO_ARG_CHUNKS : REPO_ARG_IMAGES, &f->repo, e);
	if (r < 0)
		return r;
	f->fd = open(arg_repo.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->fd < 0)
		return err_set_errno(e, -errno, "cannot open %s", arg_repo.path);
	r = repo_images_load(f->repo, false, &f->images, e);
	if (r >= 0)
		r = repo_images_select(&f->images, f->path, arg_repo.host, &f->image, e);
	if (r == -ENOENT && f->images.damaged) {
		return err_set(e, -EBADMSG,
			       "no image %.100s, but %zu image%s damaged; the first: %.200s",
			       f->path, f->images.damaged, f->images.damaged == 1 ? " is" : "s are",
			       f->images.first_damage.text);
	}
	if (r >= 0)
		r = repo_source_open(f->repo, f->image, &f->reader, e);
	return r;
}

/* Does the user mean an image of the repository? */
static bool image_file_in_repo(const char *path)
{
	return arg_repo.path && (arg_repo.explicit || access(path, F_OK) < 0);
}

/* 1: it is encrypted, and @f->sealed gives its plain bytes; 0: it is not. */
static int image_file_unseal(struct image_file *f, struct err *e)
{
	_cleanup_(sealed_head_freep) struct sealed_head *head = NULL;
	int r;

	r = sealed_reader_head(f->fd, &head, e);
	if (r > 0) {
		r = key_source_unlock_file(&arg_repo.keys, f->path, head, e);
		if (r == 0)
			r = sealed_reader_new(f->fd, TAKE_PTR(head), &f->sealed, e);
		return r < 0 ? r : 1;
	}
	if (r == 0 && key_source_given_by_hand(&arg_repo.keys)) {
		return err_set(e, -EINVAL,
			       "the image is not encrypted, but a key was given for it: was it "
			       "replaced?");
	}
	return r;
}

static int image_file_open_file(struct image_file *f, struct err *e)
{
	struct image_io io;
	struct stat st;
	int r;

	f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0)
		return err_set_errno(e, -errno, "cannot open %s", f->path);
	if (fstat(f->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -ESPIPE, "%s is not a regular file", f->path);
	r = image_file_unseal(f, e);
	if (r > 0) {
		io = sealed_reader_io(f->sealed);
		r = image_reader_open_io(&io, &f->reader, e);
	} else if (r == 0) {
		r = image_reader_open(f->fd, &f->reader, e);
	}
	if (r < 0)
		err_prefix(e, "%s", f->path);
	return r;
}

int image_file_open(const char *path, bool chunks, struct image_file *ret, struct err *e)
{
	struct image_file f = { .path = path, .fd = -EBADF };
	int r;

	if (strcmp(path, "-") == 0) {
		return err_set(e, -ESPIPE,
			       "an image cannot be read from a pipe: its index is at its end; "
			       "save it to a file first (or use zstd -dc)");
	}
	r = image_file_in_repo(path) ? image_file_open_in_repo(&f, chunks, e)
				     : image_file_open_file(&f, e);
	if (r < 0) {
		image_file_done(&f);
		return r;
	}
	f.manifest = image_reader_manifest(f.reader);
	*ret = f;
	return 0;
}

void image_file_done(struct image_file *f)
{
	image_reader_free(f->reader);
	f->reader = NULL;
	sealed_reader_free(f->sealed);
	f->sealed = NULL;
	f->image = NULL;
	repo_images_done(&f->images);
	repo_free(f->repo);
	f->repo = NULL;
	f->fd = close_fd(f->fd);
}

const char *image_file_name(const struct image_file *f, char buf[REPO_IMAGE_NAME_MAX])
{
	return f->image ? repo_image_name(f->image, buf) : f->path;
}

int image_file_to_json(const struct image_file *f, json_t *o)
{
	char name[REPO_IMAGE_NAME_MAX], hex[2 * REPO_NAME_HASH + 1];
	int r;

	/* each of these fails when @o is NULL */
	r = json_object_set_new(o, "image", render_json_string(image_file_name(f, name)));
	if (r == 0 && f->image) {
		hex_encode(f->image->hash, sizeof(f->image->hash), hex);
		r = json_object_set_new(o, "hash", json_string(hex));
	}
	return r < 0 ? -ENOMEM : 0;
}

char *image_file_time(uint64_t realtime_ns, char *buf, size_t size)
{
	time_t t = (time_t)(realtime_ns / 1000000000u);
	struct tm tm;

	if (!realtime_ns || !gmtime_r(&t, &tm) ||
	    !strftime(buf, size, "%Y-%m-%d %H:%M:%S UTC", &tm))
		snprintf(buf, size, "unknown");
	return buf;
}

char *image_file_ratio(uint64_t disk_bytes, uint64_t stored_bytes, char *buf, size_t size)
{
	if (stored_bytes) {
		snprintf(buf, size, "%.1f : 1", (double)disk_bytes / (double)stored_bytes);
	} else {
		snprintf(buf, size, "-");
	}
	return buf;
}
