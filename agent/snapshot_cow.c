/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dm, kmod - one instant by a device-mapper snapshot below the live disk. The two differ in how device-mapper comes
 * there (interpose.h); everything else is here.
 *
 * Invariants (F: freeze.h, C: cow_file.h):
 *  K1. The snapshot's table is loaded before the origin's, and the snapshot is resumed before the origin: an origin
 *      that runs before it knows the snapshot splits writes wrongly, and the snapshot is wrong without a word.
 *  K2. The instant lies between the last FIFREEZE and the first FITHAW, and counts only if the freeze held until
 *      after the origin had taken over (freeze_thaw() said so).
 *  K3. While frozen: two or three ioctls (resume the snapshot, resume the origin, switch the module on), all prepared;
 *      no allocation, open, exec, log or table load of ours. (The kernel allocates inside of them, without I/O.)
 *  K4. No file system is thawed while a device of its own is suspended. No call of ours leaves one so.
 *  K5. The snapshot is not valid any more: nothing that was read counts. next() asks device-mapper itself, after the
 *      last read and before anything could be made of it.
 *  K6. The origin's I/O never waits for us: a full store ends the snapshot, not the writes.
 *  K7. The store goes after the devices that can write to it (C2), the devices below after those above.
 *  K8. The tracker's era is opened before the freeze, on the source itself: whatever the snapshot does not show has
 *      that era or a later one.
 *
 * Order of begin():  1 claim the disk  2 track, open era  3 the device below
 *                    4 the store, and its device  5 load the snapshot  6 load the origin, make resumes ready
 *                    7 hooks, flush  8 freeze  9 resume the snapshot  10 the origin takes over  11 thaw, hooks, check K2
 *                    12 the view, the map
 *          of end(): 13 off  14 view, snapshot  15 the store's device  16 origin, device below
 *                    17 the store  18 the claim
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/ability.h"
#include "agent/leftover.h"
#include "agent/log.h"
#include "agent/pause.h"
#include "agent/precopy_check.h"
#include "agent/shot.h"
#include "lib/base/io.h"

/* Bytes that are copied before a first write to them: small, because the writer waits for it. */
#define CHUNK_SECTORS 16u

/* ---- steps 1 to 6 ------------------------------------------------------------------------------- */

/* K8. A kernel without BPF has no eras; the snapshot does not need them. */
static int shot_track(struct snapshot *s, struct shot *k, struct err *e)
{
	int r;

	if (s->disk->zoned || ability_tracker(NULL) < 0)
		return 0;
	r = tracker_open_sure(s->disk->whole, &k->tracker, e);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		log_warning("%s is captured without being tracked: %s", s->disk->path,
			    e ? e->text : "");
		return 0;
	}
	r = tracker_open_era(k->tracker, &k->era, e);
	s->tracker = k->tracker;
	s->era = k->era;
	return r;
}

static int shot_claim(struct shot *k, struct err *e)
{
	k->claim_fd = leftover_claim(k->under.name, e);
	if (k->claim_fd < 0)
		return k->claim_fd;
	k->mapper_fd = mapper_control_open(e);
	return k->mapper_fd < 0 ? k->mapper_fd : 0;
}

/* Step 5. */
static int shot_load_snapshot(struct shot *k, struct err *e)
{
	_cleanup_table_ struct mapper_table t = { 0 };
	const dev_t below = k->under.below;
	char name[MAPPER_NAME_MAX];
	int r;

	if (mapper_table_add(&t, k->under.below_size / MAPPER_SECTOR, "snapshot",
			     "%u:%u %u:%u N %u", major(below), minor(below), major(k->store),
			     minor(k->store), CHUNK_SECTORS) < 0)
		return err_oom(e);
	interpose_name(&k->under, "snap", name);
	r = mapper_create(name, &k->snap, e);
	if (r < 0)
		return r;
	k->has_snap = true;
	r = mapper_load(name, &t, false, e);
	if (r < 0)
		return r;
	mapper_resume_prepare(k->mapper_fd, name, &k->resume);
	return 0;
}

static int shot_prepare(struct snapshot *s, struct shot *k, struct err *e)
{
	int r;

	r = k->under.ops->prepare(&k->under, e);
	pause_at("below");
	if (r >= 0)
		r = shot_store_make(s, k, e);
	pause_at("store");
	if (r >= 0)
		r = shot_load_snapshot(k, e);
	if (r >= 0)
		r = k->under.ops->load(&k->under, e);
	pause_at("loaded");
	return r;
}

/* ---- steps 7 to 11 ------------------------------------------------------------------------------ */

/* Steps 9 and 10, between freeze and thaw. */
static int shot_switch(struct shot *k)
{
	int r;

	pause_at("frozen");
	r = mapper_resume_run(&k->resume);
	if (r < 0)
		return r;
	pause_at("resumed");
	r = k->under.ops->on(&k->under);
	pause_at("on");
	return r;
}

/* The instant of all, with everything standing still. The first failure ends it. */
static int shot_switch_all(struct snapshot *const *all, unsigned int count)
{
	const uint64_t now = io_realtime_ns();
	int r = 0;

	for (unsigned int i = 0; i < count && r >= 0; i++) {
		all[i]->instant_ns = now;
		r = shot_switch(all[i]->state);
	}
	return r;
}

/* While all stand still: what can be promised of each. */
static void shot_promise(struct snapshot *const *all, unsigned int count, const struct stand *st)
{
	for (unsigned int i = 0; i < count; i++) {
		const struct shot *k = all[i]->state;

		all[i]->guarantee = stand_guarantee(all[i], st, k->tracker, k->era);
	}
}

/*
 * One attempt for all of @members (snapshots), which are ready. -EAGAIN: it came to nothing, @e says why; what was switched
 * on is of no use.
 */
static int shot_take_held(struct snapshot *const *all, unsigned int count, struct stand *st,
			  struct err *e)
{
	struct snapshot *lead = all[0];
	int switched, r;

	r = stand_arm(all, count, st, e);
	if (r >= 0)
		r = freeze_sync(st->freeze, e);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < count; i++)
		atomic_store(&all[i]->status->phase, PHASE_FREEZE);
	r = stand_begin(lead, st, e);
	if (r < 0)
		return r == -ETIME || r == -EPIPE ? -EAGAIN : r;
	r = stand_held(st, e);
	if (r < 0) {
		stand_thaw(lead, st, NULL);
		return r;
	}
	switched = shot_switch_all(all, count);
	shot_promise(all, count, st);
	r = stand_thaw(lead, st, switched < 0 ? NULL : e);
	stand_disarm(st);
	for (unsigned int i = 1; i < count; i++) {
		atomic_store(&all[i]->status->freeze_us, atomic_load(&lead->status->freeze_us));
	}
	pause_at("thawed");
	if (switched < 0) {
		return err_set_errno(e, switched, "cannot put device-mapper below %s",
				     lead->disk->path);
	}
	if (r < 0)
		return -EAGAIN;
	together_over(lead->together);
	return 0;
}

/* The same, with the hooks around it. */
static int shot_take(void *const *members, unsigned int count, struct err *e)
{
	struct snapshot *const *all = (struct snapshot *const *)members;
	struct stand *st = &((struct shot *)all[0]->state)->stand;
	int r;

	r = stand_hold(all, count, st, e);
	if (r >= 0)
		r = shot_take_held(all, count, st, e);
	stand_release(st);
	return r;
}

/* ---- step 12 ------------------------------------------------------------------------------------ */

/* The next piece of the view: [@from, @to) of the source, of the snapshot or (the store's own blocks) zeros. */
static int view_add(struct mapper_table *t, const struct shot *k, bool hidden, uint64_t from,
		    uint64_t to)
{
	const uint64_t sectors = (to - from) / MAPPER_SECTOR;

	if (from == to)
		return 0;
	if (hidden)
		return mapper_table_add(t, sectors, "zero", "%s", "");
	return mapper_table_add(
		t, sectors, "linear", "%u:%u %llu", major(k->snap), minor(k->snap),
		(unsigned long long)((k->under.below_start + from) / MAPPER_SECTOR));
}

/* What is read: the source's range of the snapshot, without the store. */
static int shot_make_view(struct snapshot *s, struct shot *k, dev_t *ret, struct err *e)
{
	_cleanup_table_ struct mapper_table t = { 0 };
	char name[MAPPER_NAME_MAX];
	uint64_t at = 0;
	int r;

	extent_for_each(x, &k->cow[0].hidden) {
		if (view_add(&t, k, false, at, x->start) < 0 ||
		    view_add(&t, k, true, x->start, extent_end(x)) < 0)
			return err_oom(e);
		at = extent_end(x);
	}
	if (view_add(&t, k, false, at, s->disk->size) < 0)
		return err_oom(e);
	interpose_name(&k->under, "view", name);
	r = mapper_create(name, ret, e);
	if (r < 0)
		return r;
	k->has_view = true;
	r = mapper_load(name, &t, true, e);
	return r < 0 ? r : mapper_resume(name, e);
}

static int shot_open_view(struct snapshot *s, struct shot *k, struct err *e)
{
	char path[32];
	dev_t view = 0;
	int r;

	r = shot_make_view(s, k, &view, e);
	if (r < 0)
		return r;
	mapper_path(view, path, sizeof(path));
	k->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (k->fd < 0)
		return err_set_errno(e, -errno, "%s", path);
	k->seen = *s->disk;
	k->seen.fd = k->fd;
	s->fd = k->fd;
	return 0;
}

static int shot_show(struct snapshot *s, struct shot *k, struct err *e)
{
	struct snapshot seen = *s;
	int r;

	r = shot_open_view(s, k, e);
	if (r < 0)
		return r;
	seen.disk = &k->seen;
	r = precopy_check_layout(&seen, e);
	if (r >= 0)
		r = usedmap_make(&k->seen, USEDMAP_FROZEN, &s->map, e);
	if (r < 0)
		return r;
	r = shot_store_watch(s, e);
	if (r < 0)
		return r;
	if (precopy_hidden_mounts(s))
		s->guarantee = "crash-consistent";
	pause_at("mapped");
	return 0;
}

/* ---- steps 13 to 17 ----------------------------------------------------------------------------- */

static int shot_remove(struct shot *k, const char *role, bool *has, struct err *e)
{
	char name[MAPPER_NAME_MAX];
	int r;

	if (!*has)
		return 0;
	interpose_name(&k->under, role, name);
	r = mapper_remove(name, e);
	if (r >= 0)
		*has = false;
	return r;
}

/*
 * At any point of begin() or after it. What cannot be taken down is left, with the store's file (K7), for
 * leftover_repair().
 */
static int shot_down(struct shot *k, struct err *e)
{
	int r;

	shot_store_unwatch(k);
	k->fd = close_fd(k->fd);
	pause_at("ending");
	r = k->under.ops->off(&k->under, e);
	pause_at("off");
	if (r >= 0)
		r = shot_remove(k, "view", &k->has_view, e);
	if (r >= 0)
		r = shot_remove(k, "snap", &k->has_snap, e);
	pause_at("unsnapped");
	if (r >= 0)
		r = shot_remove(k, "cow", &k->has_store, e);
	pause_at("unstored");
	/* its own state is given back even when the devices cannot be */
	if (r >= 0) {
		r = k->under.ops->undo(&k->under, e);
	} else {
		k->under.ops->undo(&k->under, NULL);
	}
	pause_at("undone");
	shot_store_remove(k);
	return r;
}

static void shot_end(struct snapshot *s)
{
	struct shot *k = s->state;
	struct err e = { 0 };

	if (!k)
		return;
	stand_disarm(&k->stand);
	stand_release(&k->stand);
	s->fd = s->disk->fd;
	/* without the claim nothing was made */
	if (k->claim_fd >= 0 && shot_down(k, &e) < 0) {
		log_warning("%s: what stood below it could not all be taken down: %s (ambroctl "
			    "status --repair tries again)",
			    s->disk->path, e.text);
	}
	tracker_free(k->tracker);
	s->tracker = NULL;
	close_fd(k->mapper_fd);
	close_fd(k->claim_fd);
	free(k);
	s->state = NULL;
}

/* ---- the provider ------------------------------------------------------------------------------- */

static int shot_try(struct snapshot *s, struct shot *k, struct err *e)
{
	int r;

	r = shot_prepare(s, k, e);
	if (r < 0)
		return r;
	if (s->together)
		return together_meet(s->together, s, s->cancel, shot_take, e);
	return shot_take((void *const[]){ s }, 1, e);
}

static int shot_begin(struct snapshot *s, const struct interpose_ops *ops, struct err *e)
{
	struct shot *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return err_oom(e);
	k->claim_fd = k->mapper_fd = k->fd = -EBADF;
	s->state = k;
	r = interpose_init(&k->under, ops, s->disk, e);
	if (r >= 0)
		r = shot_claim(k, e);
	if (r >= 0)
		r = shot_track(s, k, e);
	pause_at("claimed");
	while (r >= 0 && (r = shot_try(s, k, e)) == -EAGAIN) {
		struct err why = *e;

		/* a snapshot of no instant: all is made anew */
		r = shot_down(k, e);
		if (r < 0)
			break;
		*e = why;
		r = stand_rest(s, &k->stand, e);
	}
	if (r < 0)
		return r;
	return shot_show(s, k, e);
}

static int shot_able_dm(const struct disk *d, struct err *e)
{
	return interpose_dm.able(d, e);
}

static int shot_able_kmod(const struct disk *d, struct err *e)
{
	return interpose_kmod.able(d, e);
}

static int shot_begin_dm(struct snapshot *s, struct err *e)
{
	return shot_begin(s, &interpose_dm, e);
}

static int shot_begin_kmod(struct snapshot *s, struct err *e)
{
	return shot_begin(s, &interpose_kmod, e);
}

/* The disk itself is still there, and the tracker knows what the snapshot no longer shows (K8). */
static bool shot_lost(struct snapshot *s)
{
	const struct shot *k = s->state;

	return s->request->overflow_precopy && k->tracker && !tracker_doubt(k->tracker, NULL) &&
	       shot_store_check(s, NULL) < 0;
}

/* The snapshot is lost, its origin is not: take everything down, and let precopy read the rest. */
static int shot_go_on(struct snapshot *s, const struct extent_set **ret, struct err *e)
{
	struct shot *k = s->state;
	struct tracker *t = TAKE_PTR(k->tracker);
	uint32_t era = k->era;
	int fd = k->fd, r;

	log_warning("%s: the snapshot was lost, its COW store (%s) is full: going on as precopy",
		    s->disk->path, k->cow[0].where);
	/* whoever reads has the number, and shall read the disk by it from now on */
	if (dup3(s->disk->fd, fd, O_CLOEXEC) < 0) {
		tracker_free(t);
		return err_set_errno(e, -errno, "%s", s->disk->path);
	}
	k->fd = -EBADF;
	shot_end(s);
	s->fd = fd;
	r = snapshot_go_on_as_precopy(s, t, era, fd, e);
	return r < 0 ? r : s->ops->next(s, ret, e);
}

/* K5, and nobody has replaced what stands between. */
static int shot_next(struct snapshot *s, const struct extent_set **ret, struct err *e)
{
	struct shot *k = s->state;
	int r;

	if (shot_lost(s))
		return shot_go_on(s, ret, e);
	r = k->under.ops->check(&k->under, e);
	return r < 0 ? r : shot_store_check(s, e);
}

/* A read of a snapshot that is lost fails; what matters is why it was lost. */
static int shot_failed(struct snapshot *s, int r, struct err *e)
{
	struct shot *k = s->state;
	struct err why = { 0 };
	int lost = k->under.ops->check(&k->under, &why);

	if (lost >= 0)
		lost = shot_store_check(s, &why);
	if (lost >= 0)
		return r;
	*e = why;
	return lost;
}

const struct snapshot_ops snapshot_dm = {
	.name = "dm",
	.one_pass = true,
	.below = true,
	.able = shot_able_dm,
	.begin = shot_begin_dm,
	.next = shot_next,
	.failed = shot_failed,
	.lost = shot_lost,
	.end = shot_end,
};

const struct snapshot_ops snapshot_kmod = {
	.name = "kmod",
	.one_pass = true,
	.below = true,
	.able = shot_able_kmod,
	.begin = shot_begin_kmod,
	.next = shot_next,
	.failed = shot_failed,
	.lost = shot_lost,
	.end = shot_end,
};
