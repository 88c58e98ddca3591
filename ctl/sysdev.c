/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/sysdev.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/text.h"

int sysdev_path(dev_t device, char buf[static PATH_MAX])
{
	char link[64];

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(device), minor(device));
	return realpath(link, buf) ? 0 : -errno;
}

char *sysdev_name(dev_t device, char buf[static SYSDEV_NAME_MAX])
{
	char path[PATH_MAX];

	if (sysdev_path(device, path) < 0) {
		snprintf(buf, SYSDEV_NAME_MAX, "%u:%u", major(device), minor(device));
	} else {
		snprintf(buf, SYSDEV_NAME_MAX, "%.*s", SYSDEV_NAME_MAX - 1, strrchr(path, '/') + 1);
	}
	/* sysfs writes the '/' of "cciss/c0d0" as '!' */
	for (char *c = buf; *c; c++) {
		if (*c == '!')
			*c = '/';
	}
	return buf;
}

static int sysdev_number(const char *dir, dev_t *ret)
{
	char path[PATH_MAX * 2], text[32];

	snprintf(path, sizeof(path), "%s/dev", dir);
	if (io_read_line(path, text, sizeof(text)) <= 0)
		return -ENOENT;
	return text_device(text, ret);
}

static int sysdev_u64(const char *dir, const char *attribute, uint64_t *ret)
{
	char path[PATH_MAX * 2];

	snprintf(path, sizeof(path), "%s/%s", dir, attribute);
	return io_read_u64(path, ret);
}

dev_t sysdev_whole(dev_t device)
{
	char path[PATH_MAX];
	uint64_t number;
	dev_t whole;

	if (sysdev_path(device, path) < 0 || sysdev_u64(path, "partition", &number) < 0)
		return device;
	*strrchr(path, '/') = '\0';
	return sysdev_number(path, &whole) < 0 ? device : whole;
}

char *sysdev_text(dev_t device, const char *attribute, char *buf, size_t size)
{
	char dir[PATH_MAX], path[PATH_MAX * 2];
	size_t n;

	*buf = '\0';
	if (sysdev_path(device, dir) < 0)
		return buf;
	snprintf(path, sizeof(path), "%s/%s", dir, attribute);
	if (io_read_line(path, buf, size) < 0)
		*buf = '\0';
	n = strlen(buf);
	while (n && isspace((unsigned char)buf[n - 1]))
		buf[--n] = '\0';
	return buf;
}

static int part_compare(const void *a, const void *b)
{
	const struct sysdev_part *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static int part_read(const char *dir, struct sysdev_part *ret)
{
	struct sysdev_part p;
	uint64_t number;

	if (sysdev_u64(dir, "partition", &number) < 0 || sysdev_u64(dir, "start", &p.start) < 0 ||
	    sysdev_u64(dir, "size", &p.length) < 0 || sysdev_number(dir, &p.device) < 0)
		return -ENOENT;
	p.number = (unsigned int)number;
	/* sysfs counts in 512 bytes whatever the sector is */
	p.start *= 512;
	p.length *= 512;
	*ret = p;
	return 0;
}

int sysdev_partitions(dev_t device, struct sysdev_part **ret, size_t *ret_count)
{
	_cleanup_free_ struct sysdev_part *parts = NULL;
	_cleanup_dir_ DIR *d = NULL;
	char dir[PATH_MAX], sub[PATH_MAX + NAME_MAX + 2];
	struct sysdev_part p, *grown;
	struct dirent *de;
	size_t n = 0;
	int r;

	r = sysdev_path(device, dir);
	if (r < 0)
		return r;
	d = opendir(dir);
	if (!d)
		return -errno;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	while ((de = readdir(d))) {
		snprintf(sub, sizeof(sub), "%s/%s", dir, de->d_name);
		if (de->d_name[0] == '.' || de->d_type != DT_DIR || part_read(sub, &p) < 0)
			continue;
		grown = reallocarray(parts, n + 1, sizeof(*parts));
		if (!grown)
			return -ENOMEM;
		parts = grown;
		parts[n++] = p;
	}
	if (n)
		qsort(parts, n, sizeof(*parts), part_compare);
	*ret = TAKE_PTR(parts);
	*ret_count = n;
	return 0;
}

int sysdev_each_related(dev_t device, const char *list, int (*each)(void *ctx, dev_t related),
			void *ctx)
{
	_cleanup_dir_ DIR *d = NULL;
	char dir[PATH_MAX], sub[PATH_MAX + NAME_MAX + 32];
	struct dirent *de;
	dev_t related;
	int r;

	r = sysdev_path(device, dir);
	if (r < 0)
		return r;
	snprintf(sub, sizeof(sub), "%s/%s", dir, list);
	d = opendir(sub);
	if (!d)
		return 0; /* partitions have no "slaves" */
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		snprintf(sub, sizeof(sub), "%s/%s/%s", dir, list, de->d_name);
		if (sysdev_number(sub, &related) < 0)
			continue;
		r = each(ctx, related);
		if (r)
			return r;
	}
	return 0;
}
