/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ability - what this kernel and these rights allow, cheaply; the truth is in trying. */
#pragma once

#include <stdbool.h>

#include "lib/base/err.h"

/* Can writes be tracked (agent/tracker.h)? 0, or -ENOTSUP and the reason. */
int ability_tracker(struct err *e);
/* Are reads done by io_uring (agent/read_queue.h)? Otherwise by threads: as right, but slower. */
bool ability_io_uring(void);
/* Is there device-mapper (strategy dm)? 0, or -ENOTSUP and the reason. */
int ability_mapper(struct err *e);
/* Is ambro.ko loaded, in a version that we know (strategy kmod)? 0, or -ENOTSUP and the reason. */
int ability_module(struct err *e);
