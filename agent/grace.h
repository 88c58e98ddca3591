/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * grace - wait until every BPF program that runs now has ended.
 *
 * An update of a map of maps returns only after synchronize_rcu(): the kernel promises user space
 * that no running (non-sleepable) program still uses the old value, so this is a contract and not a
 * side effect. The map is never looked into. membarrier(MEMBARRIER_CMD_GLOBAL) would do the same,
 * but is refused with nohz_full and waits for nothing on a machine with one processor.
 *
 * Measured on Linux 6.18, idle: 5 ms (a tick or more; tens of ms under load); with 1 in
 * /sys/kernel/rcu_expedited 0.02 ms.
 */
#pragma once

#include "lib/base/err.h"

struct grace {
	int outer, inner;
};

#define GRACE_NONE ((struct grace){ -EBADF, -EBADF })

/* Needs CAP_BPF. Returns 0 or a negative errno. */
int grace_init(struct grace *g);
/* Accepts GRACE_NONE and what grace_init() left half-made. */
void grace_done(struct grace *g);
/*
 * Blocks for one RCU grace period; allocates nothing in this process. Returns 0 or a negative
 * errno.
 */
int grace_wait(const struct grace *g);
