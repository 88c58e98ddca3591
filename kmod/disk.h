/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * disk.h - making the gendisks of front and back, which look like the attached disk.
 */
#ifndef AMBRO_DISK_H
#define AMBRO_DISK_H

#include "attach.h"

struct disk_kind {
	const char *prefix; /* the id follows */
	const struct block_device_operations *fops;
	bool hidden; /* no node, no opener */
	bool erases; /* lets discard, secure erase, write zeroes and NOWAIT bios in */
};

/* With the module: a major number of our own, by which programs know that these are none of theirs. */
int disks_register(void);
void disks_unregister(void);

/* May sleep. The disk is live on success; disk_destroy() takes NULL. */
int disk_create(const struct disk_kind *kind, struct attachment *a, struct gendisk **ret_disk);
void disk_destroy(struct gendisk *disk);

#endif
