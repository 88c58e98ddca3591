/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * interpose - the seam between a device-mapper snapshot and how its origin comes under a live device.
 *
 *	prepare()   make the device below, on which the snapshot will stand; nothing changes for the source's I/O
 *	load()	    make ready what takes over, with the snapshot's table loaded already
 *	on()	    from here on every write of the source is seen by the snapshot-origin. Called while file systems
 *		    stand still: one or two ioctls, no allocation, no open
 *	check()	    has it been so ever since?
 *	off()	    the source's I/O goes to the disk as before; returns when none is on the old way any more
 *	undo()	    take down everything of prepare() and load(). Nothing else may stand on the device below any more
 *
 * off() and undo() may be called at any point, also after a failure, and again. A provider's devices have names that
 * begin with `name`, so that a later agent finds them (leftover.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/disk.h"
#include "agent/mapper.h"

struct interpose;

struct interpose_ops {
	const char *name; /* the strategy's */
	/* 0, or a negative errno and why it cannot be done for @d. Changes nothing. */
	int (*able)(const struct disk *d, struct err *e);
	int (*prepare)(struct interpose *i, struct err *e);
	int (*load)(struct interpose *i, struct err *e);
	int (*on)(struct interpose *i);
	int (*check)(struct interpose *i, struct err *e);
	int (*off)(struct interpose *i, struct err *e);
	int (*undo)(struct interpose *i, struct err *e);
};

struct interpose {
	const struct interpose_ops *ops;
	const struct disk *disk;
	char name[64]; /* "ambro-vda"; names of devices are this and "-snap", … */
	/* set by prepare(): the device that the snapshot stands on, and where the source lies in it */
	dev_t below;
	uint64_t below_size;  /* bytes */
	uint64_t below_start; /* bytes */
	void *state;
};

extern const struct interpose_ops interpose_dm;
extern const struct interpose_ops interpose_kmod;

/* 0 or -ENAMETOOLONG. undo() gives everything back. */
int interpose_init(struct interpose *i, const struct interpose_ops *ops, const struct disk *d,
		   struct err *e);
/* A kernel's name ("cciss!c0d0") as it stands in names of ours: in place. */
void interpose_plain_name(char *name);
/* The name of the device @role ("snap"): into @buf of MAPPER_NAME_MAX. */
void interpose_name(const struct interpose *i, const char *role, char buf[static MAPPER_NAME_MAX]);
