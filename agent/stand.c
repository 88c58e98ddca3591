/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/stand.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
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

/* Where is mount @id among those that are to be frozen? -1: nowhere. */
static ssize_t stand_find(const struct stand *st, int id)
{
	for (size_t i = 0; i < st->count; i++) {
		if (st->ids[i] == id)
			return (ssize_t)i;
	}
	return -1;
}

/* The mounts of all disks, each once, in the order of each disk. Borrows what they point to. */
static int stand_collect(struct snapshot *const *all, unsigned int n, struct stand *st,
			 struct disk_mount **ret, struct err *e)
{
	_cleanup_free_ struct disk_mount *mounts = NULL;
	size_t room = 1;

	for (unsigned int i = 0; i < n; i++)
		room += all[i]->disk->n_mounts;
	mounts = calloc(room, sizeof(*mounts));
	st->ids = calloc(room, sizeof(*st->ids));
	if (!mounts || !st->ids)
		return err_oom(e);
	for (unsigned int i = 0; i < n; i++) {
		const struct disk *d = all[i]->disk;

		for (size_t k = 0; k < d->n_mounts; k++) {
			if (stand_find(st, d->mounts[k].mount_id) >= 0)
				continue;
			st->ids[st->count] = d->mounts[k].mount_id;
			mounts[st->count++] = d->mounts[k];
		}
	}
	*ret = TAKE_PTR(mounts);
	return 0;
}

static int stand_arm_once(struct snapshot *const *all, unsigned int n, struct stand *st,
			  struct err *e)
{
	_cleanup_free_ struct disk_mount *mounts = NULL;
	unsigned int max_ms = UINT_MAX;
	int r = 0;

	for (unsigned int i = 0; i < n && r >= 0; i++) {
		max_ms = MIN(max_ms, all[i]->request->max_freeze_ms);
		r = disk_refresh_mounts(all[i]->disk, e);
	}
	if (r >= 0)
		r = stand_collect(all, n, st, &mounts, e);
	return r < 0 ? r
		     : freeze_new_guarded(&st->guardian, mounts, st->count, max_ms, &st->freeze, e);
}

int stand_arm(struct snapshot *const *all, unsigned int n, struct stand *st, struct err *e)
{
	int r = -ESTALE;

	for (unsigned int i = 0; i < LOOKS_MAX && r == -ESTALE; i++) {
		stand_ease(st);
		r = stand_arm_once(all, n, st, e);
	}
	return r;
}

void stand_ease(struct stand *st)
{
	freeze_free(TAKE_PTR(st->freeze));
	free(TAKE_PTR(st->ids));
	st->count = 0;
}

void stand_dismiss(struct stand *st)
{
	stand_ease(st);
	guardian_dismiss(&st->guardian);
}

void stand_disarm(struct stand *st)
{
	stand_ease(st);
	guardian_stop(&st->guardian);
}

void stand_prepare(struct stand *st)
{
	/* what fails here fails in stand_arm() too, with words */
	if (!st->guardian.kept)
		guardian_start(&st->guardian, NULL);
}

bool stand_all_frozen(const struct stand *st)
{
	for (size_t i = 0; i < st->count; i++) {
		if (freeze_unfrozen(st->freeze, i))
			return false;
	}
	return true;
}

int stand_hold(struct snapshot *const *all, unsigned int n, struct stand *st, struct err *e)
{
	int r;

	if (st->hooks || !hooks_wanted(all, n))
		return 0;
	/* what is to be flushed is flushed before a database waits for it, and with whatever is mounted now */
	r = stand_arm(all, n, st, e);
	if (r >= 0)
		r = freeze_sync(st->freeze, e);
	stand_ease(st);
	if (r >= 0)
		r = hooks_freeze(all, n, &st->hooks, e);
	return r < 0 ? r : 1;
}

int stand_held(const struct stand *st, struct err *e)
{
	if (hooks_held(st->hooks))
		return 0;
	return err_set(e, -EAGAIN,
		       "the hooks' time was over before the file systems stood still; "
		       "--hook-timeout allows more");
}

void stand_release(struct stand *st)
{
	hooks_thaw(TAKE_PTR(st->hooks));
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
	stand_release(st);
	if (++st->attempts >= STAND_ATTEMPTS_MAX)
		return err_prefix(e, "gave up after %u attempts to freeze", st->attempts), e->code;
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
		ssize_t at = stand_find(st, m->mount_id);

		if (at >= 0 && !freeze_unfrozen(st->freeze, (size_t)at))
			continue;
		if (!length || !tracker ||
		    tracker_touched(tracker, quiet, s->disk->whole_offset + m->start, length))
			return "crash-consistent";
	}
	return s->disk->n_mounts ? "filesystem-consistent" : "crash-consistent";
}
