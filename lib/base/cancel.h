/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cancel - one "stop now" shared by the threads of a job.
 *
 * Raised once, never lowered. A thread that works polls cancel_raised() at every step; a thread that
 * waits in poll(2) adds cancel_fd(), which becomes readable for good. Thread-safe, and
 * cancel_raise() is async-signal-safe.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

struct cancel {
	atomic_bool raised;
	int event_fd;
};

/* Returns 0 or a negative errno. */
int cancel_init(struct cancel *c);
void cancel_done(struct cancel *c);
void cancel_raise(struct cancel *c);
bool cancel_raised(const struct cancel *c);
/* For poll(2), POLLIN; owned by @c. */
int cancel_fd(const struct cancel *c);
/*
 * Wait until @fd has one of @events. Returns 0, -ECANCELED when @c was raised first, or a negative
 * errno. POLLERR and POLLHUP count as ready: the read or write that follows tells why. @c may be NULL.
 */
int cancel_wait_fd(const struct cancel *c, int fd, short events);
