/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One run of gc_prune(), in this order. G is the grace period, and every wait is G and the slack between clocks
 * (GC_CLOCK_SLACK_NS); a note that has waited so long is called ripe.
 *
 *  L  load: notes (time L is before), images, index, packs; an unreadable one ends the run: nothing is deleted on a guess
 *  W  walk: for every image without a ripe tombstone, choose one place for each page and chunk it needs, in an unmarked pack
 *     where there is one; something missing ends the run
 *  1  delete images with ripe tombstones (if the tombstone is still there), then the tombstones
 *  2  copy what was chosen in ripe marked packs, and in packs that are mostly dead, to new packs; their index files
 *  3  mark packs: dead, or repacked; note strays (packs that no index file names: of a killed writer, or of one that works)
 *  4  of packs whose mark was ripe at L and in which nothing was chosen, or all of it was copied in 2:
 *     4a delete "gone" notes of those that an index file names (again)
 *     4b put an index file without them, 4c delete the index files that it replaces, 4d delete the packs, 4e note them "gone"
 *  5  delete marks whose "gone" note is ripe twice over, when no index file names the pack and none waits in 4c; then the
 *     note. Delete ripe strays, then their notes.
 *
 * Nothing is changed later than G after L (-ESTALE), and writers keep W1 to W4 of gc_object.h.
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
 * I4: all changes are puts of names that do not depend on the run, or deletions; and 1 … 5 look only at what was loaded.
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
#include "lib/repo/pack.h"

/* With a grace of 0 one run of steps feeds the next: mark, delete, delete the mark. */
#define GC_PASSES_MAX 8
/* More index files than that are made one, of those that are no larger than that. */
#define GC_INDEX_FILES_MANY    32
#define GC_INDEX_MERGE_ENTRIES (UINT64_C(4) << 20)

/* What becomes of a pack in this run. */
enum fate {
	FATE_KEEP,
	FATE_DEAD,	  /* mark it */
	FATE_REPACK,	  /* copy and mark it */
	FATE_WAIT,	  /* marked or noted, not ripe */
	FATE_SWEEP,	  /* ripe: copy what is live, delete it */
	FATE_GONE,	  /* marked and deleted: note it */
	FATE_RETIRE,	  /* deleted long ago: its mark and note */
	FATE_STRAY,	  /* note it */
	FATE_STRAY_SWEEP, /* delete it and its note */
	FATE_CLEAR,	  /* nothing is left but notes */
};

struct gc {
	struct repo *repo;
	const struct gc_settings *settings;
	struct gc_result *result;
	struct gc_view view;
	uint8_t *fates; /* enum fate, by place in view.packs */
	bool *copied;	/* likewise: to be copied, then: was copied */
	bool merge;	/* an index file names a pack that is swept */
	bool changed;
};

static void gc_done(struct gc *g)
{
	gc_view_done(&g->view);
	free(g->fates);
	free(g->copied);
}

/* Before every change. */
static int gc_may_go_on(struct gc *g, struct err *e)
{
	if (cancel_raised(g->settings->cancel))
		return err_set(e, -ECANCELED, "interrupted");
	g->changed = true;
	return gc_view_in_time(&g->view, e);
}

static int gc_put(struct gc *g, enum gc_kind kind, enum gc_reason reason,
		  const uint8_t hash[REPO_NAME_HASH], struct err *e)
{
	struct gc_object o = { .kind = kind,
			       .reason = reason,
			       .time_ns = g->settings->now_ns ? g->settings->now_ns
							      : io_realtime_ns() };
	int r = gc_may_go_on(g, e);

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

/* ---- what becomes of each pack ------------------------------------------------------------------- */

static bool gc_retirable(const struct gc *g, const struct gc_pack *p)
{
	const struct gc_view *v = &g->view;

	return !v->grace_ns ||
	       (v->now_ns > p->gone->time_ns &&
		v->now_ns - p->gone->time_ns >= 2 * (v->grace_ns + GC_CLOCK_SLACK_NS));
}

static bool gc_is_mostly_dead(const struct gc *g, const struct gc_pack *p)
{
	/* what the records around an entry take */
	const uint64_t live = p->live_bytes + UINT64_C(144) * p->live;

	if (p->live >= p->entries || g->settings->repack_dead_percent >= 100)
		return false;
	return p->size > live &&
	       (p->size - live) * 100 > p->size * g->settings->repack_dead_percent;
}

static enum fate gc_fate_of(const struct gc *g, const struct gc_pack *p)
{
	if (p->mark) {
		if (!gc_view_ripe(&g->view, p->mark))
			return FATE_WAIT;
		if (p->stored || p->indexed)
			return FATE_SWEEP;
		if (!p->gone)
			return FATE_GONE;
		return gc_retirable(g, p) ? FATE_RETIRE : FATE_WAIT;
	}
	if (p->indexed) {
		if (!p->live)
			return FATE_DEAD;
		return gc_is_mostly_dead(g, p) ? FATE_REPACK : FATE_KEEP;
	}
	if (!p->stored)
		return FATE_CLEAR;
	if (!p->stray)
		return FATE_STRAY;
	return gc_view_ripe(&g->view, p->stray) ? FATE_STRAY_SWEEP : FATE_WAIT;
}

/* Superseded index files still name packs; while one is there, no mark goes (I3). */
static bool gc_index_is_clean(const struct gc *g)
{
	for (size_t i = 0; i < repo_index_files(g->repo->index); i++) {
		bool superseded;

		repo_index_file(g->repo->index, i, &superseded);
		if (superseded)
			return false;
	}
	return true;
}

static void gc_plan_one(struct gc *g, size_t i, uint64_t *repack_left, bool clean)
{
	struct gc_result *res = g->result;
	const struct gc_pack *p = &g->view.packs[i];
	enum fate fate = gc_fate_of(g, p);

	if (fate == FATE_RETIRE && !clean)
		fate = FATE_WAIT;
	if (fate == FATE_REPACK) {
		if (p->live_bytes > *repack_left) {
			fate = FATE_KEEP;
		} else {
			*repack_left -= p->live_bytes;
		}
	}
	g->fates[i] = (uint8_t)fate;
	g->copied[i] = p->live && (fate == FATE_REPACK || fate == FATE_SWEEP);
	g->merge |= fate == FATE_SWEEP && p->indexed;
	if (fate == FATE_DEAD || fate == FATE_REPACK || fate == FATE_STRAY) {
		res->packs_marked++;
		res->bytes_marked += p->size;
		res->packs_repacked += fate == FATE_REPACK;
	}
	if ((fate == FATE_SWEEP && p->stored) || fate == FATE_STRAY_SWEEP) {
		res->packs_deleted++;
		res->bytes_deleted += p->size;
	}
}

/* What waits after this run, and until when. */
static void gc_plan_waiting(struct gc *g)
{
	const uint64_t wait = g->view.grace_ns ? g->view.grace_ns + GC_CLOCK_SLACK_NS : 0;
	struct gc_result *res = g->result;
	uint64_t first = UINT64_MAX;

	res->packs_waiting = res->bytes_waiting = res->images_waiting = 0;
	for (size_t i = 0; i < g->view.n_packs; i++) {
		const struct gc_pack *p = &g->view.packs[i];
		const struct gc_object *note = p->mark ? p->mark : p->stray;
		const enum fate fate = g->fates[i];

		if (!p->stored || (fate != FATE_WAIT && fate != FATE_DEAD && fate != FATE_REPACK &&
				   fate != FATE_STRAY))
			continue;
		res->packs_waiting++;
		res->bytes_waiting += p->size;
		first = MIN(first, (fate == FATE_WAIT ? note->time_ns : g->view.now_ns) + wait);
	}
	for (size_t i = 0; i < g->view.notes.count; i++) {
		const struct gc_object *o = &g->view.notes.items[i];

		if (o->kind != GC_FORGET)
			continue;
		if (gc_view_ripe(&g->view, o)) {
			res->images_deleted += g->settings->dry_run;
			continue;
		}
		res->images_waiting++;
		first = MIN(first, o->time_ns + wait);
	}
	res->next_ns = first == UINT64_MAX ? 0 : first;
}

static int gc_plan(struct gc *g, struct err *e)
{
	const bool clean = gc_index_is_clean(g);
	uint64_t repack_left = g->settings->max_repack_bytes ? g->settings->max_repack_bytes
							     : UINT64_MAX;
	struct gc_view *v = &g->view;

	g->fates = calloc(v->n_packs + 1, sizeof(*g->fates));
	g->copied = calloc(v->n_packs + 1, sizeof(*g->copied));
	if (!g->fates || !g->copied)
		return err_oom(e);
	for (size_t i = 0; i < v->n_packs; i++)
		gc_plan_one(g, i, &repack_left, clean);
	gc_plan_waiting(g);
	g->result->images = v->walked;
	return 0;
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
		if (g->fates[i] == FATE_REPACK) {
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

static int gc_pass(struct repo *repo, const struct gc_settings *s, bool first,
		   struct gc_result *res, bool *ret_changed, struct err *e)
{
	_cleanup_(gc_done) struct gc g = { .repo = repo, .settings = s, .result = res };
	int r;

	r = gc_view_load(repo, s->now_ns, s->grace_ns, &g.view, e);
	if (r < 0)
		return r;
	for (size_t i = 0; first && i < g.view.n_packs; i++) {
		res->packs += g.view.packs[i].stored;
		res->bytes += g.view.packs[i].size;
	}
	r = gc_view_walk(&g.view, s->cancel, s->progress, s->progress_ctx, e);
	if (r >= 0)
		r = gc_plan(&g, e);
	if (r < 0 || s->dry_run)
		return r;
	r = gc_delete_images(&g, e);
	if (r >= 0)
		r = gc_copy_packs(&g, e);
	gc_keep_uncopied(&g);
	if (r >= 0)
		r = gc_mark_packs(&g, e);
	if (r >= 0)
		r = gc_sweep(&g, e);
	if (r >= 0)
		r = gc_retire_all(&g, e);
	if (r >= 0)
		r = gc_forgive(&g, e);
	*ret_changed = g.changed;
	return r;
}

int gc_prune(struct repo *r, const struct gc_settings *s, struct gc_result *ret, struct err *e)
{
	struct gc_result res = { 0 };
	bool changed = true;
	int n = 0;

	for (int i = 0; i < GC_PASSES_MAX && changed && n >= 0; i++) {
		changed = false;
		n = gc_pass(r, s, i == 0, &res, &changed, e);
		/* what was marked now must wait */
		if (s->grace_ns)
			break;
	}
	*ret = res;
	return n;
}

/* ---- forget -------------------------------------------------------------------------------------- */

static int gc_image_exists(struct repo *r, const uint8_t hash[REPO_NAME_HASH], struct err *e)
{
	char hex[2 * REPO_NAME_HASH + 1], name[STORE_NAME_MAX];
	uint64_t size;
	int n;

	snprintf(name, sizeof(name), "images/%s", hex_encode(hash, REPO_NAME_HASH, hex));
	n = store_size(r->store, name, &size, e);
	return n == -ENOENT ? err_set(e, n, "there is no image %.16s", hex) : n;
}

int gc_forget(struct repo *r, const uint8_t (*hashes)[REPO_NAME_HASH], size_t n, uint64_t now_ns,
	      struct err *e)
{
	if (r->format.encrypted && !r->crypt)
		return err_set(e, -ENOKEY, "the repository is encrypted: give its key");
	for (size_t i = 0; i < n; i++) {
		int k = gc_image_exists(r, hashes[i], e);

		if (k < 0)
			return k;
	}
	for (size_t i = 0; i < n; i++) {
		struct gc_object o = { .kind = GC_FORGET,
				       .time_ns = now_ns ? now_ns : io_realtime_ns() };
		int k;

		memcpy(o.hash, hashes[i], sizeof(o.hash));
		k = gc_object_put(r->store, r->format.id, r->crypt, &o, e);
		if (k < 0)
			return k;
	}
	return 0;
}

int gc_unforget(struct repo *r, const uint8_t hash[REPO_NAME_HASH], bool sure, struct err *e)
{
	struct gc_object o = { .kind = GC_FORGET };
	char hex[2 * REPO_NAME_HASH + 1];
	int n;

	memcpy(o.hash, hash, sizeof(o.hash));
	n = gc_object_get(r->store, r->format.id, r->crypt, &o, e);
	if (n >= 0 && !sure && io_realtime_ns() > o.time_ns + GC_GRACE_DEFAULT_NS) {
		return err_set(
			e, -EBUSY,
			"image %.16s was forgotten longer ago than the grace period: a prune "
			"may be deleting it now; if none runs, --yes takes it back",
			hex_encode(hash, REPO_NAME_HASH, hex));
	}
	if (n == 0 || n == -EBADMSG)
		n = gc_object_del(r->store, GC_FORGET, hash, e);
	if (n < 0 && n != -ENOENT)
		return n;

	/* after it: a prune looks for the tombstone right before it deletes the image */
	return gc_image_exists(r, hash, e);
}
