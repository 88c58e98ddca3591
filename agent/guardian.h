/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guardian - the process that thaws what the agent froze when the agent cannot.
 *
 * A process of its own (this program again, with GUARDIAN_ARGUMENT), because a thread dies with its
 * process. It shares one page with the agent and holds the file systems' descriptors and one end of a socket:
 * end of file there means that the agent is gone.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "lib/base/err.h"

/* 0 or 1: grace periods by interrupting all processors, fast and rude */
#define RCU_EXPEDITED_PATH "/sys/kernel/rcu_expedited"

#define GUARDIAN_ARGUMENT   "--guardian"
#define GUARDIAN_MOUNTS_MAX 256

enum guardian_mount_state {
	GUARDIAN_IDLE,
	GUARDIAN_FREEZING, /* FIFREEZE is under way, or we died in it */
	GUARDIAN_FROZEN,
	GUARDIAN_THAWED,
};

/* The shared page. Written by the agent unless said otherwise. */
struct guardian_page {
	atomic_uint_fast64_t deadline_ns; /* CLOCK_MONOTONIC; 0: not frozen, nothing to watch */
	atomic_bool expired; /* by the guardian: the deadline passed, it thaws (or has) */
	atomic_uint_fast64_t thawed_ns; /* by the guardian: when it had, CLOCK_MONOTONIC */
	atomic_bool rcu_was_off;	/* rcu_expedited is to be set back to 0 */
	uint32_t mounts;
	/* enum guardian_mount_state, in mount order; the guardian makes FROZEN to THAWED */
	atomic_int state[GUARDIAN_MOUNTS_MAX];
};

struct guardian {
	int pid;
	int socket;
	struct guardian_page *page;
};

/* @fds: the mounts', in mount order, @count <= GUARDIAN_MOUNTS_MAX; borrowed. Waits until it is up. */
int guardian_start(struct guardian *g, const int *fds, uint32_t count, struct err *e);
/* Look at the deadline that is now in the page. Never blocks. */
int guardian_wake(struct guardian *g);
/* All is thawed: dismiss it and wait for its end. Accepts a zeroed one with socket < 0. */
void guardian_stop(struct guardian *g);

/* main() of the guardian process: descriptors 3 socket, 4 page, 5… mounts. Returns an exit code. */
int guardian_main(void);

/* Set rcu_expedited to 0; async-signal-safe. */
int guardian_rcu_restore(void);
