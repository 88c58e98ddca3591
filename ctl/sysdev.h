/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sysdev - a block device as sysfs shows it. Nothing here opens the device. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SYSDEV_NAME_MAX 64

/* The device's directory below /sys/devices into @buf. Returns 0 or a negative errno. */
int sysdev_path(dev_t device, char buf[static PATH_MAX]);
/* The kernel's name ("sda1"); "M:m" when sysfs does not know it. Returns @buf. */
char *sysdev_name(dev_t device, char buf[static SYSDEV_NAME_MAX]);
/* Its whole disk; @device itself when it is none's partition. */
dev_t sysdev_whole(dev_t device);
/* An attribute's first line, trimmed: sysdev_text(d, "device/model", …). Returns @buf, "" when there is none. */
char *sysdev_text(dev_t device, const char *attribute, char *buf, size_t size);

struct sysdev_part {
	dev_t device;
	unsigned int number;
	uint64_t start, length; /* bytes */
};
/* The partitions that the kernel knows of. Owned by the caller (free()). Returns 0 or a negative errno. */
int sysdev_partitions(dev_t device, struct sysdev_part **ret, size_t *ret_count);

/* Call @each for every device that is listed in "holders" or "slaves" of @device, until it returns non-zero. */
int sysdev_each_related(dev_t device, const char *list, int (*each)(void *ctx, dev_t related),
			void *ctx);
