/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run_child - this program once more, as a child: one verb of a periodic capture.
 *
 * A process for each verb, because a verb has the process for itself (its options, its signals, its secrets, which are
 * gone with it), and because whoever has to write down how a capture ended must outlive it, were it killed for want of memory.
 *
 * SIGTERM, SIGINT and SIGHUP must be blocked by the caller. They are passed on to the child while it runs, unless the terminal
 * has sent them to both; the child ends as it likes. Blocks until the child and all that hold its output have ended.
 */
#pragma once

#include <stdbool.h>

#include "ctl/run_conf.h"
#include "lib/base/err.h"

#define RUN_CHILD_OUTPUT_MAX (16u << 20)

struct run_child_end {
	int code;	  /* the exit code; 128 + the signal's number when it was killed */
	bool interrupted; /* we were told to stop */
	char *output;	  /* what it wrote to stdout, terminated; owned */
	char error[ERR_TEXT_MAX]; /* the last line that it wrote to stderr, which has been passed on, or "" */
};

/* With --socket and the words of @w. Negative errno when it could not be run at all. */
int run_child(const char *socket, const struct run_words *w, struct run_child_end *ret,
	      struct err *e);
void run_child_end_done(struct run_child_end *end);
