/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/fs.h>

#include <libmount.h>

#include "agent/disk_layout.h"
#include "agent/disk_mounts.h"
#include "agent/stack.h"
#include "lib/base/io.h"
#include "lib/layout/sysblock.h"

static void table_freep(struct libmnt_table **tb)
{
	mnt_unref_table(*tb);
}

static int text_keep(const char *text, char **ret)
{
	free(*ret);
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

/* The whole disk under block device @dev, which is mounted on @where. */
static int source_whole(dev_t dev, const char *where, dev_t *ret, struct err *e)
{
	char path[SYSBLOCK_PATH_MAX], volume[SYSBLOCK_PATH_MAX];
	dev_t whole;
	int r;

	r = sysblock_whole(dev, &whole);
	if (r >= 0)
		r = sysblock_path(whole, path, sizeof(path));
	if (r < 0)
		return err_set_errno(e, r, "%s: device %u:%u", where, major(dev), minor(dev));
	if (sysblock_text(whole, "dm/name", volume, sizeof(volume)) > 0) {
		return err_set(e, -EINVAL,
			       "%s is on the volume %s; name /dev/mapper/%s to capture that "
			       "volume, or the disk that it lies on",
			       where, volume, volume);
	}
	if (sysblock_has(whole, "md")) {
		return err_set(e, -EINVAL,
			       "%s is on the array %s; name %s to capture the array, or the disk "
			       "that it lies on",
			       where, path, path);
	}
	*ret = whole;
	return 0;
}

/* The device of the btrfs that is mounted on @where. */
static int source_btrfs(const char *where, dev_t *ret, struct err *e)
{
	_cleanup_close_ int fd = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dev_t devs[2] = { 0 };
	int n = fd < 0 ? -errno : sysblock_btrfs_devices(fd, devs, 2);

	if (n < 0)
		return err_set_errno(e, n, "%s: devices of its btrfs", where);
	if (n != 1) {
		return err_set(e, -EINVAL, "%s is a btrfs on several devices; name one disk",
			       where);
	}
	*ret = devs[0];
	return 0;
}

/* The whole disk under the mount point @path (absolute, without symbolic links). */
static int source_mount(const char *path, dev_t *ret, struct err *e)
{
	_cleanup_(table_freep) struct libmnt_table *tb = mnt_new_table();
	const char *type;
	struct libmnt_fs *fs;
	dev_t dev;
	int r;

	if (!tb)
		return err_oom(e);
	r = mnt_table_parse_file(tb, "/proc/self/mountinfo");
	if (r < 0)
		return err_set_errno(e, r, "/proc/self/mountinfo");
	/* backward: of several mounts on one path the last one is seen */
	fs = mnt_table_find_target(tb, path, MNT_ITER_BACKWARD);
	if (!fs) {
		return err_set(
			e, -EINVAL,
			"%s is a folder and not a mount point; name a disk, a mount point or "
			"an image file",
			path);
	}
	type = mnt_fs_get_fstype(fs);
	dev = mnt_fs_get_devno(fs);
	if (type && !strcmp(type, "btrfs")) {
		r = source_btrfs(path, &dev, e);
		if (r < 0)
			return r;
	}
	if (!major(dev)) {
		return err_set(
			e, -ENOTBLK,
			"%s is a %s, which does not lie on a disk of this machine; name a disk",
			path, type ? type : "file system");
	}
	return source_whole(dev, path, ret, e);
}

/* Find out what d->source means: d->path and, for a device, d->device. */
static int source_resolve(struct disk *d, struct err *e)
{
	const char *source = d->source[0] ? d->source : "/";
	_cleanup_free_ char *real = realpath(source, NULL);
	char path[SYSBLOCK_PATH_MAX];
	struct stat st;
	int r;

	if (!real || stat(real, &st) < 0)
		return err_set_errno(e, -errno, "%s", source);
	if (S_ISDIR(st.st_mode)) {
		r = source_mount(real, &d->device, e);
		if (r < 0)
			return r;
		r = sysblock_path(d->device, path, sizeof(path));
		if (r < 0)
			return err_set_errno(e, r, "%s: its disk has no device node", source);
		return text_keep(path, &d->path) < 0 ? err_oom(e) : 0;
	}
	if (S_ISBLK(st.st_mode)) {
		d->device = st.st_rdev;
	} else if (S_ISREG(st.st_mode)) {
		d->is_file = true;
		d->file_dev = st.st_dev;
		d->file_ino = st.st_ino;
	} else {
		return err_set(e, -ENOTBLK,
			       "%s is neither a block device, nor a mount point, nor an image file",
			       source);
	}
	d->path = TAKE_PTR(real);
	return 0;
}

/*
 * Can a file be read past the page cache in pieces of 512 bytes, as its partitions may lie? Not on a file
 * system whose own disk has larger sectors.
 */
static bool file_takes_sectors(int fd)
{
	_cleanup_free_ void *buf = aligned_alloc(4096, 4096);

	return buf && (pread(fd, buf, 512, 512) >= 0 || errno != EINVAL);
}

static int disk_open_fd(struct disk *d, struct err *e)
{
	struct stat st;

	assert(d->path);
	d->fd = open(d->path, O_RDONLY | O_DIRECT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (d->fd >= 0 && d->is_file && !file_takes_sectors(d->fd)) {
		d->fd = close_fd(d->fd);
		errno = EINVAL;
	}
	if (d->fd < 0 && errno == EINVAL && d->is_file)
		d->fd = open(d->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (d->fd < 0 || fstat(d->fd, &st) < 0)
		return err_set_errno(e, -errno, "%s", d->path);
	/* the name may have come to mean something else since it was resolved */
	if (d->is_file
		    ? !S_ISREG(st.st_mode) || st.st_dev != d->file_dev || st.st_ino != d->file_ino
		    : !S_ISBLK(st.st_mode) || st.st_rdev != d->device)
		return err_set(e, -ESTALE, "%s changed while it was opened", d->path);
	return 0;
}

static int disk_fill_size(struct disk *d, struct err *e)
{
	unsigned int physical = 0;
	int logical = 0, r;

	r = io_size(d->fd, &d->size);
	if (r < 0)
		return err_set_errno(e, r, "%s: size", d->path);
	if (!d->size)
		return err_set(e, -ENOMEDIUM, "%s is empty", d->path);
	d->logical_sector = 512;
	d->physical_sector = 4096;
	if (d->is_file)
		return 0;
	if (ioctl(d->fd, BLKSSZGET, &logical) < 0 || ioctl(d->fd, BLKPBSZGET, &physical) < 0)
		return err_set_errno(e, -errno, "%s: sector size", d->path);
	d->logical_sector = (uint32_t)logical;
	d->physical_sector = physical;
	return 0;
}

/* An image of a disk with 4 KiB sectors has its GPT at the second of these. */
static bool file_has_4k_gpt(const struct disk *d)
{
	/* through a descriptor of its own: @d's wants aligned memory */
	_cleanup_close_ int fd = open(d->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char magic[8];

	return fd >= 0 && io_pread_all(fd, magic, sizeof(magic), 512) == 0 &&
	       memcmp(magic, "EFI PART", 8) != 0 &&
	       io_pread_all(fd, magic, sizeof(magic), 4096) == 0 && !memcmp(magic, "EFI PART", 8);
}

/* SCSI's "unit serial number" page: four bytes of header, then text. */
static void serial_from_vpd(dev_t dev, char *buf, size_t size)
{
	char path[SYSBLOCK_PATH_MAX], page[256];
	_cleanup_close_ int fd = -EBADF;
	ssize_t n;
	size_t len;

	buf[0] = '\0';
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/device/vpd_pg80", major(dev),
		 minor(dev));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = io_pread_some(fd, page, sizeof(page), 0);
	if (n <= 4)
		return;
	len = MIN((size_t)n - 4, (size_t)(uint8_t)page[3]);
	snprintf(buf, size, "%.*s", (int)len, page + 4 + strspn(page + 4, " "));
	while (*buf && buf[strlen(buf) - 1] == ' ')
		buf[strlen(buf) - 1] = '\0';
}

/* The first of @attrs that has a text. */
static int identity_read(dev_t dev, const char *const *attrs, char **ret)
{
	char text[256];

	for (; *attrs; attrs++) {
		if (sysblock_text(dev, *attrs, text, sizeof(text)) > 0)
			return text_keep(text, ret);
	}
	return 0;
}

static int disk_fill_identity(struct disk *d, struct err *e)
{
	static const char *const models[] = { "device/model", "dm/name", "md/level", NULL };
	static const char *const serials[] = { "serial", "device/serial", NULL };
	static const char *const wwids[] = { "wwid", "device/wwid", "dm/uuid", "md/uuid", NULL };
	char text[256];
	uint64_t n = 0;

	if (d->is_file)
		return 0;
	if (identity_read(d->whole, models, &d->model) < 0 ||
	    identity_read(d->whole, serials, &d->serial) < 0 ||
	    identity_read(d->whole, wwids, &d->wwid) < 0)
		return err_oom(e);
	serial_from_vpd(d->whole, text, sizeof(text));
	if (!d->serial && text[0] && text_keep(text, &d->serial) < 0)
		return err_oom(e);
	if (sysblock_text(d->whole, "queue/zoned", text, sizeof(text)) > 0)
		d->zoned = strcmp(text, "none") != 0;
	if (sysblock_u64(d->whole, "queue/dax", &n) == 0)
		d->dax = n != 0;
	n = 0;
	if (sysblock_u64(d->device, "ro", &n) == 0)
		d->read_only = n != 0;
	return 0;
}

static int disk_fill(struct disk *d, struct err *e)
{
	int r;

	r = source_resolve(d, e);
	if (r < 0)
		return r;
	r = disk_open_fd(d, e);
	if (r < 0)
		return r;
	r = disk_fill_size(d, e);
	if (r < 0)
		return r;
	if (d->is_file) {
		if (file_has_4k_gpt(d))
			d->logical_sector = 4096;
	} else {
		r = sysblock_whole(d->device, &d->whole);
		if (r < 0)
			return err_set_errno(e, r, "%s: its disk", d->path);
		d->is_partition = d->whole != d->device;
		d->whole_offset = d->is_partition ? sysblock_start(d->device) : 0;
	}
	r = disk_fill_identity(d, e);
	if (r < 0)
		return r;
	r = d->is_file ? disk_layout_probe_file(d->fd, d->path, d->size, d->logical_sector,
						&d->layout, e)
		       : disk_layout_probe_device(d->fd, d->path, d->size, d->logical_sector,
						  &d->layout, e);
	if (r < 0)
		return r;
	return disk_refresh_mounts(d, e);
}

int disk_open(const char *source, struct disk **ret, struct err *e)
{
	_cleanup_(disk_freep) struct disk *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_oom(e);
	d->fd = -EBADF;
	d->source = strdup(source ? source : "");
	if (!d->source)
		return err_oom(e);
	r = disk_fill(d, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(d);
	return 0;
}

void disk_free(struct disk *d)
{
	if (!d)
		return;
	close_fd(d->fd);
	layout_free(d->layout);
	disk_mounts_free(d->mounts, d->n_mounts);
	free(d->source);
	free(d->path);
	free(d->model);
	free(d->serial);
	free(d->wwid);
	free(d);
}

/* The disk as something to look for under a stack of devices. */
static struct stack_target disk_target(const struct disk *d)
{
	return (struct stack_target){
		.device = d->device,
		.whole = d->whole,
		.file_dev = d->file_dev,
		.file_ino = d->file_ino,
	};
}

int disk_devices(const struct disk *d, dev_t *ret)
{
	int n = d->is_partition ? 0 : sysblock_partitions(d->whole, ret, SYSBLOCK_LINKS_MAX);

	if (n > 0)
		return n;
	ret[0] = d->device;
	return 1;
}

bool disk_hides(const struct disk *d, dev_t device)
{
	char path[SYSBLOCK_PATH_MAX];

	for (size_t i = 0; i < d->n_mounts; i++) {
		if (d->mounts[i].device == device)
			return false;
	}
	return sysblock_path(device, path, sizeof(path)) == 0 && disk_mounts_claimed(path);
}

int disk_refresh_mounts(struct disk *d, struct err *e)
{
	struct stack_target t = disk_target(d);
	struct disk_mount *mounts;
	size_t count;
	int r;

	r = disk_mounts_read(&t, &mounts, &count, e);
	if (r < 0)
		return r;
	disk_mounts_free(d->mounts, d->n_mounts);
	d->mounts = mounts;
	d->n_mounts = count;
	d->in_use = count || disk_mounts_held(&t, d->path);
	return 0;
}

bool disk_holds_fd(const struct disk *d, int fd)
{
	struct stack_target t = disk_target(d);

	return stack_file_reaches(fd, &t);
}

void disk_clip_whole(const struct disk *d, struct extent_set *set)
{
	uint64_t from = d->whole_offset, to = from + d->size;
	size_t kept = 0;

	for (size_t i = 0; i < set->count; i++) {
		uint64_t start = MAX(set->items[i].start, from);
		uint64_t end = MIN(extent_end(&set->items[i]), to);

		if (start < end)
			set->items[kept++] = (struct extent){ start - from, end - start };
	}
	set->count = kept;
}
