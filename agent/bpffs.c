/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/bpffs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#include "lib/base/cleanup.h"

bool bpffs_mounted(void)
{
	struct statfs fs;

	return statfs(BPFFS_MOUNT, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

static int bpffs_mount(struct err *e)
{
	if (bpffs_mounted())
		return 0;
	if (mount("bpf", BPFFS_MOUNT, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") == 0)
		return 0;
	if (errno == EBUSY && bpffs_mounted())
		return 0; /* somebody else just did */
	return err_set_errno(e, -errno, "cannot mount a bpf file system on %s", BPFFS_MOUNT);
}

int bpffs_lock(int *ret_fd, struct err *e)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = bpffs_mount(e);
	if (r < 0)
		return r;
	if (mkdir(BPFFS_ROOT, 0700) < 0 && errno != EEXIST)
		return err_set_errno(e, -errno, "cannot make %s", BPFFS_ROOT);
	fd = open(BPFFS_ROOT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set_errno(e, -errno, "cannot open %s", BPFFS_ROOT);
	do {
		r = flock(fd, LOCK_EX);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return err_set_errno(e, -errno, "cannot lock %s", BPFFS_ROOT);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int bpffs_empty(int dir_fd)
{
	_cleanup_dir_ DIR *dir = fdopendir(dir_fd);
	const struct dirent *d;

	if (!dir) {
		int r = -errno;

		close_fd(dir_fd);
		return r;
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else reads this DIR */
	while ((d = readdir(dir))) {
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (unlinkat(dirfd(dir), d->d_name, 0) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

int bpffs_remove(int root_fd, const char *name, struct err *e)
{
	int fd, r;

	fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	r = fd < 0 ? -errno : bpffs_empty(fd);
	if (r == 0 && unlinkat(root_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	if (r < 0)
		return err_set_errno(e, r, "cannot remove the pins in %s/%s", BPFFS_ROOT, name);
	return 0;
}
