/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guardian - the process that thaws what the agent froze when the agent cannot.
 *
 * A process of its own, because a thread dies with its process, and a program of its own (guardian_main.c), because a capture waits
 * for its start: the agent's program takes 5 ms of a processor to link, and as much again to lock its memory. It shares one page with the
 * agent and has one end of a socket: end of file there means that the agent is gone. On it the file systems' descriptors come to it before
 * a freeze (guardian_hold()), and it lets go of them when they may be unmounted again; so one process serves all freezes of a capture.
 *
 * A killed process closes nothing before its last thread has ended, and a thread that waits for a disk may take
 * its time. So the guardian is the child of a thread that never touches a disk, the keeper, and asks the kernel
 * for a signal when that one ends, which is at once. The keeper in its turn watches the guardian: where that
 * is killed first, it thaws.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/guardian_page.h"
#include "lib/base/err.h"

struct guardian {
	int pid;
	int socket;
	struct guardian_page *page;
	const int *fds; /* the mounts', borrowed; NULL: it holds none */
	/* the keeper's */
	pthread_t keeper;
	bool kept; /* it runs */
	bool met;  /* `spawned` was waited for */
	sem_t spawned;
	int theirs, page_fd; /* for the guardian; the keeper's */
	int result;	     /* of spawning it; once `met` */
	atomic_bool dismissed;
};

/*
 * The program to start, opened once for all: who replaces the file, a package's upgrade say, does not put another version under a
 * running agent. @path, or NULL: beside our own program, or in ../libexec/ambro from there. Before everything else here, by one thread.
 */
int guardian_open(const char *path, struct err *e);
/*
 * Begin to start one. Does not wait until it is up: guardian_hold() does. @g (zeroed, or stopped) may not move until
 * guardian_stop(). 0 or a negative errno.
 */
int guardian_start(struct guardian *g, struct err *e);
/*
 * Give it the mounts, and wait until it has them: from then on it thaws. Started if it is not, or was and is gone.
 * @fds: in mount order, @count <= GUARDIAN_MOUNTS_MAX; borrowed until guardian_let_go() or guardian_stop(). On failure it
 * is stopped.
 */
int guardian_hold(struct guardian *g, const int *fds, uint32_t count, struct err *e);
/* All is thawed: it closes them, and waits for others. One that does not answer is stopped. Accepts one that holds none. */
void guardian_let_go(struct guardian *g);
/* Look at the deadline that is now in the page. Never blocks. -EPIPE: it is gone. */
int guardian_wake(struct guardian *g);
/* It holds none, and nobody will need it any more: it may end while others work. guardian_stop() waits for that. */
void guardian_dismiss(struct guardian *g);
/* All is thawed: dismiss it and wait for its end. Accepts a zeroed one; idempotent. */
void guardian_stop(struct guardian *g);
