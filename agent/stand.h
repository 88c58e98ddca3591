/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stand - standing the file systems of a snapshot's disk still, with patience: for the providers that freeze.
 *
 * freeze.h freezes once. This finds out what is mounted, waits while somebody else has it frozen, leaves the writers
 * alone after an attempt that came to nothing, and notes every freeze in the capture's status.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/freeze.h"
#include "agent/guardian.h"
#include "agent/hooks.h"
#include "agent/snapshot.h"
#include "agent/tracker.h"

/* Freezes that came to nothing before we give up. */
#define STAND_ATTEMPTS_MAX 5u
/* Writers are left alone so many times as long as they had to stand. */
#define STAND_REST_TIMES 4u

struct stand {
	struct freeze *freeze;	  /* armed, or NULL */
	struct guardian guardian; /* from stand_prepare() or stand_arm() to stand_disarm() */
	int *ids;		  /* mount ids, in the order of @freeze's mounts */
	size_t count;
	uint64_t stood_ns; /* the last freeze */
	unsigned int attempts;
	struct hooks *hooks; /* frozen, or NULL */
};

/* Begin to start the guardian, which takes its time, so that stand_arm() need not wait for it. Never fails, may do nothing. */
void stand_prepare(struct stand *st);
/*
 * Look at the mounts of all the @n disks as they are now and make their freeze ready, at the shortest of their deadlines: from
 * now on they cannot be unmounted.
 */
int stand_arm(struct snapshot *const *all, unsigned int n, struct stand *st, struct err *e);
/* Let go of them; thaws if need be. The guardian stays for the next stand_arm(). Accepts one that was never armed. */
void stand_ease(struct stand *st);
/* The same, and the guardian need not stay; it may take its time to end. */
void stand_dismiss(struct stand *st);
/* The same, and nothing is left of it. */
void stand_disarm(struct stand *st);
/* After stand_begin(): did all stand still, none of a kind that cannot? */
bool stand_all_frozen(const struct stand *st);
/*
 * Flush all the @n disks and run the hooks that are to be run before they are frozen. 1: the hooks are frozen, and nothing is armed;
 * 0: there are none, and nothing was done; or as hooks_freeze(). Blocks as long as they take.
 */
int stand_hold(struct snapshot *const *all, unsigned int n, struct stand *st, struct err *e);
/* Are the hooks frozen still (also if there are none)? Else -EAGAIN, with words. Never blocks. */
int stand_held(const struct stand *st, struct err *e);
/* Run the hooks that are to be run after a thaw, if any were run before. */
void stand_release(struct stand *st);
/* Freeze. -EBUSY only when somebody else's freeze lasted ten seconds. -ECANCELED. As freeze_begin() else. */
int stand_begin(struct snapshot *s, struct stand *st, struct err *e);
/* As freeze_thaw(). Every thaw goes through here, so that no freeze is left out of the status. */
int stand_thaw(struct snapshot *s, struct stand *st, struct err *e);
/* Sleep; -ECANCELED when the capture is cancelled meanwhile. */
int stand_wait(struct snapshot *s, uint64_t ns, struct err *e);
/*
 * A freeze that came to nothing, or was not tried; @e says why. Disarms, and leaves the writers alone for a while: 0.2 s,
 * then twice as long each time, and always four times as long as they had to stand. 0: try again.
 */
int stand_rest(struct snapshot *s, struct stand *st, struct err *e);
/*
 * What can be promised of an instant at which the freeze held. A file system that cannot be frozen (vfat) was
 * flushed in its turn; it is as good as frozen if nothing was written to it since era @quiet of @tracker (NULL: nobody
 * knows), which was opened well before. Less than that would not do: an operation may have written its first half
 * before the freeze and have the other half still in memory. Never allocates.
 */
const char *stand_guarantee(const struct snapshot *s, const struct stand *st,
			    const struct tracker *tracker, uint32_t quiet);
