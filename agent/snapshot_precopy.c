/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * precopy - one instant of a mounted disk without any snapshot: read everything while tracking what is
 * written, read that again, and so on until so little is left that it can be read while the file systems
 * stand still.
 *
 * Invariants (T: tracker.h, F: freeze.h):
 *  S1. Every range that was handed out and written afterwards is handed out again (T3): `since` is the
 *      era that was opened before the ranges handed out last were looked up.
 *  S2. A block that the map does not name was either not in use at the freeze-and-thaw of begin(), or not on
 *      the medium then; whatever is put there later is written later, so it is tracked.
 *  S3. The instant is real only if (a) the file systems stood still from before the last look at the
 *      tracker until the last read was complete (F3), (b) no captured granule was marked in that time,
 *      (c) tracking is beyond doubt (T4), (d) no file system came on the disk meanwhile, (e) the partitions
 *      are still those that the image tells of. Without (a), (b) or (d) the last reading counts as not
 *      done; without (c) or (e) the capture fails.
 *  S4. While frozen: only ioctl, the tracker's mapped memory and grace period, and reads (F2).
 *
 * Order of begin():  1 track  2 begin era, flush  3 freeze, settle era, thaw  4 map, open era if something could not be frozen
 *          of next(): 5 flush  6 scan  then either open era, scan, hand out, or
 *                     7 run hooks, back to 5  8 make memory ready, flush, freeze  9 open era, scan  hand out
 *                     10 (all is read) scan  11 thaw, run hooks  12 check S3
 *
 * The grace period of the era of 2, after which it is certain (T2), is waited for while the file systems stand still: there it
 * takes 0.02 ms, elsewhere 10 (grace.h). Nothing is read before it is over, and what cannot be frozen is flushed once more.
 *
 * Opening an era costs a grace period, so that is done only for ranges that are handed out (S1): the first scan of 6 only tells
 * how much there is. One that is not frozen may miss what is written meanwhile, and the next scan is since the same era.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/ability.h"
#include "agent/pause.h"
#include "agent/precopy_check.h"
#include "agent/snapshot.h"
#include "agent/stand.h"
#include "agent/tracker.h"
#include "lib/base/io.h"

/* Below this a shorter last pass is not worth another pass before it. */
#define QUICK_NS 2000000u
/* Below this it is good enough as soon as a pass does not make it shorter any more. */
#define SHORT_NS 20000000u
/* Passes that did not get smaller by a quarter before we stop hoping. */
#define STALLED_MAX 3u
/* Chunks that a last pass may have, even if next to nothing was written before it: about what is present anyway. */
#define LAST_CHUNKS UINT64_C(32)
/* Extents that can be noted while frozen, at least: without allocating, and more than twice those known before. */
#define DIRTY_RESERVE 65536u

struct precopy {
	struct tracker *tracker;
	struct stand stand;
	struct extent_set dirty, late;
	struct extent_set unread; /* by the provider before us */
	int fd;			  /* its, or -EBADF */
	uint32_t since;		  /* S1 */
	uint32_t since_before;	  /* `since` before the freeze, to fall back on */
	uint32_t quiet;		  /* opened when the map was made, or `since`: stand_guarantee() */
	uint32_t era_frozen;
	struct plan_cost cost; /* of `dirty` */
	uint64_t least; /* bytes of the smallest pass so far: against the last one, ups and downs would never end */
	uint64_t reserved; /* chunks */
	unsigned int stalled;
	bool held;   /* the hooks of this attempt were asked */
	bool frozen; /* all of the first freeze stood still */
};

static void precopy_end(struct snapshot *s)
{
	struct precopy *p = s->state;

	if (!p)
		return;
	if (s->frozen)
		stand_thaw(s, &p->stand, NULL);
	stand_disarm(&p->stand);
	stand_release(&p->stand);
	tracker_free(p->tracker);
	s->tracker = NULL;
	extent_set_done(&p->dirty);
	extent_set_done(&p->late);
	extent_set_done(&p->unread);
	close_fd(p->fd);
	free(p);
	s->state = NULL;
	s->frozen = false;
}

static int precopy_check_doubt(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;
	struct err why = { 0 };

	if (!tracker_doubt(p->tracker, &why))
		return 0;
	return err_set(e, -EIO, "what was written to %s is not known for certain: %s",
		       s->disk->path, why.text);
}

static int precopy_track(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;
	int r;

	r = tracker_open_sure(s->disk->whole, &p->tracker, e);
	s->tracker = p->tracker;
	return r < 0 ? r : precopy_check_doubt(s, e);
}

/* The end of step 2, and step 3: afterwards every older write is on the medium. */
static int precopy_flush(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;
	int r = -ETIME;

	for (unsigned int i = 0; i < STALLED_MAX && r == -ETIME; i++) {
		r = stand_wait(s, i * p->stand.stood_ns * STAND_REST_TIMES, e);
		if (r >= 0)
			r = freeze_sync(p->stand.freeze, e);
		if (r >= 0)
			r = stand_begin(s, &p->stand, e);
		if (r < 0)
			continue;
		p->frozen = stand_all_frozen(&p->stand);
		r = tracker_settle_era(p->tracker, e);
		if (r < 0) {
			stand_thaw(s, &p->stand, NULL);
		} else {
			r = stand_thaw(s, &p->stand, e);
		}
	}
	/*
	 * What is not frozen went on writing until the era was settled, and a mark of that may have been overwritten (T2): what
	 * it was for has to be in the map, so in the tables on the medium.
	 */
	return r >= 0 && !p->frozen ? freeze_sync(p->stand.freeze, e) : r;
}

/* What cannot be frozen must be quiet from now on to count as frozen; where there is nothing of the kind it does not matter. */
static int precopy_be_quiet(struct precopy *p, struct err *e)
{
	if (!p->frozen)
		return tracker_open_era(p->tracker, &p->quiet, e);
	p->quiet = p->since;
	return 0;
}

static int precopy_begin(struct snapshot *s, struct err *e)
{
	struct precopy *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_oom(e);
	p->fd = -EBADF;
	s->state = p;
	/* beside the tracker's waits */
	stand_prepare(&p->stand);
	r = precopy_track(s, e);
	if (r < 0)
		return r;
	pause_at("tracking");
	r = tracker_begin_era(p->tracker, &p->since, e);
	if (r >= 0)
		r = stand_arm(&s, 1, &p->stand, e);
	if (r >= 0)
		r = precopy_flush(s, e);
	if (r >= 0)
		r = usedmap_make(s->disk, USEDMAP_LIVE, &s->map, e);
	stand_ease(&p->stand);
	if (r >= 0)
		r = precopy_be_quiet(p, e);
	if (r >= 0)
		pause_at("mapped");
	return r;
}

/*
 * Steps 6 and 9: open an era (@ret_era NULL: none), and find what was written since `since`. Where file systems stand still,
 * -ENOBUFS: there is more than precopy_make_room() has made room for.
 */
static int precopy_look(struct snapshot *s, bool frozen, uint32_t *ret_era, struct err *e)
{
	struct precopy *p = s->state;
	int r = ret_era ? tracker_open_era(p->tracker, ret_era, e) : 0;

	if (r < 0)
		return r;
	p->dirty.count = 0;
	r = frozen ? tracker_scan_fixed(p->tracker, p->since, &p->dirty)
		   : tracker_scan(p->tracker, p->since, &p->dirty);
	if (r < 0)
		return r == -ENOBUFS ? r : err_oom(e);
	disk_clip_whole(s->disk, &p->dirty);
	p->cost = plan_cost_of(s->plan, &p->dirty);
	atomic_store(&s->status->dirty, p->cost.bytes);
	return 0;
}

/* How long reading `dirty` takes, by what was measured so far. */
static uint64_t precopy_estimate_ns(const struct snapshot *s, const struct precopy *p)
{
	uint64_t rate = s->read_rate ? s->read_rate : 100u << 20;

	return (uint64_t)((double)p->cost.bytes * 1e9 / (double)rate);
}

enum precopy_choice {
	CHOICE_READ,
	CHOICE_FREEZE,
	CHOICE_REST,
	CHOICE_GIVE_UP,
};

static enum precopy_choice precopy_choose(const struct snapshot *s, struct precopy *p)
{
	uint64_t estimate = precopy_estimate_ns(s, p);
	uint64_t allowed = (uint64_t)s->request->max_freeze_ms * 1000000;
	/* not all of the memory, a quarter of the time: the flush inside FIFREEZE will add to it */
	bool fits = p->cost.chunks <= s->capacity / 4 * 3 && estimate <= allowed / 4;
	bool shrunk = p->cost.bytes < p->least / 4 * 3;
	bool quick = estimate <= MIN(allowed / 8, (uint64_t)QUICK_NS);
	bool brief = estimate <= MIN(allowed / 8, (uint64_t)SHORT_NS);

	p->stalled = shrunk ? 0 : p->stalled + 1;
	if (!quick && !(brief && p->stalled) && p->stalled < STALLED_MAX)
		return CHOICE_READ;
	if (!fits)
		return CHOICE_GIVE_UP;
	/* a freeze that would only end at the deadline stalls everybody and helps nobody */
	return freeze_sync_ns(p->stand.freeze) <= allowed / 2 ? CHOICE_FREEZE : CHOICE_REST;
}

static int precopy_hand_out(struct snapshot *s, uint32_t era, const struct extent_set **ret)
{
	struct precopy *p = s->state;

	p->since = era;
	p->least = p->least ? MIN(p->least, p->cost.bytes) : p->cost.bytes;
	*ret = &p->dirty;
	if (!s->frozen) {
		/* reading may take hours, in which anyone may unmount what he likes */
		stand_ease(&p->stand);
		atomic_store(&s->status->phase, PHASE_REREAD);
	}
	return 1;
}

/* What was written, and what the provider before us did not come to read. */
static int precopy_hand_out_unread(struct snapshot *s, uint32_t era, const struct extent_set **ret,
				   struct err *e)
{
	struct precopy *p = s->state;
	struct extent_set all;

	if (extent_set_union(&p->dirty, &p->unread, &all) < 0)
		return err_oom(e);
	extent_set_done(&p->dirty);
	extent_set_done(&p->unread);
	p->dirty = all;
	p->unread = (struct extent_set){ 0 };
	p->cost = plan_cost_of(s->plan, &p->dirty);
	return precopy_hand_out(s, era, ret);
}

static int precopy_give_up(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;

	return err_set(e, -EBUSY,
		       "%s is written to faster than it can be read again: %" PRIu64
		       " MiB in %" PRIu64
		       " chunks are left after %u passes, too much for --max-freeze %u ms; "
		       "allow more, or capture at a quieter time",
		       s->disk->path, p->cost.bytes >> 20, p->cost.chunks,
		       atomic_load(&s->status->passes), s->request->max_freeze_ms);
}

/* Room for what may be found while nothing may be allocated, present and not only promised. */
static int precopy_make_room(struct precopy *p, struct err *e)
{
	size_t room = MAX(p->dirty.count * 3, (size_t)DIRTY_RESERVE);

	p->dirty.count = p->late.count = 0;
	if (extent_set_reserve(&p->dirty, room) < 0 || extent_set_reserve(&p->late, room) < 0)
		return err_oom(e);
	memset(p->dirty.items, 0, p->dirty.allocated * sizeof(*p->dirty.items));
	memset(p->late.items, 0, p->late.allocated * sizeof(*p->late.items));
	return 0;
}

/*
 * Step 7. 1: the hooks are frozen. What they had written is to be read too, in another pass, and takes no attempt for it: they
 * write no more. 0: there are none.
 */
static int precopy_hold(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;
	int r;

	p->held = true;
	r = stand_hold(&s, 1, &p->stand, e);
	if (r <= 0)
		return r;
	s->hurry = true;
	p->stalled = 0;
	p->least = UINT64_MAX;
	return 1;
}

/* Step 8. */
static int precopy_make_ready(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;
	int r;

	/*
	 * What is touched here is time in which more is written: little at first, more if that was too little. `cost` was written in
	 * all the time since the last pass began, which is long against the time from here to the freeze.
	 */
	p->reserved = MAX(p->cost.chunks * 3, LAST_CHUNKS);
	if (p->stand.attempts)
		p->reserved = MAX(p->reserved, s->capacity / 16 * (p->stand.attempts + 1));
	p->reserved = MIN(p->reserved, s->capacity);
	r = s->reserve(s->reserve_ctx, p->reserved, e);
	if (r >= 0)
		r = precopy_make_room(p, e);
	return r < 0 ? r : freeze_sync(p->stand.freeze, e);
}

/*
 * Steps 8 and 9. Returns 1 with the last ranges, with s->frozen set; -EAGAIN: nothing stands still, this attempt
 * came to nothing.
 */
static int precopy_freeze(struct snapshot *s, const struct extent_set **ret, struct err *e)
{
	struct precopy *p = s->state;
	uint32_t era;
	int r;

	r = precopy_make_ready(s, e);
	if (r < 0)
		return r;
	atomic_store(&s->status->phase, PHASE_FREEZE);
	r = stand_begin(s, &p->stand, e);
	if (r < 0)
		return r == -ETIME || r == -EPIPE ? -EAGAIN : r;
	s->instant_ns = io_realtime_ns();
	pause_at("frozen");
	r = stand_held(&p->stand, e);
	if (r < 0) {
		stand_thaw(s, &p->stand, NULL);
		return r;
	}
	r = precopy_look(s, true, &era, e);
	if (r >= 0 && p->cost.chunks > p->reserved)
		r = -ENOBUFS;
	if (r >= 0 && !freeze_expired(p->stand.freeze)) {
		s->frozen = true;
		p->since_before = p->since;
		p->era_frozen = era;
		return precopy_hand_out(s, era, ret);
	}
	if (r >= 0) {
		stand_thaw(s, &p->stand, e);
		return -EAGAIN;
	}
	stand_thaw(s, &p->stand, NULL);
	if (r != -ENOBUFS)
		return r;
	err_set(e, -EBUSY,
		"much more was written to %s just before its file systems stood still than before "
		"that",
		s->disk->path);
	return -EAGAIN;
}

/* This attempt came to nothing; @e says why. 0: try again. */
static int precopy_rest(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;

	/* what was written in this time will take a pass, and that is not for lack of progress */
	p->stalled = 0;
	p->least = UINT64_MAX;
	p->held = s->hurry = false;
	return stand_rest(s, &p->stand, e);
}

/* Was anything that we capture written since @era? Never allocates. */
static bool precopy_touched(struct snapshot *s, uint32_t era)
{
	struct precopy *p = s->state;
	struct plan_chunk chunk;
	uint64_t at = 0;

	p->late.count = 0;
	if (tracker_scan_fixed(p->tracker, era, &p->late) < 0)
		return true;
	disk_clip_whole(s->disk, &p->late);
	return plan_next(s->plan, &p->late, &at, &chunk);
}

/* Steps 10 to 12. Returns 0: done; -EAGAIN: this attempt came to nothing. */
static int precopy_conclude(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;
	size_t count = s->disk->n_mounts;
	_cleanup_free_ int *ids = NULL;
	bool touched = precopy_touched(s, p->era_frozen);
	const char *guarantee = stand_guarantee(s, &p->stand, p->tracker, p->quiet);
	int r;

	s->frozen = false;
	r = stand_thaw(s, &p->stand, e);
	stand_dismiss(&p->stand);
	stand_release(&p->stand);
	pause_at("thawed");
	if (r < 0)
		return -EAGAIN;
	r = precopy_check_doubt(s, e);
	if (r >= 0)
		r = precopy_check_layout(s, e);
	if (r < 0)
		return r;
	if (touched) {
		err_set(e, -EBUSY, "%s is written to past its file systems, while they stand still",
			s->disk->path);
		return -EAGAIN;
	}
	ids = calloc(count + 1, sizeof(*ids));
	if (!ids)
		return err_oom(e);
	for (size_t i = 0; i < count; i++)
		ids[i] = s->disk->mounts[i].mount_id;
	r = precopy_same_mounts(s, ids, count, e);
	if (r < 0)
		return r;
	if (r == 0) {
		err_set(e, -EBUSY, "a file system of %s was mounted meanwhile", s->disk->path);
		return -EAGAIN;
	}
	s->guarantee = precopy_hidden_mounts(s) ? "crash-consistent" : guarantee;
	s->era = p->era_frozen;
	return 0;
}

static int precopy_too_slow(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;

	return err_set(
		e, -EBUSY,
		"flushing the file systems of %s takes %u ms, too long for --max-freeze %u ms",
		s->disk->path, (unsigned int)(freeze_sync_ns(p->stand.freeze) / 1000000),
		s->request->max_freeze_ms);
}

/* Step 6, when there is to be another pass. */
static int precopy_again(struct snapshot *s, const struct extent_set **ret, struct err *e)
{
	struct precopy *p = s->state;
	uint32_t era;
	int r;

	r = precopy_look(s, false, &era, e);
	if (r < 0)
		return r;
	return p->unread.count ? precopy_hand_out_unread(s, era, ret, e)
			       : precopy_hand_out(s, era, ret);
}

/* Steps 5 to 9. -EAGAIN: rest, and call it again. */
static int precopy_advance(struct snapshot *s, const struct extent_set **ret, struct err *e)
{
	struct precopy *p = s->state;
	int r;

	r = stand_held(&p->stand, e);
	if (r >= 0)
		r = stand_arm(&s, 1, &p->stand, e);
	if (r >= 0)
		r = freeze_sync(p->stand.freeze, e);
	if (r >= 0)
		r = precopy_look(s, false, NULL, e);
	if (r >= 0)
		r = precopy_check_doubt(s, e);
	if (r < 0)
		return r;
	if (p->unread.count)
		return precopy_again(s, ret, e);
	switch (precopy_choose(s, p)) {
	case CHOICE_FREEZE:
		r = p->held ? 0 : precopy_hold(s, e);
		if (r != 0)
			return r < 0 ? r : precopy_advance(s, ret, e);
		return precopy_freeze(s, ret, e);
	case CHOICE_REST:
		precopy_too_slow(s, e);
		return -EAGAIN;
	case CHOICE_GIVE_UP:
		return precopy_give_up(s, e);
	default:
		return precopy_again(s, ret, e);
	}
}

static int precopy_next(struct snapshot *s, const struct extent_set **ret, struct err *e)
{
	struct precopy *p = s->state;
	int r;

	if (s->frozen) {
		r = precopy_conclude(s, e);
		if (r != -EAGAIN)
			return r;
		/* what was read while things moved counts as not read */
		p->since = p->since_before;
		r = precopy_rest(s, e);
		if (r < 0)
			return r;
	}
	while ((r = precopy_advance(s, ret, e)) == -EAGAIN) {
		r = precopy_rest(s, e);
		if (r < 0)
			return r;
	}
	return r;
}

int snapshot_go_on_as_precopy(struct snapshot *s, struct tracker *t, uint32_t era, int fd,
			      struct err *e)
{
	struct precopy *p = calloc(1, sizeof(*p));
	struct extent_set none = { 0 };

	if (!p) {
		tracker_free(t);
		close_fd(fd);
		return err_oom(e);
	}
	p->tracker = s->tracker = t;
	p->since = p->quiet = era;
	p->fd = fd;
	s->state = p;
	s->ops = &snapshot_precopy;
	atomic_store(&s->status->strategy, CAPTURE_PRECOPY);
	return extent_set_union(s->unread, &none, &p->unread) < 0 ? err_oom(e) : 0;
}

static int precopy_able(const struct disk *d, struct err *e)
{
	if (d->zoned) {
		return err_set(e, -ENOTSUP, "%s is a zoned device, which cannot be tracked",
			       d->path);
	}
	return ability_tracker(e);
}

const struct snapshot_ops snapshot_precopy = {
	.name = "precopy",
	.able = precopy_able,
	.begin = precopy_begin,
	.next = precopy_next,
	.end = precopy_end,
};
