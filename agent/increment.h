/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * increment - how much of a disk has to be read and stored, given an image that was made of it before (the parent).
 *
 *	full	  there is no parent, or it is of another shape: all that is in use is read and stored
 *	compared  all that is in use is read; what has the parent's id is not stored again
 *	tracked	  what was written since the parent is read, and a few chunks besides, to see whether that is true
 *
 * Calls, in this order; all but increment_compare() by one thread:
 *
 *	increment_new()		before anything is tracked, frozen, or snapshotted: it waits for the client
 *	increment_choose()	when the provider has begun
 *	increment_plan()	when the image has begun
 *	increment_compare()	by the pipeline's workers
 *	increment_conclude()	when all is read and went through the pipeline, before the manifest is written
 */
#pragma once

#include <stdbool.h>

#include "agent/capture_status.h"
#include "agent/snapshot.h"
#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/base/extent.h"
#include "lib/image/image_writer.h"
#include "lib/image/manifest.h"

struct increment;

/* @parent_fd: see parent.h; -EBADF: none. Waits for the client's manifest. 0 or a negative errno. */
int increment_new(int parent_fd, struct cancel *cancel, struct increment **ret, struct err *e);
/* Borrows what it was given until here. Accepts NULL. */
void increment_free(struct increment *i);
/* The parent's chunk size in bytes, or 0 without a parent. */
uint32_t increment_chunk_size(const struct increment *i);

/*
 * Choose, and tell @status. @s has begun, and an era of s->tracker was opened by it. @m: regions, chunk size and disk size
 * of the image to be. A tracker that cannot help is no failure. 0 or -ENOMEM.
 */
int increment_choose(struct increment *i, struct snapshot *s, struct manifest *m,
		     struct capture_status *status, struct err *e);
enum increment_kind increment_kind(const struct increment *i);

/*
 * What the first pass has to read, into @ret (normalised, a part of plan_used()). When tracked, @w has said of all chunks of the
 * disk that they are SAME or FREE; what is read afterwards overrules that.
 */
int increment_plan(struct increment *i, const struct plan *plan, struct image_writer *w,
		   struct extent_set *ret, struct err *e);

/*
 * @c was read as @plain; @id is its id, or NULL: all zeros. *ret: the parent has the same data there. Thread-safe; may wait
 * for the client, so never while a file system is frozen.
 */
int increment_compare(struct increment *i, const struct plan_chunk *c, const void *plain,
		      const struct chunk_id *id, bool *ret, struct err *e);
/* Nobody shall wait for the client any more. From any thread; never blocks; accepts NULL. */
void increment_break(struct increment *i);

/*
 * Was all that was not read really the parent's? -EUCLEAN: a write was missed, and the tracker is not believed any more;
 * -ESTALE: tracking is in doubt. Fills what @m says of the increment, and the token for the next one.
 */
int increment_conclude(struct increment *i, struct manifest *m, struct err *e);
