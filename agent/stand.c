/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/stand.h"

#include <errno.h>
#include <time.h>

/* A file system that is unmounted between the look and the opening is worth another look. */
#define LOOKS_MAX 3u
/*
 * Somebody else's freeze (another capture of the disk, a backup of the virtual machine that we are) is over
 * soon: how often, and how long, we wait for that.
 */
#define BUSY_TRIES   100u
#define BUSY_WAIT_NS 100000000
/*
 * After a freeze that came to nothing the writers are left alone: the first time for so long, then twice as long
 * each time, and always so many times as long as they had to stand. What was in the way (a large flush, a
 * discard, a swap file) is often over by then.
 */
#define REST_NS UINT64_C(200000000)

int stand_arm(struct snapshot *s, struct stand *st, struct err *e)
{
	int r = -ESTALE;

	for (unsigned int i = 0; i < LOOKS_MAX && r == -ESTALE; i++) {
		stand_disarm(st);
		r = disk_refresh_mounts(s->disk, e);
		if (r >= 0) {
			r = freeze_new(s->disk->mounts, s->disk->n_mounts,
				       s->request->max_freeze_ms, &st->freeze, e);
		}
	}
	return r;
}

void stand_disarm(struct stand *st)
{
	freeze_free(TAKE_PTR(st->freeze));
}

static void stand_note(struct snapshot *s, struct stand *st)
{
	uint64_t us = freeze_duration_ns(st->freeze) / 1000;

	st->stood_ns = freeze_duration_ns(st->freeze);
	if (us > atomic_load(&s->status->freeze_us))
		atomic_store(&s->status->freeze_us, us);
}

int stand_begin(struct snapshot *s, struct stand *st, struct err *e)
{
	int r;

	for (unsigned int i = 0;; i++) {
		r = freeze_begin(st->freeze, e);
		if (r < 0)
			stand_note(s, st);
		if (r != -EBUSY || i == BUSY_TRIES)
			return r;
		r = stand_wait(s, BUSY_WAIT_NS, e);
		if (r < 0)
			return r;
	}
}

int stand_thaw(struct snapshot *s, struct stand *st, struct err *e)
{
	int r = freeze_thaw(st->freeze, e);

	stand_note(s, st);
	return r;
}

int stand_wait(struct snapshot *s, uint64_t ns, struct err *e)
{
	while (ns > 0) {
		uint64_t step = MIN(ns, (uint64_t)BUSY_WAIT_NS);

		if (cancel_raised(s->cancel))
			return err_set(e, -ECANCELED, "cancelled");
		nanosleep(&(struct timespec){ .tv_nsec = (long)step }, NULL);
		ns -= step;
	}
	return 0;
}

int stand_rest(struct snapshot *s, struct stand *st, struct err *e)
{
	uint64_t rest = MAX(REST_NS << st->attempts, st->stood_ns * STAND_REST_TIMES);

	stand_disarm(st);
	if (++st->attempts >= STAND_ATTEMPTS_MAX)
		return err_prefix(e, "gave up after %u attempts to freeze", st->attempts);
	return stand_wait(s, rest, e);
}

static uint64_t stand_region_length(const struct disk *d, uint64_t start)
{
	for (size_t i = 0; i < d->layout->n_regions; i++) {
		if (d->layout->regions[i].start == start)
			return d->layout->regions[i].length;
	}
	return 0;
}

const char *stand_guarantee(const struct snapshot *s, const struct stand *st,
			    const struct tracker *tracker, uint32_t quiet)
{
	for (size_t i = 0; i < s->disk->n_mounts; i++) {
		const struct disk_mount *m = &s->disk->mounts[i];
		uint64_t length = m->direct ? stand_region_length(s->disk, m->start) : 0;

		if (!freeze_unfrozen(st->freeze, i))
			continue;
		if (!length || !tracker ||
		    tracker_touched(tracker, quiet, s->disk->whole_offset + m->start, length))
			return "crash-consistent";
	}
	return s->disk->n_mounts ? "filesystem-consistent" : "crash-consistent";
}
