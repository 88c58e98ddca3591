/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file_sealer - encrypts what the agent writes into a pipe, on its way into a file or another pipe.
 *
 * A thread reads, seals and writes; the last segment is written by file_sealer_finish() only, so what a failed capture leaves
 * in a pipe is refused as cut off by whoever reads it.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/repo/sealed_writer.h"

struct file_sealer {
	int in, out; /* of the pipe; out: the agent's */
	/* where it goes */
	int fd;
	bool waits; /* it is a pipe or a socket */
	bool owned; /* fd is ours */
	struct cancel cancel;
	pthread_t thread;
	bool running;
	struct sealed_writer *writer; /* NULL: there is no sealer */
	/* the gate before the last segment; whole is set before it is opened */
	sem_t decided;
	bool whole;
	int result; /* once the thread has ended */
};

/*
 * Begin: @fd (borrowed) is written to, the agent gets ->out. @head is taken over in any case. Signals must be blocked: the
 * thread inherits it. file_sealer_done() after either.
 */
int file_sealer_begin(struct file_sealer *s, int fd, struct sealed_head *head, struct err *e);
/* The agent has its descriptor: ours is closed, so that its end is seen. */
void file_sealer_handed_over(struct file_sealer *s);
/* The agent has ended well: wait for what is still in the pipe, and write the last segment. @ret_bytes: written in all. */
int file_sealer_finish(struct file_sealer *s, uint64_t *ret_bytes, struct err *e);
/* Did writing fail, so that the agent's "broken pipe" is not the reason? Then @e tells why. Ends it. */
bool file_sealer_failed(struct file_sealer *s, struct err *e);
/* Ends what still runs. Accepts a zeroed one. */
void file_sealer_done(struct file_sealer *s);
