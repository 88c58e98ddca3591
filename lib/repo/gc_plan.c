/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of each pack; why that is right stands at the head of gc.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/gc.h"
#include "lib/repo/gc_private.h"

/* ---- what becomes of each pack ------------------------------------------------------------------- */

static bool gc_retirable(const struct gc *g, const struct gc_pack *p)
{
	const struct gc_view *v = &g->view;

	return !v->grace_ns ||
	       gc_clock_age(&v->clock, p->gone) >= 2 * (v->grace_ns + GC_CLOCK_SLACK_NS);
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
}

/* ---- small ones ---------------------------------------------------------------------------------- */

/* Packs that are kept only to be joined, oldest first. */
struct small_packs {
	const struct gc_pack **items;
	size_t n;
	uint64_t bytes;
};

static int small_compare(const void *a, const void *b)
{
	const struct gc_pack *x = *(const struct gc_pack *const *)a;
	const struct gc_pack *y = *(const struct gc_pack *const *)b;

	if (x->first_use != y->first_use)
		return x->first_use < y->first_use ? -1 : 1;
	return memcmp(x->hash, y->hash, sizeof(x->hash));
}

uint64_t gc_small_pack(const struct gc *g)
{
	return g->settings->small_pack ? g->settings->small_pack : GC_SMALL_PACK;
}

static void gc_find_small(const struct gc *g, struct small_packs *l)
{
	const uint64_t small = gc_small_pack(g);

	for (size_t i = 0; i < g->view.n_packs; i++) {
		const struct gc_pack *p = &g->view.packs[i];

		if (g->fates[i] != FATE_KEEP || !p->stored || !p->live || p->size >= small)
			continue;
		l->items[l->n++] = p;
		l->bytes += p->size;
	}
	if (l->n)
		qsort(l->items, l->n, sizeof(const struct gc_pack *), small_compare);
}

/*
 * Increments leave small packs, of chunks and of pages. When there are many they go the way of packs that are mostly dead:
 * copied into large ones, marked, deleted a grace period later. What is left of it is at most two small packs, one of pages
 * and one of chunks, so that the next time is not soon, and in a chain of any length there are less than small_many small
 * packs and those that wait.
 */
static int gc_plan_join(struct gc *g, uint64_t repack_left, struct err *e)
{
	const struct gc_settings *s = g->settings;
	const size_t many = s->small_many ? s->small_many : GC_SMALL_MANY_DEFAULT;
	_cleanup_free_ const struct gc_pack **items = NULL;
	struct small_packs l = { 0 };
	size_t n = 0;

	if (s->repack_dead_percent >= 100)
		return 0;
	items = calloc(g->view.n_packs + 1, sizeof(const struct gc_pack *));
	if (!items)
		return err_oom(e);
	l.items = items;
	gc_find_small(g, &l);
	if (l.n < many && l.bytes < GC_SMALL_BYTES)
		return 0;
	while (n < l.n && l.items[n]->live_bytes <= repack_left)
		repack_left -= l.items[n++]->live_bytes;
	/* two may become two again, of pages and of chunks */
	if (n < 3)
		return 0;
	for (size_t i = 0; i < n; i++)
		g->fates[l.items[i] - g->view.packs] = FATE_JOIN;
	return 0;
}

/* ---- all of them --------------------------------------------------------------------------------- */

static void gc_plan_count(struct gc *g, size_t i)
{
	struct gc_result *res = g->result;
	const struct gc_pack *p = &g->view.packs[i];
	const enum fate fate = (enum fate)g->fates[i];

	g->copied[i] = p->live && (fate_is_copy(fate) || fate == FATE_SWEEP);
	g->merge |= fate == FATE_SWEEP && p->indexed;
	if (fate == FATE_DEAD || fate_is_copy(fate) || fate == FATE_STRAY) {
		res->packs_marked++;
		res->bytes_marked += p->size;
		res->packs_repacked += fate_is_copy(fate);
		res->packs_joined += fate == FATE_JOIN;
		res->packs_gathered += fate == FATE_GATHER;
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

		if (!p->stored || (fate != FATE_WAIT && fate != FATE_DEAD && !fate_is_copy(fate) &&
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

int gc_plan(struct gc *g, struct err *e)
{
	const bool clean = gc_index_is_clean(g);
	uint64_t repack_left = g->settings->max_repack_bytes ? g->settings->max_repack_bytes
							     : UINT64_MAX;
	struct gc_view *v = &g->view;
	int r;

	g->fates = calloc(v->n_packs + 1, sizeof(*g->fates));
	g->copied = calloc(v->n_packs + 1, sizeof(*g->copied));
	if (!g->fates || !g->copied)
		return err_oom(e);
	for (size_t i = 0; i < v->n_packs; i++)
		gc_plan_one(g, i, &repack_left, clean);
	r = gc_gather(g, &repack_left, e);
	if (r >= 0)
		r = gc_plan_join(g, repack_left, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < v->n_packs; i++)
		gc_plan_count(g, i);
	gc_plan_waiting(g);
	g->result->images = v->walked;
	return 0;
}
