/* SPDX-License-Identifier: GPL-2.0-or-later */
/* disk_layout - the layout of a source whose page cache cannot be trusted. For disk.c. */
#pragma once

#include <stdint.h>

#include "lib/base/err.h"
#include "lib/layout/layout.h"

/*
 * Probe the device or file behind @fd, which was opened for direct I/O. @path is for messages. Returns 0 or
 * a negative errno.
 */
int disk_layout_probe_device(int fd, const char *path, uint64_t size, uint32_t sector_size,
			     struct layout **ret, struct err *e);
int disk_layout_probe_file(int fd, const char *path, uint64_t size, uint32_t sector_size,
			   struct layout **ret, struct err *e);
