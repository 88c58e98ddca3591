/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mapper - device-mapper devices, by libdevmapper.
 *
 * Everything that we make has a uuid that begins with MAPPER_UUID_PREFIX, by which udev leaves it alone and a later
 * agent knows it. No udev cookies: nodes are the kernel's own (/dev/dm-N, mapper_path()), so nothing here waits for
 * udev. Every function needs CAP_SYS_ADMIN and may block, but mapper_resume_run(). Not thread-safe: the library is not;
 * calls of different captures are serialised inside.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/dm-ioctl.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"

/*
 * "CRYPT-SUBDEV-" is what cryptsetup calls a private part of another device: LVM (2.02.98 and later) does not look into
 * such, so it does not find the volumes of a captured disk a second time in its snapshot (measured).
 */
#define MAPPER_UUID_PREFIX  "CRYPT-SUBDEV-AMBRO-"
#define MAPPER_NAME_PREFIX  "ambro-" /* of every device that we make */
#define MAPPER_NAME_MAX	    128	     /* DM_NAME_LEN */
#define MAPPER_TYPE_MAX	    16	     /* DM_MAX_TYPE_NAME */
#define MAPPER_CONTROL_PATH "/dev/mapper/control"
#define MAPPER_SECTOR	    512u

/* One line of a table; sectors of 512 bytes. */
struct mapper_target {
	uint64_t start, length;
	char type[MAPPER_TYPE_MAX];
	char *params;
};

struct mapper_table {
	struct mapper_target *targets;
	size_t count, allocated;
};

/* Add a target behind what is there. 0 or -ENOMEM. */
int mapper_table_add(struct mapper_table *t, uint64_t length, const char *type, const char *format,
		     ...) __attribute__((format(printf, 4, 5)));
uint64_t mapper_table_length(const struct mapper_table *t); /* sectors */
void mapper_table_done(struct mapper_table *t);
#define _cleanup_table_ _cleanup_(mapper_table_done)

/* Is there device-mapper at all? A node may be there without. */
bool mapper_present(void);
/* Can this kernel do snapshots? 0, or -ENOTSUP and what is missing. Makes the kernel load its module. */
int mapper_able(struct err *e);

/* A device without a table. -EBUSY: the name or uuid is taken. */
int mapper_create(const char *name, dev_t *ret, struct err *e);
/* Into the inactive slot, in place of what is there. Nothing changes for I/O. */
int mapper_load(const char *name, const struct mapper_table *t, bool read_only, struct err *e);
/* Empty the inactive slot. 0 also when it was empty. */
int mapper_clear(const char *name, struct err *e);
/*
 * The inactive table takes over; without one, a suspended device goes on. File systems are not frozen for it (they
 * are, or it is not needed).
 */
int mapper_resume(const char *name, struct err *e);
/* 0 also when there is no such device. -EBUSY: something has it open; tried for a second. */
int mapper_remove(const char *name, struct err *e);

struct mapper_info {
	bool exists, inactive, suspended; /* inactive: has an inactive table */
	dev_t device;
};
int mapper_info(const char *name, struct mapper_info *ret, struct err *e);
/* The table that is active, or (status) what each target says of itself. @ret is empty before. */
int mapper_read(const char *name, bool status, struct mapper_table *ret, struct err *e);
/* The name of device @dev. -ENXIO: not a device-mapper device. */
int mapper_name(dev_t dev, char ret[static MAPPER_NAME_MAX], struct err *e);
/* Names of all devices whose name begins with @prefix; a list for text_list_free(). */
int mapper_names(const char *prefix, char ***ret, struct err *e);
/* The kernel's node of it. */
void mapper_path(dev_t dev, char *buf, size_t size);

/*
 * A resume that is ready to be done while file systems stand still: run() is one ioctl, it neither allocates nor
 * opens. The kernel suspends, swaps the table and resumes, in this one call.
 */
struct mapper_ready {
	int fd; /* of the control node; borrowed */
	struct dm_ioctl io;
};
int mapper_control_open(struct err *e); /* a descriptor, the caller's */
void mapper_resume_prepare(int control_fd, const char *name, struct mapper_ready *ret);
int mapper_resume_run(struct mapper_ready *m); /* 0 or a negative errno */
