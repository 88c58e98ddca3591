/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/capture_output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

void capture_output_done(struct capture_output *o)
{
	if (o->owned)
		close_fd(o->fd);
	newfile_free(o->file);
	*o = (struct capture_output){ .fd = -EBADF };
}

int capture_output_open_special(const char *path, struct capture_output *o, struct err *e)
{
	struct stat st;

	if (!strcmp(path, "-") || stat(path, &st) < 0)
		return 0;
	if (S_ISBLK(st.st_mode)) {
		return err_set(e, -EEXIST,
			       "%s is a block device; an image is a file (or pipe it: -o -)", path);
	}
	if (!S_ISFIFO(st.st_mode) && !(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)))
		return 0;
	o->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (o->fd < 0)
		return err_set_errno(e, -errno, "cannot open %s", path);
	o->owned = true;
	return 1;
}

/* --force is no wish to lose the one thing that is to be kept. */
static bool output_would_replace(const char *path, const char *source_path)
{
	struct stat source, output;

	return stat(source_path, &source) == 0 && stat(path, &output) == 0 &&
	       source.st_dev == output.st_dev && source.st_ino == output.st_ino;
}

int capture_output_open(const char *path, const char *source, bool force, struct capture_output *o,
			struct err *e)
{
	int r;

	if (!strcmp(path, "-")) {
		if (isatty(STDOUT_FILENO)) {
			return err_set(e, -EINVAL,
				       "stdout is a terminal; an image wants a file or a pipe");
		}
		o->fd = STDOUT_FILENO;
		o->is_stdout = true;
		return 0;
	}
	if (o->owned)
		return 0;
	if (output_would_replace(path, source))
		return err_set(e, -EBUSY, "%s is the source itself", path);
	r = newfile_open(path, 0600, force, &o->file, e);
	if (r == -EEXIST && !force)
		return err_set(e, r, "%s exists already; --force replaces it", path);
	if (r < 0)
		return r;
	o->fd = o->file->fd;
	return 0;
}
