/* SPDX-License-Identifier: GPL-2.0-or-later */
/* capture_disk - under which name the images of a source are kept, before it is captured. */
#pragma once

#include <systemd/sd-bus.h>

#include "lib/base/err.h"

/*
 * As the kernel calls the disk ("vda", "nvme0n1p2", "vg-root"), found among those that the agent lists: for a mount point,
 * or "" for /, the disk under it; for a device its own; for a file its last word. @ret is owned by the caller and fit for
 * a repository.
 */
int capture_disk_name(sd_bus *bus, const char *source, char **ret, struct err *e);
