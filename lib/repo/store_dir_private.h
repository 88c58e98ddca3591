/* SPDX-License-Identifier: GPL-2.0-or-later */
/* store_dir_private - what the files of a store in a directory share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/repo/store.h"

struct store_dir {
	struct store base;
	int fd;
	bool sync;
	char path[]; /* for words */
};

/* What store_dir_step() says to a step. */
int store_dir_ask(const char *step);

/* The folder @name (one part) of @above, never through a symbolic link. Returns a descriptor, or a negative errno. */
int folder_at(int above, const char *name);
/*
 * The folder that @name is in ("packs/4f" of "packs/4f/4f0c"), made when it is not there if @make. Returns a descriptor, or a
 * negative errno; *@last: what is left of @name.
 */
int folder_open(const struct store_dir *d, const char *name, bool make, const char **last);
/* Make a folder's names durable. */
int folder_flush(const struct store_dir *d, int fd);
/* Step 7: the folder that @name is in, and all above it. */
int folder_settle(const struct store_dir *d, const char *name);
/* A regular file's size; what is there and is none is -EISDIR. */
int folder_size(int folder, const char *last, uint64_t *ret);
