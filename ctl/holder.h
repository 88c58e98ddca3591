/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * holder - who is using a block device or a file: mounts, swap, device-mapper, md, loop devices, processes.
 *
 * Looks only, at sysfs, mountinfo and swaps. The proof that nobody uses a device is opening it with
 * O_EXCL; these words are for the person who has to do something about it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/base/err.h"

/*
 * The device or one of its partitions is mounted, swapped on, or stands under something else: -EBUSY and
 * the words. 0 when nothing is known. Another negative errno when it cannot be told.
 */
int holder_of_device(dev_t device, const char *path, struct err *e);
/* A regular file: under a loop device, or a swap file. Returns as above. */
int holder_of_file(int fd, const char *path, struct err *e);
/* "process 12 (qemu), …" that have the device open, for when an exclusive open was refused. Returns @buf. */
char *holder_processes(dev_t device, char *buf, size_t size);

/*
 * Does the file behind @fd lie on @device, through any stack of partitions, device-mapper, md and loop
 * devices?
 */
bool holder_carries_fd(dev_t device, int fd);
