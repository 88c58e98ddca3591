/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * contents - what is on a disk, partition or file that is about to be overwritten, for the person who has
 * to say yes to it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"

struct content {
	unsigned int partition; /* 0: the whole */
	uint64_t start, length; /* bytes */
	char *type, *label;	/* as libblkid says; NULL: nothing known */
	char *last_mounted;	/* ext2/3/4 remember it; NULL: unknown */
};

struct contents {
	char table[16]; /* "gpt", "dos", … or "" */
	struct content *items;
	size_t count;
	bool any_data; /* the first MiB, or a sample of the rest, is not all zeros */
};

/*
 * Look at @size bytes of @fd (borrowed), where the kernel knows of partitions of @device (0: a file) there
 * too. Nothing is written. Blocks. Returns 0 or a negative errno.
 */
int contents_probe(int fd, dev_t device, uint64_t size, struct contents **ret, struct err *e);
void contents_free(struct contents *c);
DEFINE_CLEANUP(struct contents, contents_free);

/* Nothing that anybody would miss. */
bool contents_empty(const struct contents *c);
/* A line for each thing, each after @indent. */
void contents_print(const struct contents *c, const char *indent, FILE *out);
