/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * freeze - stand a set of file systems still for a moment, and never for longer.
 *
 * Invariants:
 *  F1. Before the first FIFREEZE a guardian process is armed. It thaws everything when its deadline passes
 *      or when the process that froze dies, whatever that process was doing. Where both are killed, the next start does
 *      (freeze_recover()).
 *  F2. Between the first FIFREEZE and the last FITHAW we allocate nothing, open nothing, log nothing.
 *  F3. freeze_thaw() says whether the file systems stood still all the time: if the guardian (or anybody)
 *      thawed one earlier, what was read meanwhile is worth nothing.
 *  F4. rcu_expedited is put back to what it was, by us, by the guardian, or by freeze_recover() at the
 *      next start.
 *      The thread that freezes goes before others, and an XFS's kernel thread with it, for this time only
 *      (pace.h); the guardian puts that back too.
 *  F5. A file system that somebody else has frozen is not ours to thaw: -EBUSY, and nothing stays frozen.
 *
 * FIFREEZE itself flushes everything with the writers already standing (fs/super.c: freeze_super()), so
 * call freeze_sync() shortly before. Its floor is an RCU grace period, tens of milliseconds; with
 * rcu_expedited it is below one (facts: 22..62 ms against 0.2 ms for ext4).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/disk.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"

struct freeze;
struct guardian;

/*
 * Open the mount points of @mounts (in mount order) and start the guardian. @max_ms: the deadline, counted
 * from freeze_begin(). @mounts is not kept. Blocks shortly.
 */
int freeze_new(const struct disk_mount *mounts, size_t count, unsigned int max_ms,
	       struct freeze **ret, struct err *e);
/* The same, with a guardian of the caller's (guardian.h), which is started if need be and outlives the freeze. */
int freeze_new_guarded(struct guardian *g, const struct disk_mount *mounts, size_t count,
		       unsigned int max_ms, struct freeze **ret, struct err *e);
/* Thaws if need be; the guardian is dismissed, or, if it is the caller's, lets go of the mounts. Accepts NULL. */
void freeze_free(struct freeze *f);
DEFINE_CLEANUP(struct freeze, freeze_free);

/*
 * syncfs() all of them, in order, and again while that makes what is left less. Blocks as long as it takes.
 */
int freeze_sync(struct freeze *f, struct err *e);
/* How long the last syncfs() of that took: about what FIFREEZE will take, if writing goes on as it did. */
uint64_t freeze_sync_ns(const struct freeze *f);
/*
 * Freeze all, in reverse mount order (what lies on top first: a file system in a loop device would
 * otherwise wait for ever for the one below). File systems that cannot be frozen (vfat) are flushed;
 * freeze_unfrozen() names them. On failure everything is thawed again. -EPIPE: the guardian is gone, make a new
 * freeze. freeze_thaw() is for the same thread.
 */
int freeze_begin(struct freeze *f, struct err *e);
/*
 * Thaw, in mount order. Returns 0 when all stood still from the end of freeze_begin() until now; -ETIME
 * when the deadline passed; -EINVAL when somebody else thawed. Always leaves everything thawed.
 */
int freeze_thaw(struct freeze *f, struct err *e);

/*
 * Did mount @i (of those given to freeze_new()) not stand still, because its kind cannot be frozen? It was
 * flushed instead. Known after freeze_begin().
 */
bool freeze_unfrozen(const struct freeze *f, size_t i);
/* Nanoseconds of the last freeze: from before the first FIFREEZE until after the last FITHAW. */
uint64_t freeze_duration_ns(const struct freeze *f);
/* Has the deadline passed? Cheap, for the middle of a long read. */
bool freeze_expired(const struct freeze *f);

/*
 * Put right what an agent and a guardian that were both killed may have left: rcu_expedited, and file systems that stand still.
 * How many were thawed, or a negative errno.
 */
int freeze_recover(void);
