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
 * Order of begin():  1 track  2 open era  3 freeze, thaw  4 map
 *          of next(): 5 flush  6 open era, scan  then either hand out, or
 *                     7 make memory ready  8 freeze  9 open era, scan  hand out
 *                     10 (all is read) scan  11 thaw  12 check S3
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/disk_layout.h"
#include "agent/freeze.h"
#include "agent/pause.h"
#include "agent/snapshot.h"
#include "agent/sysblock.h"
#include "agent/tracker.h"
#include "lib/base/io.h"

/* Below this nobody notices a freeze: do not try to make it shorter. */
#define QUICK_NS 20000000u
/* Passes that did not get smaller by a quarter before we stop hoping. */
#define STALLED_MAX 3u
/* Freezes that came to nothing before we give up. */
#define ATTEMPTS_MAX 5u
/*
 * Somebody else's freeze (another capture of the disk, a backup of the virtual machine that we are) is over
 * soon: how often, and how long, we wait for that.
 */
#define BUSY_TRIES   100u
#define BUSY_WAIT_NS 100000000
/* Extents that can be noted while frozen without allocating; a scan has at most so many that matter. */
#define DIRTY_RESERVE 65536u

struct precopy {
	struct tracker *tracker;
	struct freeze *freeze;
	struct extent_set dirty, late;
	uint32_t since;	       /* S1 */
	uint32_t since_before; /* `since` before the freeze, to fall back on */
	uint32_t era_frozen;
	struct plan_cost cost; /* of `dirty` */
	uint64_t last_bytes;
	uint64_t reserved; /* chunks */
	unsigned int stalled, attempts;
};

static void precopy_note_freeze(struct snapshot *s)
{
	struct precopy *p = s->state;
	uint64_t us = freeze_duration_ns(p->freeze) / 1000;

	if (us > atomic_load(&s->status->freeze_us))
		atomic_store(&s->status->freeze_us, us);
}

/* Every thaw goes through here, so that no freeze is left out of the status. */
static int precopy_thaw(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;
	int r = freeze_thaw(p->freeze, e);

	precopy_note_freeze(s);
	return r;
}

static void precopy_end(struct snapshot *s)
{
	struct precopy *p = s->state;

	if (!p)
		return;
	if (s->frozen)
		precopy_thaw(s, NULL);
	freeze_free(p->freeze);
	tracker_free(p->tracker);
	extent_set_done(&p->dirty);
	extent_set_done(&p->late);
	free(p);
	s->state = NULL;
	s->frozen = false;
}

/* Look at the mounts as they are now and make their freeze ready: from now on they cannot be unmounted. */
static int precopy_arm(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;
	int r = -ESTALE;

	/* one that is unmounted between the look and the opening is worth another look */
	for (unsigned int i = 0; i < STALLED_MAX && r == -ESTALE; i++) {
		freeze_free(TAKE_PTR(p->freeze));
		r = disk_refresh_mounts(s->disk, e);
		if (r >= 0) {
			r = freeze_new(s->disk->mounts, s->disk->n_mounts,
				       s->request->max_freeze_ms, &p->freeze, e);
		}
	}
	return r;
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

	r = tracker_open(s->disk->whole, &p->tracker, e);
	if (r < 0)
		return r;
	if (!tracker_doubt(p->tracker, NULL))
		return 0;
	/* an old tracker in doubt is worth nothing to anybody: begin a new one */
	tracker_free(TAKE_PTR(p->tracker));
	r = tracker_remove(s->disk->whole, e);
	if (r >= 0)
		r = tracker_open(s->disk->whole, &p->tracker, e);
	return r < 0 ? r : precopy_check_doubt(s, e);
}

static void precopy_disarm(struct snapshot *s)
{
	struct precopy *p = s->state;

	freeze_free(TAKE_PTR(p->freeze));
}

static int precopy_stand_still(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;
	int r;

	for (unsigned int i = 0;; i++) {
		r = freeze_begin(p->freeze, e);
		if (r < 0)
			precopy_note_freeze(s);
		if (r != -EBUSY || i == BUSY_TRIES)
			return r;
		if (cancel_raised(s->cancel))
			return err_set(e, -ECANCELED, "cancelled");
		nanosleep(&(struct timespec){ .tv_nsec = BUSY_WAIT_NS }, NULL);
	}
}

/* Step 3: afterwards every older write is on the medium. */
static int precopy_flush(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;
	int r = -ETIME;

	for (unsigned int i = 0; i < STALLED_MAX && r == -ETIME; i++) {
		r = freeze_sync(p->freeze, e);
		if (r >= 0)
			r = precopy_stand_still(s, e);
		if (r >= 0)
			r = precopy_thaw(s, e);
	}
	return r;
}

static int precopy_begin(struct snapshot *s, struct err *e)
{
	struct precopy *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_oom(e);
	s->state = p;
	if (extent_set_reserve(&p->dirty, DIRTY_RESERVE) < 0 ||
	    extent_set_reserve(&p->late, DIRTY_RESERVE) < 0)
		return err_oom(e);
	memset(p->dirty.items, 0, DIRTY_RESERVE * sizeof(*p->dirty.items));
	memset(p->late.items, 0, DIRTY_RESERVE * sizeof(*p->late.items));
	r = precopy_track(s, e);
	if (r < 0)
		return r;
	pause_at("tracking");
	r = tracker_open_era(p->tracker, &p->since, e);
	if (r >= 0)
		r = precopy_arm(s, e);
	if (r >= 0)
		r = precopy_flush(s, e);
	if (r >= 0)
		r = usedmap_make(s->disk, true, &s->map, e);
	precopy_disarm(s);
	if (r >= 0)
		pause_at("mapped");
	return r;
}

/* The tracker speaks of the whole disk; the source may be a partition of it. Never allocates. */
static void precopy_to_source(const struct disk *d, struct extent_set *set)
{
	uint64_t from = d->whole_offset, to = from + d->size;
	size_t kept = 0;

	for (size_t i = 0; i < set->count; i++) {
		uint64_t start = MAX(set->items[i].start, from);
		uint64_t end = MIN(extent_end(&set->items[i]), to);

		if (start < end)
			set->items[kept++] = (struct extent){ start - from, end - start };
	}
	set->count = kept;
}

/* Steps 6 and 9: open an era, and find what was written since `since`. */
static int precopy_look(struct snapshot *s, uint32_t *ret_era, struct err *e)
{
	struct precopy *p = s->state;
	int r;

	r = tracker_open_era(p->tracker, ret_era, e);
	if (r < 0)
		return r;
	p->dirty.count = 0;
	if (tracker_scan(p->tracker, p->since, &p->dirty) < 0)
		return err_oom(e);
	precopy_to_source(s->disk, &p->dirty);
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
	CHOICE_GIVE_UP,
};

static enum precopy_choice precopy_choose(const struct snapshot *s, struct precopy *p)
{
	uint64_t estimate = precopy_estimate_ns(s, p);
	uint64_t allowed = (uint64_t)s->request->max_freeze_ms * 1000000;
	/* not all of the memory, a quarter of the time: the flush inside FIFREEZE will add to it */
	bool fits = p->cost.chunks <= s->capacity / 4 * 3 && estimate <= allowed / 4;
	bool shrunk = p->cost.bytes < p->last_bytes / 4 * 3;

	if (fits && estimate <= MIN(allowed / 8, (uint64_t)QUICK_NS))
		return CHOICE_FREEZE;
	p->stalled = shrunk ? 0 : p->stalled + 1;
	if (p->stalled < STALLED_MAX)
		return CHOICE_READ;
	return fits ? CHOICE_FREEZE : CHOICE_GIVE_UP;
}

static int precopy_hand_out(struct snapshot *s, uint32_t era, const struct extent_set **ret)
{
	struct precopy *p = s->state;

	p->since = era;
	p->last_bytes = p->cost.bytes;
	*ret = &p->dirty;
	if (!s->frozen) {
		/* reading may take hours, in which anyone may unmount what he likes */
		precopy_disarm(s);
		atomic_store(&s->status->phase, PHASE_REREAD);
	}
	return 1;
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

/* Steps 7 to 9. Returns 1 with ranges; s->frozen says whether they are the last. */
static int precopy_freeze(struct snapshot *s, const struct extent_set **ret, struct err *e)
{
	struct precopy *p = s->state;
	uint32_t era;
	int r;

	p->attempts++;
	p->reserved = MIN(s->capacity, MAX(p->cost.chunks * 2, s->capacity / 4));
	r = s->reserve(s->reserve_ctx, p->reserved, e);
	if (r >= 0)
		r = precopy_arm(s, e);
	if (r >= 0)
		r = freeze_sync(p->freeze, e);
	if (r < 0)
		return r;
	atomic_store(&s->status->phase, PHASE_FREEZE);
	r = precopy_stand_still(s, e);
	if (r == -ETIME && p->attempts < ATTEMPTS_MAX) {
		/* all the time went into flushing; there will be less to flush the next time */
		r = precopy_look(s, &era, e);
		return r < 0 ? r : precopy_hand_out(s, era, ret);
	}
	if (r < 0)
		return r;
	s->instant_ns = io_realtime_ns();
	pause_at("frozen");
	p->since_before = p->since;
	r = precopy_look(s, &era, e);
	if (r >= 0 && p->cost.chunks <= p->reserved && !freeze_expired(p->freeze)) {
		s->frozen = true;
		p->era_frozen = era;
		return precopy_hand_out(s, era, ret);
	}
	if (r < 0) {
		precopy_thaw(s, NULL);
		return r;
	}
	r = precopy_thaw(s, e);
	if (p->attempts < ATTEMPTS_MAX)
		return precopy_hand_out(s, era, ret);
	return r < 0 ? err_prefix(e, "gave up after %u freezes", p->attempts)
		     : precopy_give_up(s, e);
}

/* Was anything that we capture written since @era? Never allocates, see DIRTY_RESERVE. */
static bool precopy_touched(struct snapshot *s, uint32_t era)
{
	struct precopy *p = s->state;
	struct plan_chunk chunk;
	uint64_t at = 0;

	p->late.count = 0;
	if (tracker_scan(p->tracker, era, &p->late) < 0)
		return true;
	precopy_to_source(s->disk, &p->late);
	return plan_next(s->plan, &p->late, &at, &chunk);
}

static uint64_t precopy_region_length(const struct disk *d, uint64_t start)
{
	for (size_t i = 0; i < d->layout->n_regions; i++) {
		if (d->layout->regions[i].start == start)
			return d->layout->regions[i].length;
	}
	return 0;
}

/*
 * What can be promised. A file system that cannot be frozen (vfat) was flushed in its turn; it is as good as
 * frozen if nothing was written to it from the look before until the end.
 */
static const char *precopy_guarantee(const struct snapshot *s)
{
	struct precopy *p = s->state;

	for (size_t i = 0; i < s->disk->n_mounts; i++) {
		const struct disk_mount *m = &s->disk->mounts[i];
		uint64_t length = m->direct ? precopy_region_length(s->disk, m->start) : 0;

		if (!freeze_unfrozen(p->freeze, i))
			continue;
		if (!length || tracker_touched(p->tracker, p->since_before,
					       s->disk->whole_offset + m->start, length))
			return "crash-consistent";
	}
	return s->disk->n_mounts ? "filesystem-consistent" : "crash-consistent";
}

/* Is @dev in use by something that we neither froze nor know to be above our freeze? */
static bool precopy_device_hidden(const struct snapshot *s, dev_t dev)
{
	const struct disk *d = s->disk;
	uint64_t start = dev == d->device ? 0 : sysblock_start(dev);
	char path[SYSBLOCK_PATH_MAX];
	dev_t holder;

	for (size_t i = 0; i < d->n_mounts; i++) {
		if (d->mounts[i].device == dev)
			return false;
	}
	for (size_t i = 0; i < d->layout->n_regions; i++) {
		if (d->layout->regions[i].start == start &&
		    s->map->regions[i].content == CONTENT_HEADER)
			return false;
	}
	return sysblock_links(dev, "holders", &holder, 1) <= 0 &&
	       sysblock_path(dev, path, sizeof(path)) == 0 && disk_mounts_claimed(path);
}

/* Is a file system mounted where we cannot see it, in a mount namespace of its own? It was not frozen. */
static bool precopy_hidden_mounts(const struct snapshot *s)
{
	const struct disk *d = s->disk;
	dev_t parts[SYSBLOCK_LINKS_MAX];
	int n = d->is_partition ? 0 : sysblock_partitions(d->whole, parts, SYSBLOCK_LINKS_MAX);

	if (n <= 0)
		return precopy_device_hidden(s, d->device);
	for (int i = 0; i < n; i++) {
		if (precopy_device_hidden(s, parts[i]))
			return true;
	}
	return false;
}

/* S3 (d): the same file systems as when we froze? */
static int precopy_same_mounts(struct snapshot *s, const int *ids, size_t count, struct err *e)
{
	int r;

	r = disk_refresh_mounts(s->disk, e);
	if (r < 0)
		return r;
	/* one that went away was flushed by its umount, which we have tracked */
	for (size_t i = 0; i < s->disk->n_mounts; i++) {
		bool known = false;

		for (size_t k = 0; k < count; k++)
			known |= ids[k] == s->disk->mounts[i].mount_id;
		if (!known)
			return 0;
	}
	return 1;
}

static bool precopy_equal_texts(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* S3 (e): is the disk divided as it was when we began, and do the same file systems lie on it? */
static int precopy_check_layout(const struct snapshot *s, struct err *e)
{
	const struct disk *d = s->disk;
	const struct layout *was = d->layout;
	_cleanup_(layout_freep) struct layout *now = NULL;
	bool same;
	int r;

	r = disk_layout_probe_device(d->fd, d->path, d->size, d->logical_sector, &now, e);
	if (r < 0)
		return r;
	same = now->n_regions == was->n_regions &&
	       precopy_equal_texts(now->table_script, was->table_script);
	for (size_t i = 0; same && i < was->n_regions; i++) {
		same = now->regions[i].start == was->regions[i].start &&
		       now->regions[i].length == was->regions[i].length &&
		       precopy_equal_texts(now->regions[i].fs_type, was->regions[i].fs_type);
	}
	return same ? 0
		    : err_set(e, -ESTALE,
			      "the partitions of %s, or the file systems on them, were made anew while it "
			      "was captured: capture it again",
			      d->path);
}

/* Steps 10 to 12. Returns 0: done; 1: read again; -EAGAIN: this attempt came to nothing. */
static int precopy_conclude(struct snapshot *s, struct err *e)
{
	struct precopy *p = s->state;
	size_t count = s->disk->n_mounts;
	_cleanup_free_ int *ids = NULL;
	bool touched = precopy_touched(s, p->era_frozen);
	const char *guarantee = precopy_guarantee(s);
	int r;

	s->frozen = false;
	r = precopy_thaw(s, e);
	precopy_disarm(s);
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
	return 0;
}

static int precopy_next(struct snapshot *s, const struct extent_set **ret, struct err *e)
{
	struct precopy *p = s->state;
	uint32_t era;
	int r;

	if (s->frozen) {
		r = precopy_conclude(s, e);
		if (r != -EAGAIN)
			return r;
		if (p->attempts >= ATTEMPTS_MAX)
			return err_prefix(e, "gave up after %u freezes", p->attempts);
		/* what was read while things moved counts as not read */
		p->since = p->since_before;
	}
	r = precopy_arm(s, e);
	if (r >= 0)
		r = freeze_sync(p->freeze, e);
	if (r >= 0)
		r = precopy_look(s, &era, e);
	if (r >= 0)
		r = precopy_check_doubt(s, e);
	if (r < 0)
		return r;
	switch (precopy_choose(s, p)) {
	case CHOICE_FREEZE:
		return precopy_freeze(s, ret, e);
	case CHOICE_GIVE_UP:
		return precopy_give_up(s, e);
	default:
		return precopy_hand_out(s, era, ret);
	}
}

const struct snapshot_ops snapshot_precopy = {
	.name = "precopy",
	.begin = precopy_begin,
	.next = precopy_next,
	.end = precopy_end,
};
