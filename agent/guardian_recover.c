/* SPDX-License-Identifier: GPL-2.0-or-later */
/* guardian_recover - the part of guardian_page.h that reads mountinfo: which file systems a page is of, and those that nobody will thaw. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

#include <libmount/libmount.h>

#include "agent/guardian_page.h"
#include "agent/run_dir.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

static void table_freep(struct libmnt_table **tb)
{
	mnt_unref_table(*tb);
}

static void iter_freep(struct libmnt_iter **it)
{
	mnt_free_iter(*it);
}

/* ---- which file systems ---------------------------------------------------------------------------- */

static int mount_id_of(int fd)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &sx) < 0)
		return -errno;
	return sx.stx_mask & STATX_MNT_ID ? (int)sx.stx_mnt_id : -EOPNOTSUPP;
}

/* Not by fstat(): btrfs shows another number for each subvolume. 0: it is mounted no more. */
static dev_t device_of(struct libmnt_table *tb, struct libmnt_iter *it, int id)
{
	struct libmnt_fs *fs;

	mnt_reset_iter(it, MNT_ITER_FORWARD);
	while (mnt_table_next_fs(tb, it, &fs) == 0) {
		if (mnt_fs_get_id(fs) == id)
			return mnt_fs_get_devno(fs);
	}
	return 0;
}

int guardian_page_name(struct guardian_page *p, const int *fds, uint32_t count)
{
	_cleanup_(table_freep) struct libmnt_table *tb = mnt_new_table();
	_cleanup_(iter_freep) struct libmnt_iter *it = mnt_new_iter(MNT_ITER_FORWARD);
	int r;

	if (!tb || !it)
		return -ENOMEM;
	r = mnt_table_parse_file(tb, "/proc/self/mountinfo");
	if (r)
		return r < 0 ? r : -EIO;
	/* in this order: one that is killed here has frozen nothing, and its page says so */
	p->mounts = 0;
	for (uint32_t i = 0; i < count; i++) {
		const int id = mount_id_of(fds[i]);

		p->device[i] = id < 0 ? 0 : device_of(tb, it, id);
		atomic_store(&p->state[i], GUARDIAN_IDLE);
	}
	p->mounts = count;
	return 0;
}

/* ---- left behind ------------------------------------------------------------------------------------- */

/* By any of its mounts that can be reached. 1: thawed; 0: it did not stand still, or is gone. */
static int device_thaw(struct libmnt_table *tb, struct libmnt_iter *it, dev_t device)
{
	struct libmnt_fs *fs;
	int r = 0;

	mnt_reset_iter(it, MNT_ITER_FORWARD);
	while (mnt_table_next_fs(tb, it, &fs) == 0) {
		_cleanup_close_ int fd = -EBADF;

		if (mnt_fs_get_devno(fs) != device)
			continue;
		fd = open(mnt_fs_get_target(fs), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (fd < 0 || mount_id_of(fd) != mnt_fs_get_id(fs)) {
			r = -ENOENT;
			continue;
		}
		if (ioctl(fd, FITHAW, 0) == 0)
			return 1;
		return errno == EINVAL ? 0 : -errno;
	}
	return r;
}

static int page_thaw(const struct guardian_page *p)
{
	_cleanup_(table_freep) struct libmnt_table *tb = mnt_new_table();
	_cleanup_(iter_freep) struct libmnt_iter *it = mnt_new_iter(MNT_ITER_FORWARD);
	int found = 0, bad = 0;

	if (!tb || !it)
		return -ENOMEM;
	if (mnt_table_parse_file(tb, "/proc/self/mountinfo"))
		return -EIO;

	for (uint32_t i = 0; i < p->mounts; i++) {
		const int state = atomic_load(&p->state[i]);
		int r;

		if ((state != GUARDIAN_FROZEN && state != GUARDIAN_FREEZING) || !p->device[i])
			continue;
		r = device_thaw(tb, it, p->device[i]);
		found += r > 0;
		bad = MIN(bad, r);
	}
	return bad < 0 ? bad : found;
}

/* 0 too where somebody else deals with it. */
static int page_settle(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct guardian_page p;
	struct stat st;
	int r = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? 0 : -errno;
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return 0;
	/* one of another version, or of one that was killed before it wrote anything, says nothing */
	if (io_pread_all(fd, &p, sizeof(p), 0) == 0 &&
	    !memcmp(p.magic, GUARDIAN_PAGE_MAGIC, sizeof(p.magic)) &&
	    p.mounts <= GUARDIAN_MOUNTS_MAX)
		r = page_thaw(&p);
	/* where it did not succeed the next start tries again */
	if (r >= 0)
		unlink(path);
	return r;
}

int guardian_page_recover(void)
{
	_cleanup_dir_ DIR *d = opendir(RUN_DIR);
	const struct dirent *entry;
	int found = 0, bad = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	while ((entry = readdir(d))) {
		char path[sizeof(RUN_DIR) + NAME_MAX + 1];
		int r;

		if (strncmp(entry->d_name, GUARDIAN_PAGE_PREFIX, strlen(GUARDIAN_PAGE_PREFIX)) != 0)
			continue;
		snprintf(path, sizeof(path), RUN_DIR "/%s", entry->d_name);
		r = page_settle(path);
		found += MAX(r, 0);
		bad = MIN(bad, r);
	}
	return bad < 0 ? bad : found;
}
