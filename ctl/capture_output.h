/* SPDX-License-Identifier: GPL-2.0-or-later */
/* capture_output - where a captured image goes: a new file, stdout, or what is written into as it is. */
#pragma once

#include <stdbool.h>

#include "lib/base/err.h"
#include "lib/base/newfile.h"

struct capture_output {
	int fd;
	bool is_stdout;
	bool owned;	      /* fd is to be closed here: a FIFO and the like */
	struct newfile *file; /* behind fd, when it is a file */
};

/*
 * What is written into as it is, without a temporary name: a FIFO (waits for its reader), /dev/null. Returns 1 if it
 * was one, 0 if not.
 */
int capture_output_open_special(const char *path, struct capture_output *o, struct err *e);
/* Anything else, and nothing if that was one; "-" is stdout. @source: what may not be replaced. */
int capture_output_open(const char *path, const char *source, bool force, struct capture_output *o,
			struct err *e);
/* A file that was not published vanishes. */
void capture_output_done(struct capture_output *o);
