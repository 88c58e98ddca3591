/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cow_file - a COW store in a file of the very file system that is captured (cow.h).
 *
 *  C1. Its blocks are allocated, and that is on the medium, before anything is written to them past the file system.
 *  C2. They stay its blocks until nothing can write to them any more: the file is immutable, locked (flock) while its
 *      agent lives, and removed only when no device-mapper device of its name exists.
 *  C3. Nobody reads them through the file system: its extents are unwritten, so a read gives zeros.
 *
 * The file system that an image holds has the file, with nothing in it: cow_file_sweep() of an agent on the restored
 * system removes it.
 */
#pragma once

#include "agent/cow_store.h"
#include "lib/base/err.h"

/* Can @m hold one: ext4 or xfs, writable, directly on the source? */
bool cow_file_possible(const struct disk_mount *m);
/* Make one of @size bytes on @m: fills c->table, c->hidden, c->size. On failure cow_file_remove() is still due. */
int cow_file_make(const struct cow_wish *w, const struct disk_mount *m, uint64_t size,
		  struct cow *c, struct err *e);
void cow_file_remove(struct cow *c);
/* Remove files of stores that no agent and no device uses. Returns how many; best effort. */
unsigned int cow_file_sweep(void);
