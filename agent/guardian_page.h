/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guardian_page - what the agent and its guardian both know of a freeze, and what is left of it when both are killed.
 *
 * The page is a file in /run/ambro, mapped by both. As long as one of the two lives the file is locked (flock() belongs to the
 * open file, which mappings keep). One that nobody has locked is of a freeze that nobody will end any more: whoever finds it
 * thaws what the page says was frozen, or was just being frozen, and removes it. Where no such file can be made
 * the page is memory without a name, and nothing is left.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/pace.h"
#include "lib/base/err.h"

#define GUARDIAN_MOUNTS_MAX 256

/* Of this layout and of the words below: agent and guardian are of one version. 8 bytes. */
#define GUARDIAN_PAGE_MAGIC  "AMBRFRZ1"
#define GUARDIAN_PAGE_PREFIX "freeze-" /* of the files' names */

/* What the guardian process is started with. */
#define GUARDIAN_NAME	   "ambro-guardian"
#define GUARDIAN_FD_SOCKET 3
#define GUARDIAN_FD_PAGE   4

/* What the agent says, a byte each; the other side reads them one by one, so descriptors come with the word they were sent with. */
#define GUARDIAN_WAKE	'w' /* look at the deadline */
#define GUARDIAN_MOUNTS 'm' /* descriptors come with it */
#define GUARDIAN_HOLD	'h' /* these were all; answered with the same */
#define GUARDIAN_LET_GO 'l' /* close them; answered with the same */
/* The kernel passes 253 at once. */
#define GUARDIAN_MOUNTS_AT_ONCE 128u

/* 0 or 1: grace periods by interrupting all processors, fast and rude */
#define RCU_EXPEDITED_PATH "/sys/kernel/rcu_expedited"

enum guardian_mount_state {
	GUARDIAN_IDLE,
	GUARDIAN_FREEZING, /* FIFREEZE is under way, or we died in it */
	GUARDIAN_FROZEN,
	GUARDIAN_THAWED,
};

/* Written by the agent unless said otherwise. */
struct guardian_page {
	char magic[8];			  /* of this layout */
	char path[48];			  /* of the file; empty: there is none */
	atomic_uint_fast64_t deadline_ns; /* CLOCK_MONOTONIC; 0: not frozen, nothing to watch */
	/* by the guardian: the deadline passed; by the keeper: the guardian is gone; they thaw (or have) */
	atomic_bool expired;
	atomic_uint_fast64_t thawed_ns; /* by the same: when they had, CLOCK_MONOTONIC */
	atomic_bool rcu_was_off;	/* rcu_expedited is to be set back to 0 */
	struct pace_pusher pusher;
	uint32_t mounts;
	/* as /proc/self/mountinfo names the file systems: mount ids are others in another name space */
	uint64_t device[GUARDIAN_MOUNTS_MAX];
	/* enum guardian_mount_state, in mount order; the guardian makes FROZEN to THAWED */
	atomic_int state[GUARDIAN_MOUNTS_MAX];
};

/* A new one, and the descriptor of its file, the caller's to close. Or a negative errno. */
int guardian_page_new(struct guardian_page **ret);
/* All is thawed: the file goes, if there is one. Allocates nothing. */
void guardian_page_remove(const struct guardian_page *p);
/* Unmap it. Accepts NULL. */
void guardian_page_free(struct guardian_page *p);
/* Thaw whatever may be frozen of @fds, which are the page's mounts, in its order. Blocks as FITHAW does; allocates nothing. */
void guardian_page_thaw(struct guardian_page *page, const int *fds);
/* The same, because the time is over: what is read from now on is worth nothing. */
void guardian_page_expire(struct guardian_page *page, const int *fds);
/* Set rcu_expedited to 0; async-signal-safe. */
int guardian_rcu_restore(void);

/* ---- guardian_recover.c, not of the guardian's program ------------------------------------------------ */

/* Say which mounts it is about: all GUARDIAN_IDLE. @count <= GUARDIAN_MOUNTS_MAX. Reads mountinfo. 0 or a negative errno. */
int guardian_page_name(struct guardian_page *p, const int *fds, uint32_t count);
/* Deal with files that nobody has locked. How many file systems were thawed, or a negative errno if that failed for one. */
int guardian_page_recover(void);
