/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/cow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <blkid.h>

#include "agent/cow_file.h"
#include "agent/pages.h"
#include "lib/base/io.h"
#include "lib/layout/sysblock.h"

#define SIZE_MIN (UINT64_C(256) << 20)
/* Reading and compressing at the slowest that a server's disk should do. */
#define READ_RATE (UINT64_C(64) << 20)
/* Memory is the server's: so much of what is available, and never more than that. */
#define RAM_SHARE 4
#define RAM_MAX	  (UINT64_C(4) << 30)
/* Below this a file is not worth its trouble. */
#define FILE_MIN (UINT64_C(8) << 20)

uint64_t cow_size(const struct disk *d, uint64_t used, uint64_t rate)
{
	uint64_t size = MAX(used / READ_RATE * rate * 2, used / 10);

	/* a store of the source's size, and the room lost to chunks, can never overflow */
	return ROUND_UP(MIN(MAX(size, SIZE_MIN), d->size + d->size / 64), UINT64_C(1) << 20);
}

/* Bytes per second written to the disk, on average since it was there: what it is used to. */
static uint64_t cow_rate(const struct disk *d)
{
	unsigned long long sectors = 0;
	char line[512], up[64];
	double seconds = 0;

	if (sysblock_text(d->whole, "stat", line, sizeof(line)) > 0) {
		/* NOLINTNEXTLINE(cert-err34-c): the kernel's own numbers */
		(void)sscanf(line, "%*u %*u %*u %*u %*u %*u %llu", &sectors);
	}
	if (io_read_line("/proc/uptime", up, sizeof(up)) > 0)
		seconds = strtod(up, NULL);
	return seconds > 1 ? (uint64_t)((double)sectors * MAPPER_SECTOR / seconds) : 0;
}

/* What the source's file systems say is in use. */
static uint64_t cow_used(const struct disk *d)
{
	uint64_t used = 0;
	struct statvfs v;

	for (size_t i = 0; i < d->n_mounts; i++) {
		if (statvfs(d->mounts[i].path, &v) == 0)
			used += (uint64_t)(v.f_blocks - v.f_bfree) * v.f_frsize;
	}
	return MIN(used, d->size);
}

static uint64_t cow_wanted(const struct cow_wish *w)
{
	return w->size ? ROUND_UP(w->size, UINT64_C(1) << 20)
		       : cow_size(w->disk, cow_used(w->disk), cow_rate(w->disk));
}

static int cow_add_device(struct cow *c, dev_t dev, uint64_t size)
{
	c->size = ROUND_DOWN(size, UINT64_C(4096));
	return mapper_table_add(&c->table, c->size / MAPPER_SECTOR, "linear", "%u:%u 0", major(dev),
				minor(dev));
}

/* A loop device over @fd, which the store keeps. */
static int cow_loop(struct cow *c, uint64_t size, struct err *e)
{
	struct stat st;
	int r;

	r = medium_store_open(c->fd, &c->loop, e);
	if (r < 0)
		return r;
	if (fstat(c->loop.fd, &st) < 0)
		return err_set_errno(e, -errno, "%s", c->loop.path);
	return cow_add_device(c, st.st_rdev, size) < 0 ? err_oom(e) : 0;
}

static uint64_t cow_ram_size(const struct cow_wish *w)
{
	uint64_t available = io_memory_available();

	return w->size && !w->less
		       ? cow_wanted(w)
		       : MIN(cow_wanted(w),
			     ROUND_DOWN(MIN(available / RAM_SHARE, RAM_MAX), UINT64_C(1) << 20));
}

static int cow_make_ram(const struct cow_wish *w, struct cow *c, struct err *e)
{
	uint64_t size = cow_ram_size(w);

	c->kind = COW_RAM;
	snprintf(c->where, sizeof(c->where), "%llu MiB of memory",
		 (unsigned long long)(size >> 20));
	if (size > io_memory_available() / 2) {
		return err_set(e, -ENOSPC,
			       "%s for the COW store are more than half of what is available",
			       c->where);
	}
	c->fd = memfd_create("ambro-cow", MFD_CLOEXEC);
	if (c->fd < 0 || fallocate(c->fd, 0, 0, (off_t)size) < 0)
		return err_set_errno(e, -errno, "%s for the COW store", c->where);
	c->size = size;
	c->memory = mmap(NULL, size, PROT_READ, MAP_SHARED, c->fd, 0);
	if (c->memory == MAP_FAILED) {
		c->memory = NULL;
		return err_set_errno(e, -errno, "%s for the COW store", c->where);
	}
	pages_hold();
	if (mlock(c->memory, size) < 0)
		return err_set_errno(e, -errno, "cannot lock %s for the COW store", c->where);
	return cow_loop(c, size, e);
}

/* Nothing that anybody could miss: no file system, table or member of anything. 0, or -EBUSY and what there is. */
static int cow_check_blank(const char *path, struct err *e)
{
	blkid_probe probe = blkid_new_probe_from_filename(path);
	const char *type = NULL;
	int r;

	if (!probe)
		return err_set_errno(e, -errno, "the COW store %s", path);
	blkid_probe_enable_partitions(probe, 1);
	r = blkid_do_safeprobe(probe);
	if (r == 0 && blkid_probe_lookup_value(probe, "TYPE", &type, NULL) < 0)
		blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL);
	r = r == 1 ? 0
		   : err_set(e, -EBUSY,
			     "the COW store %s is not empty, it holds %s: what is there would be "
			     "lost (wipefs --all %s, if it is to be)",
			     path, type ? type : "something", path);
	blkid_free_probe(probe);
	return r;
}

static int cow_make_device(const struct cow_wish *w, dev_t dev, struct cow *c, struct err *e)
{
	struct stack_target t = { .device = w->disk->device, .whole = w->disk->whole };
	uint64_t sectors;
	int r;

	c->kind = COW_DEVICE;
	snprintf(c->where, sizeof(c->where), "%s", w->where);
	/* the store below its own origin, past the hook: the snapshot would change under our eyes */
	if (sysblock_whole_or_self(dev) == w->disk->whole || stack_reaches(dev, &t, true)) {
		return err_set(e, -EBUSY,
			       "the COW store %s lies on %s, the disk that is captured: name "
			       "another device, or a directory on it",
			       w->where, w->disk->path);
	}
	if (disk_mounts_claimed(w->where))
		return err_set(e, -EBUSY, "the COW store %s is in use", w->where);
	r = cow_check_blank(w->where, e);
	if (r < 0)
		return r;
	r = sysblock_u64(dev, "size", &sectors);
	if (r < 0 || !sectors)
		return err_set_errno(e, r < 0 ? r : -ENOMEDIUM, "%s", w->where);
	return cow_add_device(c, dev, sectors * MAPPER_SECTOR) < 0 ? err_oom(e) : 0;
}

/* A directory on a file system that is not captured. */
static int cow_make_elsewhere(const struct cow_wish *w, struct cow *c, struct err *e)
{
	uint64_t size = cow_wanted(w);

	c->kind = COW_DEVICE;
	snprintf(c->where, sizeof(c->where), "a file in %.200s", w->where);
	/* without a name: it goes with the loop device, however we end */
	c->fd = open(w->where, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (c->fd < 0)
		return err_set_errno(e, -errno, "cannot make a COW store in %s", w->where);
	if (fallocate(c->fd, 0, 0, (off_t)size) < 0) {
		return err_set_errno(e, -errno, "%s: %llu MiB for the COW store", w->where,
				     (unsigned long long)(size >> 20));
	}
	return cow_loop(c, size, e);
}

/* The source's mount that a directory on @dev belongs to, or NULL. */
static const struct disk_mount *cow_mount_of(const struct disk *d, dev_t dev)
{
	for (size_t i = 0; i < d->n_mounts; i++) {
		if (d->mounts[i].device == dev)
			return &d->mounts[i];
	}
	return NULL;
}

static uint64_t cow_free(const struct disk_mount *m)
{
	struct statvfs v;

	return statvfs(m->path, &v) < 0 ? 0 : (uint64_t)v.f_bavail * v.f_frsize;
}

/* The mount with the most room, of those that can hold such a file. */
static const struct disk_mount *cow_best_mount(const struct disk *d)
{
	const struct disk_mount *best = NULL;

	for (size_t i = 0; i < d->n_mounts; i++) {
		const struct disk_mount *m = &d->mounts[i];

		if (cow_file_possible(m) && (!best || cow_free(m) > cow_free(best)))
			best = m;
	}
	return best;
}

static int cow_make_file(const struct cow_wish *w, const struct disk_mount *m, struct cow *c,
			 struct err *e)
{
	/* half of what is free stays free: the server's writes must not fail for our sake */
	uint64_t size = MIN(cow_wanted(w), ROUND_DOWN(cow_free(m) / 2, UINT64_C(1) << 20));

	c->kind = COW_FILE;
	snprintf(c->where, sizeof(c->where), "%llu MiB on %.200s", (unsigned long long)(size >> 20),
		 m->path);
	if (size < FILE_MIN || (w->size && !w->less && size < w->size)) {
		return err_set(e, -ENOSPC,
			       "%s has no room for a COW store: half of what is free are %s",
			       m->path, c->where);
	}
	return cow_file_make(w, m, size, c, e);
}

static int cow_make_auto(const struct cow_wish *w, struct cow *c, struct err *e)
{
	const struct disk_mount *m = cow_best_mount(w->disk);
	int r;

	if (m) {
		r = cow_make_file(w, m, c, e);
		if (r >= 0 || r == -ENOMEM)
			return r;
		cow_remove(c);
	}
	return cow_make_ram(w, c, e);
}

static int cow_make_named(const struct cow_wish *w, struct cow *c, struct err *e)
{
	const struct disk_mount *m;
	struct stat st;

	if (stat(w->where, &st) < 0)
		return err_set_errno(e, -errno, "the COW store %s", w->where);
	if (S_ISBLK(st.st_mode))
		return cow_make_device(w, st.st_rdev, c, e);
	if (!S_ISDIR(st.st_mode)) {
		return err_set(e, -EINVAL,
			       "%s cannot hold a COW store: name a block device or a directory",
			       w->where);
	}
	m = cow_mount_of(w->disk, st.st_dev);
	if (!m)
		return cow_make_elsewhere(w, c, e);
	if (cow_file_possible(m))
		return cow_make_file(w, m, c, e);
	return err_set(e, -ENOTSUP, "a %s cannot hold the COW store of its own disk", m->fs_type);
}

int cow_make(const struct cow_wish *w, struct cow *c, struct err *e)
{
	const struct disk_mount *m;

	*c = (struct cow){ .tree_fd = -EBADF, .fd = -EBADF, .loop = { .fd = -EBADF } };
	if (!w->where || !*w->where || !strcmp(w->where, "auto"))
		return cow_make_auto(w, c, e);
	if (!strcmp(w->where, "ram"))
		return cow_make_ram(w, c, e);
	if (strcmp(w->where, "file") != 0)
		return cow_make_named(w, c, e);
	m = cow_best_mount(w->disk);
	return m ? cow_make_file(w, m, c, e)
		 : err_set(e, -ENOTSUP, "%s has no file system that can hold the COW store",
			   w->disk->path);
}

void cow_abandon(struct cow *c)
{
	if (c->kind == COW_NONE)
		return;
	medium_view_close(&c->loop);
	if (c->memory) {
		munmap(c->memory, c->size);
		pages_let_go();
	}
	c->fd = close_fd(c->fd);
	c->tree_fd = close_fd(c->tree_fd);
	mapper_table_done(&c->table);
	extent_set_done(&c->hidden);
	*c = (struct cow){ .tree_fd = -EBADF, .fd = -EBADF, .loop = { .fd = -EBADF } };
}

void cow_remove(struct cow *c)
{
	if (c->kind == COW_FILE)
		cow_file_remove(c);
	cow_abandon(c);
}

const char *cow_kind_name(enum cow_kind k)
{
	static const char *const names[] = {
		[COW_NONE] = "",
		[COW_FILE] = "file",
		[COW_RAM] = "ram",
		[COW_DEVICE] = "device",
	};

	return names[k];
}
