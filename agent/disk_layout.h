/* SPDX-License-Identifier: GPL-2.0-or-later */
/* disk_layout - the layout of a source whose page cache cannot be trusted. For disk.c. */
#pragma once

#include "agent/disk.h"
#include "lib/base/err.h"
#include "lib/layout/layout.h"

/* Probe d->fd (d->is_file, size, logical_sector and path must be set). Returns 0 or a negative errno. */
int disk_layout_probe(const struct disk *d, struct layout **ret, struct err *e);
