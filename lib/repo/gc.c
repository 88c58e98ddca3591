/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One run of gc_prune(), in this order. G is the grace period, and every wait is G and the slack between clocks
 * (GC_CLOCK_SLACK_NS); a note that has waited so long is called ripe.
 *
 *  0  put the note that keeps repairs away, and end the run when there is one of a repair (gc_turn.h); or when the store says
 *     that this note is of another time than it is by our clock
 *  L  load: notes (time L is before), images, index, packs; an unreadable one ends the run: nothing is deleted on a guess
 *  W  walk: for every image without a ripe tombstone, choose one place for each page and chunk it needs, in an unmarked pack
 *     where there is one; something missing ends the run
 *  1  delete images with ripe tombstones (if the tombstone is still there), then the tombstones
 *  2  copy what was chosen in ripe marked packs, in packs that are mostly dead, in small ones when there are many, and in those
 *     in which what the newest images need lies apart, to new packs; their index files
 *  3  mark packs: dead, or repacked; note strays (packs that no index file names: of a killed writer, or of one that works)
 *  4  of packs whose mark was ripe at L and in which nothing was chosen, or all of it was copied in 2:
 *     4a delete "gone" notes of those that an index file names (again)
 *     4b put an index file without them, 4c delete the index files that it replaces, 4d delete the packs, 4e note them "gone"
 *  5  delete marks whose "gone" note is ripe twice over, when no index file names the pack and none waits in 4c; then the
 *     note. Delete ripe strays, then their notes.
 *  6  delete the note of 0
 *
 * Nothing is changed later than G after L, nor later than GC_TURN_PRUNE_NS after 0 (-ESTALE), and writers keep W1 to W4 of gc_object.h.
 *
 * Invariants:
 *  I1. An image that is there, and has no ripe tombstone, finds all it needs.
 *  I2. A pack is deleted only ripe, and each name that such an image needs is then also in a pack that was not marked at L.
 *  I3. A mark is deleted only when its pack is gone, and no index file names the pack or will.
 *  I4. No step depends on the one before having been done by this run: a run that was killed anywhere is followed by another.
 *
 * I1 for an image that is seen at L: by W and I2 there is an unmarked place Q for each name that was in a deleted pack. Q's
 * mark, if ever, is put after L, so it is ripe for nobody before L + G, when this run changes nothing any more; and whoever
 * then deletes Q has chosen yet another place that was not marked at its own L. Two runs at the same time may each mark the
 * other's favourite: then both are marked, and a later run finds no unmarked place and copies (2). Never are both deleted,
 * because a deletion needs an unmarked place at a load which is later than both marks.
 *
 * I1 for an image that is committed after L, at C: its writer loaded at LW > C - G, and relies on packs that were unmarked
 * at LW, on its own new packs, and on what its parent needs, which had no tombstone at LW and thus no ripe one at C. Say a
 * run deletes a pack the image relies on. The mark was put after LW and ripe at this run's L, so L > LW + G > C: the image
 * is seen. Its own new packs are strays until their index file is there: a stray is deleted when it was noted before L - G,
 * still without an index file; its writer has loaded before it put the pack, so its time was over before L.
 *
 * I3: who loads the index sees a mark on each pack it names that is gone or going. An index file that names pack P can
 * appear after P was deleted only by a run (B) that merges what it loaded before. Let D delete P's mark: the "gone" note
 * was put at g < L(D) - 2G, and no index file named P at L(D). If B puts one later, then L(B) > L(D) - G > g + G, and B has
 * seen an index file that some run F deletes after that; so L(F) > g, F saw P named, and by 4a F has deleted the note
 * before: it is not the one of g. So there is no such B.
 *
 * I4: all changes are puts of names that do not depend on the run, or deletions; and 1 … 5 look only at what was loaded. What
 * a killed run leaves of 0 hinders no prune, on whatever machine.
 *
 * To join small packs (2, 3) is to repack them, and so is to gather: I1 does not ask why a pack was copied and marked. gc_plan.c
 * and gc_gather.c say when, and why that comes to an end.
 *
 * Clocks. Above, "ripe" says that in truth G has passed since the note was put, whoever put it. A note is as old as the
 * difference of two clocks says, so this is true when the one that reads is ahead of the one that put by no more than
 * GC_CLOCK_SLACK_NS, and never mind what both are from the truth. (G for writers is by CLOCK_BOOTTIME, that of one process.)
 * When the same boot has put it, CLOCK_BOOTTIME must say so, too (gc_clock.h), and no clock is believed. Otherwise what a run
 * can see of a wrong clock ends it (-ETIME): notes and images from the future, so our clock is behind or another ahead; its
 * own note of 0, with a time by the clock of the file server that is not ours. What it cannot see is a clock that is ahead,
 * with a repository on a disk of its own, after a reboot: nothing that is written there tells it from a long pause. That the
 * clock be right then is asked of who operates it (docs/OPERATING.md).
 */
#include "lib/repo/gc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/repo/gc_copy.h"
#include "lib/repo/gc_private.h"
#include "lib/repo/pack.h"

/* With a grace of 0 one run of steps feeds the next: mark, delete, delete the mark. */
#define GC_PASSES_MAX 8
/* More index files than that are made one, of those that are no larger than that. */
#define GC_INDEX_FILES_MANY    32
#define GC_INDEX_MERGE_ENTRIES (UINT64_C(4) << 20)

static void gc_done(struct gc *g)
{
	gc_view_done(&g->view);
	free(g->fates);
	free(g->copied);
}

/* Before every change. */
static int gc_may_go_on(struct gc *g, struct err *e)
{
	int r;

	if (cancel_raised(g->settings->cancel))
		return err_set(e, -ECANCELED, "interrupted");
	g->changed = true;
	r = gc_view_in_time(&g->view, e);
	/* with a grace of 0 nobody else writes, however long it takes */
	return r < 0 || !g->settings->grace_ns ? r : gc_turn_goes_on(g->turn, e);
}

static void gc_read_clock(const struct gc_settings *s, struct gc_clock *ret)
{
	if (s->clock) {
		*ret = *s->clock;
	} else {
		gc_clock_read(ret, s->now_ns);
	}
}

static int gc_put(struct gc *g, enum gc_kind kind, enum gc_reason reason,
		  const uint8_t hash[REPO_NAME_HASH], struct err *e)
{
	struct gc_object o = { .kind = kind, .reason = reason };
	struct gc_clock clock;
	int r = gc_may_go_on(g, e);

	gc_read_clock(g->settings, &clock);
	gc_clock_stamp(&clock, &o);
	memcpy(o.hash, hash, sizeof(o.hash));
	if (r >= 0)
		r = gc_object_put(g->repo->store, g->repo->format.id, g->repo->crypt, &o, e);
	return r;
}

static int gc_delete_note(struct gc *g, enum gc_kind kind, const uint8_t hash[REPO_NAME_HASH],
			  struct err *e)
{
	int r = gc_may_go_on(g, e);

	return r < 0 ? r : gc_object_del(g->repo->store, kind, hash, e);
}

static int gc_delete_pack(struct gc *g, const struct gc_pack *p, struct err *e)
{
	char name[PACK_NAME_SIZE];
	int r = gc_may_go_on(g, e);

	return r < 0 ? r : store_del(g->repo->store, pack_name(p->hash, name), e);
}

/* ---- 1: images ----------------------------------------------------------------------------------- */

static int gc_delete_image(struct gc *g, const struct gc_object *tombstone, struct err *e)
{
	struct gc_object again = { .kind = GC_FORGET };
	char hex[2 * REPO_NAME_HASH + 1], name[STORE_NAME_MAX];
	struct repo *r = g->repo;
	uint64_t size;
	int n = gc_may_go_on(g, e);

	if (n < 0)
		return n;
	memcpy(again.hash, tombstone->hash, sizeof(again.hash));
	snprintf(name, sizeof(name), "images/%s", hex_encode(tombstone->hash, REPO_NAME_HASH, hex));
	n = gc_object_get(r->store, r->format.id, r->crypt, &again, e);
	if (n == -ENOENT) {
		return err_set(
			e, -EAGAIN,
			"%s was taken back, or was deleted by another prune, just now: run it again",
			name);
	}
	if (n < 0)
		return n;
	g->result->images_deleted += store_size(r->store, name, &size, NULL) == 0;
	n = store_del(r->store, name, e);
	return n < 0 ? n : gc_delete_note(g, GC_FORGET, tombstone->hash, e);
}

static int gc_delete_images(struct gc *g, struct err *e)
{
	for (size_t i = 0; i < g->view.notes.count; i++) {
		const struct gc_object *o = &g->view.notes.items[i];

		if (o->kind == GC_FORGET && gc_view_ripe(&g->view, o)) {
			int r = gc_delete_image(g, o, e);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* ---- 2, 3: copies and marks ---------------------------------------------------------------------- */

static int gc_copy_packs(struct gc *g, struct err *e)
{
	struct gc_copy_result copy = { 0 };
	bool any = false;
	int r;

	for (size_t i = 0; i < g->view.n_packs; i++)
		any |= g->copied[i];
	if (!any)
		return 0;
	r = gc_may_go_on(g, e);
	if (r < 0)
		return r;
	r = gc_copy(&g->view, g->copied, g->settings->cancel, g->settings->progress,
		    g->settings->progress_ctx, &copy, e);
	g->result->bytes_copied += copy.bytes;
	g->result->damaged += copy.damaged;
	if (copy.damaged && !*g->result->first_damage) {
		memcpy(g->result->first_damage, copy.first_damage, sizeof(g->result->first_damage));
	}
	return r;
}

/* What could not be copied stays where it is. */
static void gc_keep_uncopied(struct gc *g)
{
	for (size_t i = 0; i < g->view.n_packs; i++) {
		const struct gc_pack *p = &g->view.packs[i];

		if (!p->live || g->copied[i])
			continue;
		if (fate_is_copy((enum fate)g->fates[i])) {
			g->result->packs_joined -= g->fates[i] == FATE_JOIN;
			g->result->packs_gathered -= g->fates[i] == FATE_GATHER;
			g->result->packs_marked--;
			g->result->packs_repacked--;
			g->result->bytes_marked -= p->size;
			g->fates[i] = FATE_KEEP;
		} else if (g->fates[i] == FATE_SWEEP) {
			g->result->packs_deleted--;
			g->result->bytes_deleted -= p->size;
			g->fates[i] = FATE_WAIT;
		}
	}
}

static int gc_mark_packs(struct gc *g, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < g->view.n_packs && r >= 0; i++) {
		const struct gc_pack *p = &g->view.packs[i];

		switch ((enum fate)g->fates[i]) {
		case FATE_DEAD:
			r = gc_put(g, GC_MARK, GC_REASON_DEAD, p->hash, e);
			break;
		case FATE_REPACK:
		case FATE_JOIN:
		case FATE_GATHER:
			r = gc_put(g, GC_MARK, GC_REASON_REPACKED, p->hash, e);
			break;
		case FATE_STRAY:
			r = gc_put(g, GC_STRAY, GC_REASON_NONE, p->hash, e);
			break;
		default:
			/* a writer's index file came after its pack was noted */
			if (p->stray && p->indexed)
				r = gc_delete_note(g, GC_STRAY, p->hash, e);
			break;
		}
	}
	return r;
}

/* ---- 4: sweep ------------------------------------------------------------------------------------ */

static bool gc_keeps(void *ctx, uint32_t pack)
{
	const struct gc *g = ctx;

	return g->fates[g->view.of_index[pack]] != FATE_SWEEP;
}

static int gc_merge_index(struct gc *g, struct err *e)
{
	const bool many = repo_index_files(g->repo->index) > GC_INDEX_FILES_MANY;
	bool done;
	int r;

	if (!g->merge && !many)
		return 0;
	r = gc_may_go_on(g, e);
	if (r < 0)
		return r;
	return repo_index_merge(g->repo->index, g->merge ? UINT64_MAX : GC_INDEX_MERGE_ENTRIES,
				gc_keeps, g, &done, e);
}

static int gc_delete_superseded(struct gc *g, struct err *e)
{
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;
	struct repo *repo = g->repo;
	int r;

	r = repo_index_open(repo->store, repo->format.id, repo->crypt, &x, e);
	for (size_t i = 0; r >= 0 && i < repo_index_files(x); i++) {
		char hex[2 * REPO_NAME_HASH + 1], name[STORE_NAME_MAX];
		const uint8_t *hash;
		bool superseded;

		hash = repo_index_file(x, i, &superseded);
		if (!superseded)
			continue;
		snprintf(name, sizeof(name), "index/%s", hex_encode(hash, REPO_NAME_HASH, hex));
		r = gc_may_go_on(g, e);
		if (r >= 0)
			r = store_del(repo->store, name, e);
	}
	return r;
}

static int gc_sweep(struct gc *g, struct err *e)
{
	const struct gc_view *v = &g->view;
	int r = 0;

	for (size_t i = 0; i < v->n_packs && r >= 0; i++) {
		if (g->fates[i] == FATE_SWEEP && v->packs[i].gone)
			r = gc_delete_note(g, GC_GONE, v->packs[i].hash, e);
	}
	if (r >= 0)
		r = gc_merge_index(g, e);
	if (r >= 0)
		r = gc_delete_superseded(g, e);
	for (size_t i = 0; i < v->n_packs && r >= 0; i++) {
		if (g->fates[i] == FATE_SWEEP)
			r = gc_delete_pack(g, &v->packs[i], e);
	}
	for (size_t i = 0; i < v->n_packs && r >= 0; i++) {
		if (g->fates[i] == FATE_SWEEP || g->fates[i] == FATE_GONE)
			r = gc_put(g, GC_GONE, GC_REASON_NONE, v->packs[i].hash, e);
	}
	return r;
}

/* ---- 5: notes that have done their work ---------------------------------------------------------- */

static int gc_retire(struct gc *g, const struct gc_pack *p, enum fate fate, struct err *e)
{
	int r = 0;

	if (fate == FATE_RETIRE)
		r = gc_delete_note(g, GC_MARK, p->hash, e);
	if (fate == FATE_STRAY_SWEEP)
		r = gc_delete_pack(g, p, e);
	if (r >= 0 && p->stray)
		r = gc_delete_note(g, GC_STRAY, p->hash, e);
	if (r >= 0 && p->gone)
		r = gc_delete_note(g, GC_GONE, p->hash, e);
	return r;
}

static int gc_retire_all(struct gc *g, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < g->view.n_packs && r >= 0; i++) {
		const enum fate fate = (enum fate)g->fates[i];

		if (fate == FATE_RETIRE || fate == FATE_STRAY_SWEEP || fate == FATE_CLEAR)
			r = gc_retire(g, &g->view.packs[i], fate, e);
	}
	return r;
}

/* Every image was found whole: nothing that was lost is missed any more. */
static int gc_forgive(struct gc *g, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < g->view.notes.count && r >= 0; i++) {
		if (g->view.notes.items[i].kind == GC_LOSSY)
			r = gc_delete_note(g, GC_LOSSY, g->view.notes.items[i].hash, e);
	}
	return r;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

/* L, W, and what is to be done. */
static int gc_look(struct gc *g, bool first, struct err *e)
{
	const struct gc_settings *s = g->settings;
	struct gc_clock clock;
	int r;

	gc_read_clock(s, &clock);
	r = gc_view_load(g->repo, &clock, s->grace_ns, &g->view, e);
	if (r < 0)
		return r;
	for (size_t i = 0; first && i < g->view.n_packs; i++) {
		g->result->packs += g->view.packs[i].stored;
		g->result->bytes += g->view.packs[i].size;
	}
	r = gc_view_walk(&g->view, s->cancel, s->progress, s->progress_ctx, e);
	return r < 0 ? r : gc_plan(g, e);
}

static int gc_act(struct gc *g, struct err *e)
{
	int r = gc_delete_images(g, e);

	if (r >= 0)
		r = gc_copy_packs(g, e);
	gc_keep_uncopied(g);
	if (r >= 0)
		r = gc_mark_packs(g, e);
	if (r >= 0)
		r = gc_sweep(g, e);
	if (r >= 0)
		r = gc_retire_all(g, e);
	return r < 0 ? r : gc_forgive(g, e);
}

/* @turn NULL: only look. */
static int gc_passes(struct repo *repo, const struct gc_settings *s, const struct gc_turn *turn,
		     struct gc_result *res, struct err *e)
{
	bool changed = true;
	int r = 0;

	for (int i = 0; i < GC_PASSES_MAX && changed && r >= 0; i++) {
		_cleanup_(gc_done) struct gc g = {
			.repo = repo, .settings = s, .turn = turn, .result = res
		};

		r = gc_look(&g, i == 0, e);
		if (r >= 0 && turn)
			r = gc_act(&g, e);
		/* what was marked now must wait */
		changed = g.changed && !s->grace_ns;
	}
	return r;
}

/*
 * Does the store say of the note that was just put that it is of now? On a file system of another machine the time is that
 * machine's, on our own the same clock's. One that says nothing says no lie.
 */
static int gc_check_store_clock(const struct gc_settings *s, const struct gc_turn *t, struct err *e)
{
	char name[GC_OBJECT_NAME_SIZE];
	uint64_t store_ns, off;
	int r;

	if (s->now_ns || s->trust_clock)
		return 0;
	gc_object_name(t->note.kind, t->note.hash, name);
	r = store_time(t->repo->store, name, &store_ns, e);
	if (r < 0)
		return r == -ENOTSUP ? 0 : r;
	if (store_ns + GC_CLOCK_SLACK_NS >= t->put.now_ns &&
	    store_ns <= t->answered.now_ns + GC_CLOCK_SLACK_NS)
		return 0;
	off = store_ns < t->put.now_ns ? t->put.now_ns - store_ns : store_ns - t->answered.now_ns;
	return err_set(e, -ETIME,
		       "the clock of what keeps the repository is %" PRIu64
		       " s %s this machine's: one of the two is wrong, so nothing is deleted. When "
		       "this one is known to be right: --trust-clock",
		       off / 1000000000, store_ns < t->put.now_ns ? "behind" : "ahead of");
}

int gc_prune(struct repo *r, const struct gc_settings *s, struct gc_result *ret, struct err *e)
{
	_cleanup_(gc_turn_end) struct gc_turn turn = { 0 };
	struct gc_clock clock;
	int n;

	*ret = (struct gc_result){ 0 };
	if (r->format.encrypted && !r->crypt)
		return err_set(e, -ENOKEY, "the repository is encrypted: give its key");
	if (r->crypt && crypt_rights(r->crypt) != CRYPT_RIGHTS_FULL) {
		return err_set(e, -EACCES,
			       "this key may add images, but not read any: to prune takes one with "
			       "full rights");
	}
	if (s->dry_run)
		return gc_passes(r, s, NULL, ret, e);
	gc_read_clock(s, &clock);
	n = gc_turn_begin(&turn, r, GC_PRUNE, s->clock || s->now_ns ? &clock : NULL, !s->grace_ns,
			  e);
	if (n >= 0)
		n = gc_check_store_clock(s, &turn, e);
	return n < 0 ? n : gc_passes(r, s, &turn, ret, e);
}
