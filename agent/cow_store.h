/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cow_store - what a COW store is made of and wished to be (cow.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/disk.h"
#include "agent/mapper.h"
#include "agent/medium.h"
#include "lib/base/extent.h"

/* Names of such files, in the topmost directory of the mount, begin so. */
#define COW_FILE_PREFIX ".ambrotype-cow-"

enum cow_kind {
	COW_NONE,
	COW_FILE,
	COW_RAM,
	COW_DEVICE,
};

struct cow_wish {
	const char *where; /* "" or "auto"; "ram"; "file"; a block device; a directory */
	uint64_t size;	   /* bytes; 0: by cow_size() */
	bool less;	   /* less than @size will do, if there is no more room */
	const char *name;  /* of the source, for the file's name */
	const struct disk *disk;
	dev_t below;	      /* the device below the source … */
	uint64_t below_start; /* … and where the source begins in it, bytes */
};

struct cow {
	enum cow_kind kind;
	uint64_t size;		   /* bytes */
	struct mapper_table table; /* the store's device */
	struct extent_set hidden;  /* bytes of the source that the store lies in; normalised */
	char where[256];	   /* for people */
	char file[64];		   /* in directory @tree_fd */
	int tree_fd, fd;
	void *memory; /* locked */
	struct medium_view loop;
};
