/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hook.h - the ftrace hook at the entrance of submit_bio_noacct(). It is there while at least one
 * attachment is hooked.
 */
#ifndef AMBRO_HOOK_H
#define AMBRO_HOOK_H

#include "attach.h"

/* May sleep; callers serialise. After hook_remove() the hook knows nothing of @a any more. */
int hook_add(struct attachment *a);
void hook_remove(struct attachment *a);

/*
 * Read the first block of the disk and see whether the hook saw that bio. -EIO: it did not, or the
 * read failed. @a is hooked. Sleeps.
 */
int hook_prove(struct attachment *a);

/* The attachment of @disk, or NULL. Inside rcu_read_lock() or where attachments cannot change. */
struct attachment *hook_lookup(const struct gendisk *disk);

#endif
