/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * still - a disk whose file systems are all mounted read-only: one pass, for kernels that cannot track writes.
 *
 * Nothing is frozen and nobody is kept out, so it has to be proved afterwards that nobody wrote: the kernel counts
 * what completes on a disk and what is in flight. One write while we read, to
 * whatever part of the disk, and the reading is worth nothing. A passthrough command (SG_IO) is not counted.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/disk_mounts.h"
#include "agent/pause.h"
#include "agent/snapshot.h"
#include "lib/base/io.h"
#include "lib/layout/sysblock.h"

/* What the kernel has counted of a whole disk. */
struct still_counts {
	/* sectors and not requests: a flush counts as a write of none, and the agent's own tools may cause one */
	uint64_t written, discards, discarded;
	uint64_t in_flight; /* writes that are not in `written` yet */
};

static int still_count(dev_t whole, struct still_counts *ret)
{
	struct still_counts c;
	uint64_t counting;
	char line[512];
	ssize_t n;
	int r;

	r = sysblock_u64(whole, "queue/iostats", &counting);
	if (r < 0)
		return r;
	if (!counting)
		return -ENODATA;
	/* this first: what leaves it is in the counts by then */
	n = sysblock_text(whole, "inflight", line, sizeof(line));
	if (n < 0)
		return (int)n;
	/* NOLINTBEGIN(cert-err34-c): the kernel's own numbers */
	if (sscanf(line, "%*u %" SCNu64, &c.in_flight) != 1)
		return -EIO;
	n = sysblock_text(whole, "stat", line, sizeof(line));
	if (n < 0)
		return (int)n;
	if (sscanf(line,
		   "%*u %*u %*u %*u %*u %*u %" SCNu64 " %*u %*u %*u %*u %" SCNu64 " %*u %" SCNu64,
		   &c.written, &c.discards, &c.discarded) != 3)
		return -EIO;
	/* NOLINTEND(cert-err34-c) */
	*ret = c;
	return 0;
}

static int still_look(const struct snapshot *s, struct still_counts *ret, struct err *e)
{
	int r = still_count(s->disk->whole, ret);

	if (r == -ENODATA) {
		return err_set(e, -ENOTSUP,
			       "the kernel does not count the writes to %s: write 1 to its "
			       "queue/iostats in sysfs",
			       s->disk->path);
	}
	return r < 0 ? err_set_errno(e, r, "cannot read how much was written to %s", s->disk->path)
		     : 0;
}

/* Is everything on @d mounted read-only, and nothing else done with it? 0, or -EBUSY and what is. */
static int still_able(const struct disk *d, struct err *e)
{
	struct stack_target t = { .device = d->device, .whole = d->whole };
	dev_t devices[SYSBLOCK_LINKS_MAX];
	bool hidden = false;
	int n;

	for (size_t i = 0; i < d->n_mounts; i++) {
		if (!d->mounts[i].read_only) {
			return err_set(e, -EBUSY, "%s is mounted for writing on %s", d->path,
				       d->mounts[i].path);
		}
	}
	if (disk_mounts_used(&t))
		return err_set(e, -EBUSY, "%s is swapped on, or part of a volume", d->path);
	n = disk_devices(d, devices);
	for (int i = 0; i < n; i++)
		hidden |= disk_hides(d, devices[i]);
	if (hidden)
		return err_set(e, -EBUSY, "%s is mounted where the agent cannot see it", d->path);
	return 0;
}

static int still_begin(struct snapshot *s, struct err *e)
{
	struct still_counts *c;
	int r;

	r = still_able(s->disk, e);
	if (r < 0)
		return r;
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_oom(e);
	s->state = c;
	snapshot_track(s);
	r = still_look(s, c, e);
	if (r < 0)
		return r;
	s->instant_ns = io_realtime_ns();
	r = usedmap_make(s->disk, USEDMAP_LIVE, &s->map, e);
	if (r >= 0)
		pause_at("mapped");
	return r;
}

static int still_next(struct snapshot *s, const struct extent_set **ret, struct err *e)
{
	const struct still_counts *before = s->state;
	struct still_counts now = { 0 };
	int r;

	(void)ret;
	r = disk_refresh_mounts(s->disk, e);
	if (r >= 0)
		r = still_able(s->disk, e);
	if (r >= 0)
		r = still_look(s, &now, e);
	if (r < 0)
		return r;
	if (now.in_flight || now.written != before->written || now.discards != before->discards ||
	    now.discarded != before->discarded) {
		return err_set(e, -EBUSY, "%s was written to while it was read: capture it again",
			       s->disk->path);
	}
	s->guarantee = "filesystem-consistent";
	return 0;
}

static void still_end(struct snapshot *s)
{
	tracker_free(TAKE_PTR(s->tracker));
	free(s->state);
	s->state = NULL;
}

const struct snapshot_ops snapshot_still = {
	.name = "still",
	.one_pass = true,
	.able = still_able,
	.begin = still_begin,
	.next = still_next,
	.end = still_end,
};
