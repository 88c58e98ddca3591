/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/holder.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <linux/loop.h>

#include <libmount.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/layout/sysblock.h"

/* Stacks of more storeys than that are a loop of our own making. */
#define HOLDER_DEPTH_MAX 16
#define LOOP_PATH_MAX	 (NAME_MAX + 8)

static void table_free(struct libmnt_table **t)
{
	mnt_unref_table(*t);
}

static bool names_device(const char *source, dev_t device)
{
	struct stat st;

	return source && *source == '/' && stat(source, &st) == 0 && S_ISBLK(st.st_mode) &&
	       st.st_rdev == device;
}

/* Where @device is mounted, NULL: nowhere. The string lives as long as @mounts. */
static const char *mount_point_of(struct libmnt_table *mounts, dev_t device)
{
	struct libmnt_iter *it = mounts ? mnt_new_iter(MNT_ITER_FORWARD) : NULL;
	struct libmnt_fs *fs;
	const char *found = NULL;

	while (it && !found && mnt_table_next_fs(mounts, it, &fs) == 0) {
		/* btrfs mounts carry a number of their own, so the source's name is asked as well */
		if (mnt_fs_get_devno(fs) == device || names_device(mnt_fs_get_source(fs), device))
			found = mnt_fs_get_target(fs);
	}
	mnt_free_iter(it);
	return found;
}

static bool is_swap(dev_t device, const struct stat *file)
{
	_cleanup_(table_free) struct libmnt_table *swaps = mnt_new_table();
	struct libmnt_iter *it = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;
	struct stat st;
	bool found = false;

	if (swaps && it && mnt_table_parse_swaps(swaps, NULL) == 0) {
		while (!found && mnt_table_next_fs(swaps, it, &fs) == 0) {
			const char *source = mnt_fs_get_source(fs);

			if (!source || stat(source, &st) < 0)
				continue;
			found = file ? st.st_dev == file->st_dev && st.st_ino == file->st_ino
				     : S_ISBLK(st.st_mode) && st.st_rdev == device;
		}
	}
	mnt_free_iter(it);
	return found;
}

/* Is the loop device @name's backing @device, or @file when that is given? */
static bool loop_stands_on(const char *name, dev_t device, const struct stat *file)
{
	char path[PATH_MAX], backing[PATH_MAX];
	struct loop_info64 info;
	struct stat st;

	snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", name);
	if (io_read_line(path, backing, sizeof(backing)) < 0)
		return false;
	if (stat(backing, &st) == 0 &&
	    (file ? st.st_dev == file->st_dev && st.st_ino == file->st_ino
		  : S_ISBLK(st.st_mode) && st.st_rdev == device))
		return true;
	/* the path may be another mount namespace's: ask the device itself */
	snprintf(path, sizeof(path), "/dev/%s", name);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0)
		return false;
	return file ? info.lo_device == file->st_dev && info.lo_inode == file->st_ino
		    : info.lo_rdevice == device && device;
}

/* "/dev/loop3" into @buf when a loop device stands on it. */
static bool loop_on(dev_t device, const struct stat *file, char *buf, size_t size)
{
	_cleanup_dir_ DIR *d = opendir("/sys/block");
	struct dirent *de;

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	while (d && (de = readdir(d))) {
		if (strncmp(de->d_name, "loop", 4) == 0 &&
		    loop_stands_on(de->d_name, device, file)) {
			snprintf(buf, size, "/dev/%s", de->d_name);
			return true;
		}
	}
	return false;
}

#define NAME_ROOM 64

/* The kernel's name, or the number of what sysfs does not know. */
static const char *holder_name(dev_t device, char buf[static NAME_ROOM])
{
	if (sysblock_name(device, buf, NAME_ROOM) < 0)
		snprintf(buf, NAME_ROOM, "%u:%u", major(device), minor(device));
	return buf;
}

/* "dm-0 (vg-root), mounted on /": the first holder, the first of its holders, and so on. */
static void holder_describe(struct libmnt_table *mounts, dev_t device, char *text, size_t size)
{
	char name[NAME_ROOM], alias[128];
	const char *mount_point = NULL;
	dev_t holder;
	size_t n = 0;

	*text = '\0';
	for (unsigned int depth = 0; depth <= HOLDER_DEPTH_MAX && n < size && !mount_point;
	     depth++) {
		if (sysblock_links(device, "holders", &holder, 1) <= 0)
			return;
		mount_point = mount_point_of(mounts, holder);
		sysblock_text(holder, "dm/name", alias, sizeof(alias));
		n += (size_t)snprintf(text + n, size - n, "%s%s%s%s%s%s%s", n ? ", under " : "",
				      holder_name(holder, name), *alias ? " (" : "", alias,
				      *alias ? ")" : "", mount_point ? ", mounted on " : "",
				      mount_point ? mount_point : "");
		device = holder;
	}
}

static int holder_of_one(struct libmnt_table *mounts, dev_t device, const char *path, struct err *e)
{
	const char *mount_point = mount_point_of(mounts, device);
	char loop[LOOP_PATH_MAX], words[256];

	if (mount_point)
		return err_set(e, -EBUSY, "%s is mounted on %s", path, mount_point);
	if (is_swap(device, NULL))
		return err_set(e, -EBUSY, "%s is in use as swap", path);
	holder_describe(mounts, device, words, sizeof(words));
	if (*words)
		return err_set(e, -EBUSY, "%s is held by %s", path, words);
	if (loop_on(device, NULL, loop, sizeof(loop)))
		return err_set(e, -EBUSY, "%s is what %s stands on", path, loop);
	return 0;
}

int holder_of_device(dev_t device, const char *path, struct err *e)
{
	_cleanup_(table_free) struct libmnt_table *mounts =
		mnt_new_table_from_file("/proc/self/mountinfo");
	struct sysblock_part parts[SYSBLOCK_LINKS_MAX];
	char name[NAME_ROOM], part_path[NAME_ROOM + 8];
	int n, r;

	if (!mounts)
		return err_set(e, -EIO, "cannot read /proc/self/mountinfo to see what is in use");
	r = holder_of_one(mounts, device, path, e);
	if (r < 0)
		return r;
	n = sysblock_parts(device, parts);
	if (n < 0)
		return err_set_errno(e, n, "cannot read the partitions of %s from sysfs", path);
	for (int i = 0; i < n; i++) {
		snprintf(part_path, sizeof(part_path), "/dev/%s",
			 holder_name(parts[i].device, name));
		r = holder_of_one(mounts, parts[i].device, part_path, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int holder_of_file(int fd, const char *path, struct err *e)
{
	struct stat st;
	char loop[LOOP_PATH_MAX];

	if (fstat(fd, &st) < 0)
		return err_set_errno(e, -errno, "%s", path);
	if (loop_on(0, &st, loop, sizeof(loop)))
		return err_set(e, -EBUSY, "%s is what %s stands on", path, loop);
	if (is_swap(0, &st))
		return err_set(e, -EBUSY, "%s is in use as swap", path);
	return 0;
}

/* Has the process a descriptor of the device? */
static bool process_has(const char *pid, dev_t device)
{
	char path[64];
	struct dirent *de;
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	_cleanup_dir_ DIR *d = opendir(path);

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	while (d && (de = readdir(d))) {
		if (fstatat(dirfd(d), de->d_name, &st, 0) == 0 && S_ISBLK(st.st_mode) &&
		    st.st_rdev == device)
			return true;
	}
	return false;
}

char *holder_processes(dev_t device, char *buf, size_t size)
{
	_cleanup_dir_ DIR *d = opendir("/proc");
	char path[64], comm[32];
	struct dirent *de;
	size_t n = 0;

	*buf = '\0';
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	while (d && n < size / 2 && (de = readdir(d))) {
		if (!isdigit((unsigned char)de->d_name[0]) ||
		    strtol(de->d_name, NULL, 10) == getpid() || !process_has(de->d_name, device))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/comm", de->d_name);
		if (io_read_line(path, comm, sizeof(comm)) < 0)
			snprintf(comm, sizeof(comm), "?");
		n += (size_t)snprintf(buf + n, size - n, "%sprocess %.20s (%s)", n ? ", " : "",
				      de->d_name, comm);
	}
	return buf;
}

struct carrier {
	dev_t wanted;
	unsigned int depth;
};

static int carrier_visit(struct carrier *c, dev_t device);

static int carrier_visit_mount_of(struct carrier *c, int fd, const char *path)
{
	_cleanup_(table_free) struct libmnt_table *mounts = NULL;
	struct statx sx;
	struct stat st;
	struct libmnt_iter *it;
	struct libmnt_fs *fs;
	int r = 0;

	if (statx(fd, path, AT_EMPTY_PATH, STATX_MNT_ID, &sx) < 0)
		return 0;
	if (S_ISBLK(sx.stx_mode))
		return carrier_visit(c, makedev(sx.stx_rdev_major, sx.stx_rdev_minor));
	if (sx.stx_dev_major)
		return carrier_visit(c, makedev(sx.stx_dev_major, sx.stx_dev_minor));
	/* a number of the file system's own (btrfs, overlay): what was mounted there? */
	mounts = mnt_new_table_from_file("/proc/self/mountinfo");
	it = mounts ? mnt_new_iter(MNT_ITER_FORWARD) : NULL;
	while (it && !r && mnt_table_next_fs(mounts, it, &fs) == 0) {
		const char *source = mnt_fs_get_source(fs);

		if ((uint64_t)mnt_fs_get_id(fs) == sx.stx_mnt_id && source &&
		    stat(source, &st) == 0 && S_ISBLK(st.st_mode))
			r = carrier_visit(c, st.st_rdev);
	}
	mnt_free_iter(it);
	return r;
}

static int carrier_visit(struct carrier *c, dev_t device)
{
	const dev_t whole = sysblock_whole_or_self(device);
	dev_t slaves[SYSBLOCK_LINKS_MAX];
	char backing[PATH_MAX];
	int n, r = 0;

	if (device == c->wanted || whole == c->wanted)
		return 1;
	if (c->depth > HOLDER_DEPTH_MAX)
		return 0;
	c->depth++;
	n = sysblock_links(whole, "slaves", slaves, SYSBLOCK_LINKS_MAX);
	for (int i = 0; i < n && !r; i++)
		r = carrier_visit(c, slaves[i]);
	if (!r && sysblock_text(whole, "loop/backing_file", backing, sizeof(backing)) > 0)
		r = carrier_visit_mount_of(c, AT_FDCWD, backing);
	c->depth--;
	return r;
}

bool holder_carries_fd(dev_t device, int fd)
{
	struct carrier c = { .wanted = device };

	return carrier_visit_mount_of(&c, fd, "") > 0;
}
