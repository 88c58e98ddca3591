/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * together - captures of several disks that show one instant: the place where their threads meet.
 *
 * Each joins by the same name, makes ready what it can alone, and comes to the meeting. The last to come does what is
 * to be done, for all of them, while the others wait; its result is everybody's. A member that fails, is cancelled, or does not
 * come in time breaks it for all. Thread-safe.
 */
#pragma once

#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"

#define TOGETHER_MAX	  16u
#define TOGETHER_NAME_MAX 64u
/* So long the first waits for the others to join and to make ready. */
#define TOGETHER_WAIT_MS 120000u

struct together;

/*
 * Join the meeting @name of @count members, which is made by the first. -EBUSY: it is full, or of another count.
 */
int together_join(const char *name, unsigned int count, struct together **ret, struct err *e);
/* Done with it; if it is not over (@why is what happened, may be NULL), it is broken for the others. Accepts NULL. */
void together_leave(struct together *t, const struct err *why);

/*
 * Come to the meeting with @member, and wait for the others. The last calls @act for all members, in no order. Returns its
 * result, or -ECANCELED, -ETIME, or why another member broke it. May be called again, by all.
 */
int together_meet(struct together *t, void *member, struct cancel *cancel,
		  int (*act)(void *const *members, unsigned int count, struct err *e),
		  struct err *e);
/* All that is to be done together is done: leaving breaks nothing any more. */
void together_over(struct together *t);
