/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapshot - the seam between how an instant is had and how it is read.
 *
 * A provider hands out ranges of bytes to read: begin() the first, next() those to be read again. The read
 * loop is one for all of them:
 *
 *	begin(s)
 *	read plan_used(s->plan)
 *	while (next(s, &ranges) == 1)
 *		read ranges, everything into memory, before next() is called again
 *	end(s)
 *
 * When next() has returned 0, and only then, the last reading of every chunk shows the one instant
 * s->instant_ns. A provider never knows about images, the reader never knows about strategies.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/capture_status.h"
#include "agent/disk.h"
#include "agent/plan.h"
#include "agent/together.h"
#include "agent/tracker.h"
#include "agent/usedmap.h"
#include "lib/base/cancel.h"

struct snapshot;

struct snapshot_ops {
	const char *name; /* as in --strategy and in the manifest */
	bool one_pass;	  /* next() never hands out anything */
	bool below;	  /* stands below the disk: the image may be written to the disk itself */
	/* 0, or a negative errno and why it cannot be done for @d on this kernel. Changes nothing. */
	int (*able)(const struct disk *d, struct err *e);
	/* Makes s->map. May block long. 0 or a negative errno. */
	int (*begin)(struct snapshot *s, struct err *e);
	/*
	 * Everything handed out before has been read into memory. Returns 1 with ranges to read again
	 * (owned by the provider until the next call), 0 when done, or a negative errno. s->frozen then
	 * says whether file systems stand still until the next call: read fast, allocate nothing, do
	 * not log, do not wait for the output.
	 */
	int (*next)(struct snapshot *s, const struct extent_set **ret, struct err *e);
	/*
	 * A pass failed with @r, which @e explains. Returns @r, or, when it was the provider's fault, another
	 * errno with a better explanation in @e. NULL: it never is.
	 */
	int (*failed)(struct snapshot *s, int r, struct err *e);
	/*
	 * Is what s->fd shows lost, and can next() go on in another way all the same? What was not read by then comes
	 * to it in s->unread. NULL: never.
	 */
	bool (*lost)(struct snapshot *s);
	/* Undo whatever stands, at any point, also after a failed begin(). Idempotent. */
	void (*end)(struct snapshot *s);
};

struct snapshot {
	const struct snapshot_ops *ops;
	/* set by the owner before begin() */
	struct disk *disk;
	const struct capture_request *request;
	struct capture_status *status;
	struct cancel *cancel;
	struct together *together; /* with other disks at one instant; NULL: alone */
	/* set by the owner after begin() */
	struct plan *plan;
	uint64_t capacity;  /* chunks that can be read without waiting for the output */
	uint64_t read_rate; /* bytes per second, as measured so far */
	/* called before a freeze that needs this many chunks of memory at once: make them ready */
	/* what a pass did not read because lost() had said so; the owner's */
	const struct extent_set *unread;
	int (*reserve)(void *ctx, uint64_t chunks, struct err *e);
	void *reserve_ctx;
	/* set by the owner to the disk's; a provider may put the descriptor of a snapshot in its place */
	int fd;
	/* set by the provider */
	struct usedmap *map;
	bool frozen;
	bool hurry; /* hooks are frozen: read without a limit and at the usual priority */
	const char *guarantee; /* once next() has returned 0 */
	uint64_t instant_ns;   /* CLOCK_REALTIME */
	/*
	 * NULL: nothing tracks the disk. The provider's, from begin() to end(); begin() has opened an era of it. Once next()
	 * has returned 0, whatever the image does not show is or will be marked with `era` or a later one (I1 of increment.c).
	 */
	struct tracker *tracker;
	uint32_t era; /* 0: not known */
	void *state;
};

/*
 * For a provider that can do without: track the disk, if that is possible, and open an era. Sets tracker and era; the caller
 * frees the former.
 */
void snapshot_track(struct snapshot *s);

/*
 * Go on as precopy where another provider ended: what was read shows one instant, era @era of @t (taken over) was opened before
 * it, s->map is of it; s->unread was not read. @fd, if any, is closed at the end. Blocks not.
 */
int snapshot_go_on_as_precopy(struct snapshot *s, struct tracker *t, uint32_t era, int fd,
			      struct err *e);

extern const struct snapshot_ops snapshot_precopy;
extern const struct snapshot_ops snapshot_offline;
extern const struct snapshot_ops snapshot_still;
extern const struct snapshot_ops snapshot_dm;
extern const struct snapshot_ops snapshot_kmod;
