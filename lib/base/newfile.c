/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/base/newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEWFILE_TRIES 16

void newfile_free(struct newfile *f)
{
	if (!f)
		return;
	if (f->temp)
		unlinkat(f->dir_fd, f->temp, 0);
	close_fd(f->fd);
	close_fd(f->dir_fd);
	free(f->temp);
	free(f->name);
	free(f);
}

/* May @path be written? *final, a copy of it, becomes what it is in the end when it is a link. */
static int newfile_check(const char *path, bool replace, char **final, struct err *e)
{
	struct stat st;
	char *real;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_set_errno(e, -errno, "%s", path);
	/* a link that leads nowhere is followed to nothing */
	real = realpath(path, NULL);
	if (!real && (replace || errno != ENOENT))
		return err_set_errno(e, -errno, "%s", path);
	if (real) {
		free(*final);
		*final = real;
		if (stat(real, &st) < 0 || !S_ISREG(st.st_mode))
			return err_set(e, -EISDIR, "%s exists and is not a regular file", path);
	}
	return replace ? 0 : err_set(e, -EEXIST, "%s exists already", path);
}

/* Split @final into the directory, opened, and the name in it. */
static int newfile_place(struct newfile *f, char *final, struct err *e)
{
	char *slash = strrchr(final, '/');
	const char *dir = ".";

	f->name = strdup(slash ? slash + 1 : final);
	if (!f->name)
		return err_oom(e);
	if (!*f->name || !strcmp(f->name, ".") || !strcmp(f->name, ".."))
		return err_set(e, -EISDIR, "%s is not a file's name", final);
	if (slash) {
		*slash = '\0';
		dir = slash == final ? "/" : final;
	}
	f->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->dir_fd < 0)
		return err_set_errno(e, -errno, "directory %s", dir);
	return 0;
}

/* ".NAME.XXXXXXXX.part", NAME cut so that it fits into a name. */
static int newfile_temp_name(const struct newfile *f, char **ret)
{
	unsigned int random = 0;

	/* a short or failed read only makes a collision likelier, and those are tried again */
	if (getrandom(&random, sizeof(random), 0) < 0)
		random = (unsigned int)getpid();
	return asprintf(ret, ".%.*s.%08x.part", NAME_MAX - 16, f->name, random) < 0 ? -ENOMEM : 0;
}

static int newfile_create(struct newfile *f, mode_t mode)
{
	f->fd = openat(f->dir_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, mode);
	/* kernels and file systems that cannot say so in three ways */
	if (f->fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return f->fd < 0 ? -errno : 0;
	for (int i = 0; i < NEWFILE_TRIES; i++) {
		_cleanup_free_ char *temp = NULL;

		if (newfile_temp_name(f, &temp) < 0)
			return -ENOMEM;
		f->fd = openat(f->dir_fd, temp,
			       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
		if (f->fd >= 0) {
			f->temp = TAKE_PTR(temp);
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

int newfile_open(const char *path, mode_t mode, bool replace, struct newfile **ret, struct err *e)
{
	_cleanup_(newfile_freep) struct newfile *f = NULL;
	_cleanup_free_ char *final = strdup(path);
	int r;

	if (!final)
		return err_oom(e);
	r = newfile_check(path, replace, &final, e);
	if (r < 0)
		return r;
	f = malloc(sizeof(*f));
	if (!f)
		return err_oom(e);
	*f = (struct newfile){ .fd = -EBADF, .dir_fd = -EBADF, .replace = replace };
	r = newfile_place(f, final, e);
	if (r < 0)
		return r;
	r = newfile_create(f, mode);
	if (r < 0)
		return err_set_errno(e, r, "cannot create %s", path);
	*ret = TAKE_PTR(f);
	return 0;
}

/* linkat() of what has no name yet. AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH. */
static int newfile_link(const struct newfile *f, const char *name)
{
	char self[64];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", f->fd);
	return linkat(AT_FDCWD, self, f->dir_fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* A link never replaces, so what replaces goes by a temporary name and rename(). */
static int newfile_name(struct newfile *f)
{
	int r = 0;

	if (!f->temp && !f->replace)
		return newfile_link(f, f->name);
	for (int i = 0; !f->temp && i < NEWFILE_TRIES; i++) {
		_cleanup_free_ char *temp = NULL;

		if (newfile_temp_name(f, &temp) < 0)
			return -ENOMEM;
		r = newfile_link(f, temp);
		if (r == 0) {
			f->temp = TAKE_PTR(temp);
		} else if (r != -EEXIST) {
			return r;
		}
	}
	if (!f->temp)
		return r;
	r = renameat2(f->dir_fd, f->temp, f->dir_fd, f->name, f->replace ? 0 : RENAME_NOREPLACE);
	/* FAT and NFS know no RENAME_NOREPLACE: looking first is all there is */
	if (r < 0 && errno == EINVAL && !f->replace &&
	    faccessat(f->dir_fd, f->name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		r = renameat(f->dir_fd, f->temp, f->dir_fd, f->name);
	if (r < 0)
		return -errno;
	free(f->temp);
	f->temp = NULL;
	return 0;
}

int newfile_publish(struct newfile *f, struct err *e)
{
	int r;

	if (fsync(f->fd) < 0)
		return err_set_errno(e, -errno, "cannot flush %s", f->name);
	r = newfile_name(f);
	if (r < 0)
		return err_set_errno(e, r, "cannot give %s its name", f->name);
	/* some network file systems cannot flush a directory */
	if (fsync(f->dir_fd) < 0 && errno != EINVAL)
		return err_set_errno(e, -errno, "cannot flush the directory of %s", f->name);
	return 0;
}
