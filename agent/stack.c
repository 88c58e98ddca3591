/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/stack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/loop.h>
#include <linux/magic.h>

#include <libmount.h>

#include "lib/base/cleanup.h"
#include "lib/layout/sysblock.h"

/* Loops on files on loops …: deeper than anyone builds, shallow enough for the C stack. */
#define STACK_DEPTH_MAX 12
/* Steps of one walk: a lattice of devices has more ways than devices. */
#define STACK_STEPS_MAX 4096

struct walk {
	const struct stack_target *target;
	bool files;
	unsigned int steps;
};

static bool walk_device(struct walk *w, dev_t dev, unsigned int depth);
static bool walk_file(struct walk *w, int fd, unsigned int depth);

static bool walk_devices(struct walk *w, const dev_t *devs, int count, unsigned int depth)
{
	for (int i = 0; i < count; i++) {
		if (walk_device(w, devs[i], depth))
			return true;
	}
	return false;
}

static bool walk_loop(struct walk *w, dev_t dev, unsigned int depth)
{
	char path[SYSBLOCK_PATH_MAX], name[1024];
	_cleanup_close_ int fd = -EBADF, file = -EBADF;
	struct loop_info64 info;

	if (sysblock_path(dev, path, sizeof(path)) < 0)
		return false;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0)
		return false;
	/* the kernel's encoding of a device number in 64 bits is glibc's for every number there is */
	if (!w->target->device && info.lo_device == w->target->file_dev &&
	    info.lo_inode == w->target->file_ino)
		return true;
	if (info.lo_rdevice)
		return walk_device(w, (dev_t)info.lo_rdevice, depth);
	if (!w->files)
		return false;
	if (major((dev_t)info.lo_device))
		return walk_device(w, (dev_t)info.lo_device, depth);
	/* a file system with an anonymous number (btrfs, overlay): only the file itself tells more */
	if (sysblock_text(dev, "loop/backing_file", name, sizeof(name)) <= 0)
		return false;
	file = open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return file >= 0 && walk_file(w, file, depth);
}

static bool walk_device(struct walk *w, dev_t dev, unsigned int depth)
{
	_cleanup_free_ dev_t *slaves = NULL;
	const struct stack_target *t = w->target;
	dev_t whole = dev;
	int count;

	if (depth > STACK_DEPTH_MAX || ++w->steps > STACK_STEPS_MAX)
		return false;
	if (sysblock_whole(dev, &whole) < 0)
		return false;
	if (t->device &&
	    (dev == t->device || dev == t->whole || (t->device == t->whole && whole == t->whole)))
		return true;
	if (sysblock_has(whole, "loop/backing_file"))
		return walk_loop(w, whole, depth + 1);
	slaves = calloc(SYSBLOCK_LINKS_MAX, sizeof(*slaves));
	if (!slaves)
		return false;
	count = sysblock_links(whole, "slaves", slaves, SYSBLOCK_LINKS_MAX);
	return walk_devices(w, slaves, count, depth + 1);
}

static void table_freep(struct libmnt_table **tb)
{
	mnt_unref_table(*tb);
}

static void iter_freep(struct libmnt_iter **it)
{
	mnt_free_iter(*it);
}

/* The upper layer of the overlay mount @mount_id; false when it cannot be found. */
static bool overlay_upper(int mount_id, char *buf, size_t size)
{
	_cleanup_(table_freep) struct libmnt_table *tb = mnt_new_table();
	_cleanup_(iter_freep) struct libmnt_iter *it = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;

	if (!tb || !it || mnt_table_parse_file(tb, "/proc/self/mountinfo") < 0)
		return false;
	while (mnt_table_next_fs(tb, it, &fs) == 0) {
		char *value = NULL;
		size_t len = 0;

		if (mnt_fs_get_id(fs) != mount_id)
			continue;
		if (mnt_fs_get_option(fs, "upperdir", &value, &len) != 0 || !value || len >= size)
			return false;
		memcpy(buf, value, len);
		buf[len] = '\0';
		return true;
	}
	return false;
}

static bool walk_overlay(struct walk *w, int fd, unsigned int depth)
{
	_cleanup_close_ int upper = -EBADF;
	char path[1024];
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) < 0 || !(sx.stx_mask & STATX_MNT_ID))
		return true;
	if (!overlay_upper((int)sx.stx_mnt_id, path, sizeof(path)))
		return true;
	upper = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return upper < 0 || walk_file(w, upper, depth + 1);
}

static bool walk_file(struct walk *w, int fd, unsigned int depth)
{
	_cleanup_free_ dev_t *devs = NULL;
	struct statfs fs;
	struct stat st;
	int count;

	if (depth > STACK_DEPTH_MAX || fstat(fd, &st) < 0)
		return false;
	if (!w->target->device && st.st_dev == w->target->file_dev &&
	    st.st_ino == w->target->file_ino)
		return true;
	if (S_ISBLK(st.st_mode))
		return walk_device(w, st.st_rdev, depth);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return false;
	if (major(st.st_dev))
		return walk_device(w, st.st_dev, depth);
	if (fstatfs(fd, &fs) < 0)
		return false;
	if (fs.f_type == OVERLAYFS_SUPER_MAGIC)
		return walk_overlay(w, fd, depth);
	devs = calloc(SYSBLOCK_LINKS_MAX, sizeof(*devs));
	if (fs.f_type != BTRFS_SUPER_MAGIC || !devs)
		return false;
	count = sysblock_btrfs_devices(fd, devs, SYSBLOCK_LINKS_MAX);
	return walk_devices(w, devs, count, depth + 1);
}

bool stack_reaches(dev_t dev, const struct stack_target *t, bool files)
{
	struct walk w = { .target = t, .files = files };

	return walk_device(&w, dev, 0);
}

bool stack_file_reaches(int fd, const struct stack_target *t)
{
	struct walk w = { .target = t, .files = true };

	return walk_file(&w, fd, 0);
}
