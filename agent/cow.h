/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cow - the COW store of a snapshot: where what the source overwrites is kept until it was read.
 *
 *	file	preallocated on a file system of the source itself, and written below it: the store is a device-mapper
 *		table of the file's extents, so nothing of it goes through the file system. The file is immutable
 *		and must not lose its blocks while the table exists: it is removed after the table, never before.
 *	ram	memory, allocated and locked beforehand, behind a loop device
 *	device	another block device, or a file on another file system behind a loop device
 *
 * A store has all its room from the start. It is transient: nothing of it means anything after a reboot. Blocks,
 * needs CAP_SYS_ADMIN and CAP_LINUX_IMMUTABLE.
 */
#pragma once

#include <stdint.h>

#include "agent/cow_store.h"
#include "lib/base/err.h"

/* Make one. On failure cow_remove() is still to be called. -ENOSPC: no room, @e says where. */
int cow_make(const struct cow_wish *w, struct cow *c, struct err *e);
/* Give everything back. The device-mapper device that used the table must be gone. Accepts a zeroed one. */
void cow_remove(struct cow *c);
/* The same where a device may still write to it: a file stays, for cow_file_sweep(). */
void cow_abandon(struct cow *c);
const char *cow_kind_name(enum cow_kind k); /* "file", "ram", "device" */

/*
 * How much a capture is likely to need: twice what is written in the time that reading @used bytes takes, or a
 * tenth of them, whichever is more; at least 256 MiB, never more than the source. @rate: bytes written per second.
 */
uint64_t cow_size(const struct disk *d, uint64_t used, uint64_t rate);
