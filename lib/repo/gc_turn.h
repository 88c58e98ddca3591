/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc_turn - a prune and a repair do not work on a repository at the same time.
 *
 * Each puts a note of its kind (gc/prune-…, gc/repair-…) before it looks at anything else in the repository, and lists the
 * other's after that. Whoever sees one takes its own note away and gives up, so perhaps both do. That neither sees the other
 * cannot be: then the prune's listing began before the repair's put had ended, and the repair's listing, which began after
 * that, before the prune's put had ended, which had ended before the prune's listing began (S1, S4 of store.h).
 *
 * Several prunes, or several repairs, may work at the same time.
 *
 * A note stays when its owner is killed. It counts for as long as its owner may change anything, which that one looks at by
 * CLOCK_BOOTTIME before every change (gc_turn_goes_on()), and GC_CLOCK_SLACK_NS; then the next who meets it takes it away. Who
 * knows that no other prune or repair is at work says so ("alone"), and then all that are there are taken away at once.
 *
 * One thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/gc_clock.h"
#include "lib/repo/gc_object.h"
#include "lib/repo/repo.h"

/* How long each may take. A repair reads every byte of the repository. */
#define GC_TURN_PRUNE_NS  GC_GRACE_DEFAULT_NS
#define GC_TURN_REPAIR_NS (7 * GC_GRACE_DEFAULT_NS)

struct gc_turn {
	struct repo *repo;	  /* borrowed; NULL: there is nothing to give back */
	struct gc_object note;	  /* GC_PRUNE or GC_REPAIR */
	struct gc_clock put;	  /* right before the note was put, */
	struct gc_clock answered; /* and right after */
	uint64_t since_ns;	  /* CLOCK_BOOTTIME of this process, before */
};

/*
 * @kind GC_PRUNE or GC_REPAIR. @clock: the time now, or NULL: of the machine. -EBUSY: the other one is at work, or was killed
 * and may not be forgotten yet. Blocks. Ends in gc_turn_end(), however it ended.
 */
int gc_turn_begin(struct gc_turn *t, struct repo *r, enum gc_kind kind,
		  const struct gc_clock *clock, bool alone, struct err *e);
/* Before every change: -ESTALE when the time is over. */
int gc_turn_goes_on(const struct gc_turn *t, struct err *e);
/* Takes the note away. That it stays when this fails does no harm but to make others wait. */
void gc_turn_end(struct gc_turn *t);
