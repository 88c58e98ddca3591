/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/sysblock.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/btrfs.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/text.h"

/* sysfs counts sectors of 512 bytes whatever the device's own are. */
#define SYSFS_SECTOR_BYTES 512u

static void sysblock_file(dev_t dev, const char *attr, char *buf, size_t size)
{
	snprintf(buf, size, "/sys/dev/block/%u:%u/%s", major(dev), minor(dev), attr);
}

ssize_t sysblock_text(dev_t dev, const char *attr, char *buf, size_t size)
{
	char path[SYSBLOCK_PATH_MAX];
	ssize_t n;
	size_t skip;

	sysblock_file(dev, attr, path, sizeof(path));
	n = io_read_line(path, buf, size);
	if (n < 0) {
		*buf = '\0';
		return n;
	}
	while (n > 0 && isspace((unsigned char)buf[n - 1]))
		buf[--n] = '\0';
	skip = strspn(buf, " \t");
	memmove(buf, buf + skip, (size_t)n - skip + 1);
	return n - (ssize_t)skip;
}

int sysblock_u64(dev_t dev, const char *attr, uint64_t *ret)
{
	char path[SYSBLOCK_PATH_MAX];

	sysblock_file(dev, attr, path, sizeof(path));
	return io_read_u64(path, ret);
}

bool sysblock_has(dev_t dev, const char *attr)
{
	char path[SYSBLOCK_PATH_MAX];

	sysblock_file(dev, attr, path, sizeof(path));
	return access(path, F_OK) == 0;
}

int sysblock_name(dev_t dev, char *buf, size_t size)
{
	char path[SYSBLOCK_PATH_MAX], target[1024];
	const char *slash;
	ssize_t n;

	sysblock_file(dev, "", path, sizeof(path));
	path[strlen(path) - 1] = '\0';
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	slash = strrchr(target, '/');
	if (snprintf(buf, size, "%s", slash ? slash + 1 : target) >= (int)size)
		return -ENAMETOOLONG;
	/* sysfs writes the '/' of "cciss/c0d0" as '!' */
	for (char *c = buf; *c; c++) {
		if (*c == '!')
			*c = '/';
	}
	return 0;
}

int sysblock_path(dev_t dev, char *buf, size_t size)
{
	char path[SYSBLOCK_PATH_MAX], line[SYSBLOCK_PATH_MAX];
	_cleanup_file_ FILE *f = NULL;

	sysblock_file(dev, "uevent", path, sizeof(path));
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "DEVNAME=", 8) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		if (snprintf(buf, size, "/dev/%s", line + 8) >= (int)size)
			return -ENAMETOOLONG;
		return 0;
	}
	return -ENOENT;
}

bool sysblock_is_partition(dev_t dev)
{
	return sysblock_has(dev, "partition");
}

int sysblock_whole(dev_t dev, dev_t *ret)
{
	char text[32];
	ssize_t n;

	if (!sysblock_is_partition(dev)) {
		*ret = dev;
		return 0;
	}
	/* a partition's directory lies in its disk's */
	n = sysblock_text(dev, "../dev", text, sizeof(text));
	return n < 0 ? (int)n : text_device(text, ret);
}

dev_t sysblock_whole_or_self(dev_t dev)
{
	dev_t whole;

	return sysblock_whole(dev, &whole) < 0 ? dev : whole;
}

uint64_t sysblock_start(dev_t dev)
{
	uint64_t start = 0;

	return sysblock_u64(dev, "start", &start) < 0 ? 0 : start * SYSFS_SECTOR_BYTES;
}

/* Devices of those entries of the directory that have a "dev" file, and @also if not NULL. */
static int links_read(const char *path, const char *also, dev_t *ret, int max)
{
	_cleanup_dir_ DIR *d = opendir(path);
	struct dirent *entry;
	int count = 0;

	if (!d)
		return -errno;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	while (count < max && (entry = readdir(d))) {
		char file[1024], text[32];

		if (entry->d_name[0] == '.')
			continue;
		if (also) {
			snprintf(file, sizeof(file), "%s/%s/%s", path, entry->d_name, also);
			if (access(file, F_OK) < 0)
				continue;
		}
		snprintf(file, sizeof(file), "%s/%s/dev", path, entry->d_name);
		if (io_read_line(file, text, sizeof(text)) > 0 &&
		    text_device(text, &ret[count]) == 0)
			count++;
	}
	return count;
}

int sysblock_links_in(const char *path, dev_t *ret, int max)
{
	return links_read(path, NULL, ret, max);
}

int sysblock_links(dev_t dev, const char *dir, dev_t *ret, int max)
{
	char path[SYSBLOCK_PATH_MAX];

	sysblock_file(dev, dir, path, sizeof(path));
	return links_read(path, NULL, ret, max);
}

int sysblock_partitions(dev_t whole, dev_t *ret, int max)
{
	char path[SYSBLOCK_PATH_MAX];

	sysblock_file(whole, ".", path, sizeof(path));
	return links_read(path, "partition", ret, max);
}

static int part_compare(const void *a, const void *b)
{
	const struct sysblock_part *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

int sysblock_parts(dev_t whole, struct sysblock_part ret[static SYSBLOCK_LINKS_MAX])
{
	dev_t devices[SYSBLOCK_LINKS_MAX];
	int n = sysblock_partitions(whole, devices, SYSBLOCK_LINKS_MAX), count = 0;
	uint64_t number, length;

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		/* one that has gone meanwhile is none */
		if (sysblock_u64(devices[i], "partition", &number) < 0 ||
		    sysblock_u64(devices[i], "size", &length) < 0)
			continue;
		ret[count++] = (struct sysblock_part){
			.device = devices[i],
			.number = (unsigned int)number,
			.start = sysblock_start(devices[i]),
			.length = length * SYSFS_SECTOR_BYTES,
		};
	}
	qsort(ret, (size_t)count, sizeof(*ret), part_compare);
	return count;
}

int sysblock_btrfs_devices(int fd, dev_t *ret, int max)
{
	struct btrfs_ioctl_fs_info_args info = { 0 };
	const uint8_t *u = info.fsid;
	char path[SYSBLOCK_PATH_MAX];

	if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
		return -errno;
	snprintf(path, sizeof(path),
		 "/sys/fs/btrfs/%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
		 "%02x%02x%02x%02x%02x%02x/devices",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
		 u[13], u[14], u[15]);
	return sysblock_links_in(path, ret, max);
}
