/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/cow_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/mount.h>

#include <libmount.h>

#include "agent/mapper.h"
#include "lib/base/io.h"

#define EXTENTS_ONCE 256u
/* A table of more lines takes the kernel longer than it is worth; so fragmented a disk gets a store in memory. */
#define EXTENTS_MAX 4096u
/* Where the store's bytes are not where the map says, or not its own. */
#define EXTENT_BAD                                                                              \
	(FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_ENCODED |               \
	 FIEMAP_EXTENT_DATA_ENCRYPTED | FIEMAP_EXTENT_NOT_ALIGNED | FIEMAP_EXTENT_DATA_INLINE | \
	 FIEMAP_EXTENT_DATA_TAIL | FIEMAP_EXTENT_SHARED)

bool cow_file_possible(const struct disk_mount *m)
{
	return m->direct && !m->read_only && m->fs_type &&
	       (!strcmp(m->fs_type, "ext4") || !strcmp(m->fs_type, "xfs"));
}

/*
 * The mount's topmost directory, writable even where our own mount namespace shows everything read-only
 * (ProtectSystem=strict): a private copy of the mount, seen by nobody, on which only this file is made.
 */
static int cow_open_tree(const char *path)
{
	struct mount_attr attr = { .attr_clr = MOUNT_ATTR_RDONLY };
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (fd >= 0 && syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
		return fd;
	close_fd(fd);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int cow_set_immutable(int fd, bool on)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return -errno;
	flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0 ? -errno : 0;
}

/* Invariants C1 and C2. */
static int cow_allocate(struct cow *c, uint64_t size, struct err *e)
{
	int r;

	if (fallocate(c->fd, 0, 0, (off_t)size) < 0 || fsync(c->fd) < 0)
		return err_set_errno(e, -errno, "COW store of %s", c->where);
	r = cow_set_immutable(c->fd, true);
	if (r < 0)
		return err_set_errno(e, r, "cannot make the COW store of %s immutable", c->where);
	if (fsync(c->fd) < 0)
		return err_set_errno(e, -errno, "COW store of %s", c->where);
	return 0;
}

/* One extent of the file, at @x->fe_physical of the file system that begins at @start of the source. */
static int cow_take_extent(const struct cow_wish *w, uint64_t start, const struct fiemap_extent *x,
			   struct cow *c, struct err *e)
{
	uint64_t at = start + x->fe_physical;

	if (x->fe_flags & EXTENT_BAD || x->fe_logical != c->size ||
	    (x->fe_physical | x->fe_length) % MAPPER_SECTOR || !x->fe_length ||
	    at + x->fe_length > w->disk->size) {
		return err_set(e, -ENOTSUP,
			       "the file system does not say where the COW store of %s lies",
			       c->where);
	}
	if (c->table.count == EXTENTS_MAX) {
		return err_set(e, -ENOSPC, "the free space is in too many pieces for %s", c->where);
	}
	c->size += x->fe_length;
	if (extent_set_add(&c->hidden, at, x->fe_length) < 0 ||
	    mapper_table_add(&c->table, x->fe_length / MAPPER_SECTOR, "linear", "%u:%u %llu",
			     major(w->below), minor(w->below),
			     (unsigned long long)((w->below_start + at) / MAPPER_SECTOR)) < 0)
		return err_oom(e);
	return 0;
}

static int cow_map(const struct cow_wish *w, uint64_t start, uint64_t size, struct cow *c,
		   struct err *e)
{
	_cleanup_free_ struct fiemap *map =
		calloc(1, sizeof(*map) + EXTENTS_ONCE * sizeof(struct fiemap_extent));
	int r;

	if (!map)
		return err_oom(e);
	while (c->size < size) {
		*map = (struct fiemap){
			.fm_start = c->size,
			.fm_length = size - c->size,
			.fm_flags = FIEMAP_FLAG_SYNC,
			.fm_extent_count = EXTENTS_ONCE,
		};
		if (ioctl(c->fd, FS_IOC_FIEMAP, map) < 0)
			return err_set_errno(e, -errno, "extents of the COW store of %s", c->where);
		for (uint32_t i = 0; i < map->fm_mapped_extents; i++) {
			r = cow_take_extent(w, start, &map->fm_extents[i], c, e);
			if (r < 0)
				return r;
		}
		if (!map->fm_mapped_extents)
			return err_set(e, -EIO, "the COW store of %s has holes", c->where);
	}
	extent_set_normalise(&c->hidden);
	return 0;
}

int cow_file_make(const struct cow_wish *w, const struct disk_mount *m, uint64_t size,
		  struct cow *c, struct err *e)
{
	int r;

	c->tree_fd = cow_open_tree(m->path);
	if (c->tree_fd < 0)
		return err_set_errno(e, c->tree_fd, "%s", m->path);
	snprintf(c->file, sizeof(c->file), COW_FILE_PREFIX "%.40s", w->name);
	c->fd = openat(c->tree_fd, c->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		       0600);
	if (c->fd < 0) {
		r = -errno;
		c->file[0] = '\0';
		return err_set_errno(e, r, "cannot make a COW store on %s", m->path);
	}
	if (flock(c->fd, LOCK_EX | LOCK_NB) < 0)
		return err_set_errno(e, -errno, "COW store of %s", c->where);
	r = cow_allocate(c, size, e);
	c->size = 0;
	return r < 0 ? r : cow_map(w, m->start, size, c, e);
}

static void cow_unlink(int dir_fd, int fd, const char *name)
{
	cow_set_immutable(fd, false);
	unlinkat(dir_fd, name, 0);
}

void cow_file_remove(struct cow *c)
{
	if (c->fd >= 0 && c->file[0])
		cow_unlink(c->tree_fd, c->fd, c->file);
}

/* C2: not while an agent has it locked, nor while a device of its name may still write to it. */
static bool cow_abandoned(int fd, const char *name)
{
	char device[MAPPER_NAME_MAX];
	struct mapper_info info;
	struct err e = { 0 };
	struct stat st;

	/* "vda", or "vda.2": a piece that the store of vda grew by */
	name += strlen(COW_FILE_PREFIX);
	snprintf(device, sizeof(device), MAPPER_NAME_PREFIX "%.*s-cow", (int)strcspn(name, "."),
		 name);
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0 &&
	       flock(fd, LOCK_EX | LOCK_NB) == 0 &&
	       (!mapper_present() || (mapper_info(device, &info, &e) == 0 && !info.exists));
}

static unsigned int cow_sweep_directory(const char *path)
{
	_cleanup_close_ int tree = cow_open_tree(path);
	_cleanup_dir_ DIR *dir = NULL;
	unsigned int n = 0;
	struct dirent *d;
	int copy;

	if (tree < 0)
		return 0;
	copy = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir) {
		close_fd(copy);
		return 0;
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
	while ((d = readdir(dir))) {
		_cleanup_close_ int fd = -EBADF;

		if (strncmp(d->d_name, COW_FILE_PREFIX, strlen(COW_FILE_PREFIX)) != 0)
			continue;
		fd = openat(tree, d->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd < 0 || !cow_abandoned(fd, d->d_name))
			continue;
		cow_unlink(tree, fd, d->d_name);
		n++;
	}
	return n;
}

unsigned int cow_file_sweep(void)
{
	struct libmnt_table *tb = mnt_new_table();
	struct libmnt_iter *it = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;
	unsigned int n = 0;

	if (tb && it && mnt_table_parse_file(tb, "/proc/self/mountinfo") == 0) {
		while (mnt_table_next_fs(tb, it, &fs) == 0) {
			const char *type = mnt_fs_get_fstype(fs);

			if (type && (!strcmp(type, "ext4") || !strcmp(type, "xfs")))
				n += cow_sweep_directory(mnt_fs_get_target(fs));
		}
	}
	mnt_free_iter(it);
	mnt_unref_table(tb);
	return n;
}
