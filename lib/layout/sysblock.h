/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sysblock - what sysfs says of a block device, and what lies beneath it.
 *
 * Only reads sysfs, never opens the device; nothing is cached, so an answer may be out of date when it arrives. Thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SYSBLOCK_PATH_MAX 256

/*
 * Text of /sys/dev/block/M:m/@attr, blanks at its ends removed. Returns its length or a negative errno, with "" in
 * @buf.
 */
ssize_t sysblock_text(dev_t dev, const char *attr, char *buf, size_t size);
int sysblock_u64(dev_t dev, const char *attr, uint64_t *ret);
bool sysblock_has(dev_t dev, const char *attr);
/* The kernel's name ("sda1"). Returns 0 or a negative errno. */
int sysblock_name(dev_t dev, char *buf, size_t size);
/* "/dev/…", where devtmpfs has it. Returns 0 or a negative errno. */
int sysblock_path(dev_t dev, char *buf, size_t size);
bool sysblock_is_partition(dev_t dev);
/* A partition's disk; any other device itself. Returns 0 or a negative errno. */
int sysblock_whole(dev_t dev, dev_t *ret);
/* The same, and the device itself where sysfs does not say. */
dev_t sysblock_whole_or_self(dev_t dev);
/* A partition's first byte on its disk; 0 for any other. */
uint64_t sysblock_start(dev_t dev);

/* Devices linked in @dir ("slaves", "holders"), at most @max. Returns how many, or a negative errno. */
int sysblock_links(dev_t dev, const char *dir, dev_t *ret, int max);
/* Partitions of a disk that the kernel knows, at most @max. Returns how many, or a negative errno. */
int sysblock_partitions(dev_t whole, dev_t *ret, int max);

#define SYSBLOCK_LINKS_MAX 256 /* the kernel has no more partitions of a disk */

struct sysblock_part {
	dev_t device;
	unsigned int number;
	uint64_t start, length; /* bytes */
};
/* The same with their places, in order of these. Returns how many, or a negative errno. */
int sysblock_parts(dev_t whole, struct sysblock_part ret[static SYSBLOCK_LINKS_MAX]);
/* The devices in any directory of links to block devices. */
int sysblock_links_in(const char *path, dev_t *ret, int max);

/* The devices of the btrfs that @fd is a file of, at most @max. Returns how many, or a negative errno. */
int sysblock_btrfs_devices(int fd, dev_t *ret, int max);
