/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * newfile - a file that has its name only when it is complete.
 *
 * It is written without a name where the file system can (O_TMPFILE: whoever is killed leaves nothing), under
 * a hidden temporary name elsewhere, and is published in one step. Blocks. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"

struct newfile {
	int fd;	    /* O_WRONLY */
	int dir_fd; /* where it will be */
	char *name; /* in there */
	char *temp; /* temporary name in there, NULL: it has none */
	bool replace;
};

/*
 * Begin @path. Without @replace, a path that exists is -EEXIST now, and again when it comes into being before
 * newfile_publish(). With @replace a regular file is replaced in the end (a symbolic link to one is followed).
 * What is there and is no regular file is -EISDIR in any case.
 */
int newfile_open(const char *path, mode_t mode, bool replace, struct newfile **ret, struct err *e);
/* To the disk, give it its name, and the directory to the disk. May be called once. */
int newfile_publish(struct newfile *f, struct err *e);
/* What was not published is gone. */
void newfile_free(struct newfile *f);
DEFINE_CLEANUP(struct newfile, newfile_free);
