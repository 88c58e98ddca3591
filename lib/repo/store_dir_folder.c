/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The folders of a store in a directory; what is promised about them is at the head of store_dir.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/repo/store_dir_private.h"

int (*store_dir_step)(const char *step);

int store_dir_ask(const char *step)
{
	return store_dir_step ? store_dir_step(step) : 0;
}

int folder_at(int above, const char *name)
{
	int fd = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A folder in one, made when it is not there if @make. Returns a descriptor. */
static int folder_enter(int above, const char *name, bool make)
{
	int fd = folder_at(above, name), r;

	if (fd != -ENOENT || !make)
		return fd;
	r = store_dir_ask("folder");
	if (r < 0)
		return r;
	if (mkdirat(above, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	return folder_at(above, name);
}

int folder_open(const struct store_dir *d, const char *name, bool make, const char **last)
{
	_cleanup_close_ int fd = folder_at(d->fd, ".");
	const char *slash;

	if (fd < 0)
		return fd;
	for (; (slash = strchr(name, '/')); name = slash + 1) {
		char part[STORE_NAME_MAX + 1];
		int below;

		snprintf(part, sizeof(part), "%.*s", (int)(slash - name), name);
		below = folder_enter(fd, part, make);
		if (below < 0)
			return below;
		close_fd(fd);
		fd = below;
	}
	*last = name;
	return TAKE_FD(fd);
}

int folder_flush(const struct store_dir *d, int fd)
{
	int r;

	if (!d->sync)
		return 0;
	r = store_dir_ask("flush-folder");
	if (r < 0)
		return r;
	/* some network file systems cannot flush a directory, and on a read-only one there is nothing to */
	return fsync(fd) < 0 && errno != EINVAL && errno != EROFS ? -errno : 0;
}

int folder_settle(const struct store_dir *d, const char *name)
{
	char path[STORE_NAME_MAX + 1];
	char *slash;

	snprintf(path, sizeof(path), "%s", name);
	do {
		const char *last;
		_cleanup_close_ int fd = folder_open(d, path, false, &last);
		int r = fd < 0 ? fd : folder_flush(d, fd);

		if (r < 0)
			return r;
		slash = strrchr(path, '/');
		if (slash)
			*slash = '\0';
	} while (slash);
	return 0;
}

int folder_size(int folder, const char *last, uint64_t *ret)
{
	struct stat st;

	if (fstatat(folder, last, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EISDIR;
	*ret = (uint64_t)st.st_size;
	return 0;
}
