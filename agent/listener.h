/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * listener - a Unix stream socket under a path, of which there is only one alive.
 */
#pragma once

#include <sys/types.h>

#include "lib/base/err.h"

struct listener {
	int fd;
	char *path; /* to be removed in the end; NULL: not ours */
	dev_t dev;
	ino_t ino;
};

/*
 * Listen on @path, mode 0666, making its directory when it is missing (0755). A socket that is there and
 * that nobody answers on is replaced; -EADDRINUSE when somebody does, -EEXIST when it is no socket. Blocks
 * up to a few seconds while another process is doing the same.
 */
int listener_open(const char *path, struct listener *ret, struct err *e);
/* Check and take over a listening socket. */
int listener_take(int fd, struct listener *ret, struct err *e);
void listener_close(struct listener *l);
