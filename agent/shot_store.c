/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The invariants are numbered in snapshot_cow.c. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "agent/log.h"
#include "agent/shot.h"

/* How often the store is looked at. */
#define WATCH_NS 200000000
/* Then it grows, where its size was ours to choose; and then an administrator may still do something about it. */
#define GROW_PERCENT 40u
#define WARN_PERCENT 80u

/* Sectors in use and in all; -EIO: the snapshot is not valid any more. */
static int shot_usage(struct shot *k, uint64_t *used, uint64_t *all, struct err *e)
{
	_cleanup_table_ struct mapper_table t = { 0 };
	char name[MAPPER_NAME_MAX];
	int r;

	interpose_name(&k->under, "snap", name);
	r = mapper_read(name, true, &t, e);
	if (r < 0)
		return r;
	if (t.count != 1)
		return err_set(e, -EIO, "%s has lost its table", name);
	/* NOLINTNEXTLINE(cert-err34-c): the kernel's own numbers */
	if (sscanf(t.targets[0].params, "%" SCNu64 "/%" SCNu64, used, all) == 2)
		return 0;
	return err_set(e, -EIO, "the snapshot is not valid any more: %s", t.targets[0].params);
}

int shot_store_check(struct snapshot *s, struct err *e)
{
	struct shot *k = s->state;
	uint64_t used = 0, all = 0;
	struct err why = { 0 };

	if (shot_usage(k, &used, &all, &why) == 0) {
		atomic_store(&s->status->store_used, used * MAPPER_SECTOR);
		return 0;
	}
	return err_set(
		e, -ENOSPC,
		"the snapshot of %s was lost: its COW store (%s%s) is full, or failed, because "
		"more was written than it holds; nothing happened to the disk. Give it more "
		"(--cow-size), or another place (--cow)",
		s->disk->path, k->cow[0].where, k->n_cow > 1 ? ", and what it grew by" : "");
}

/* One more piece of the store, of @size bytes (0: chosen). On failure it is gone again. */
static int shot_add_store(struct snapshot *s, struct shot *k, uint64_t size, struct err *e)
{
	struct cow *c = &k->cow[k->n_cow];
	char name[64];
	const struct cow_wish wish = {
		.where = k->n_cow ? cow_kind_name(k->cow[0].kind) : s->request->cow,
		.size = size,
		.less = k->n_cow > 0,
		.name = name,
		.disk = s->disk,
		.below = k->under.below,
		.below_start = k->under.below_start,
	};
	int r;

	snprintf(name, sizeof(name), k->n_cow ? "%s.%u" : "%s",
		 k->under.name + strlen(MAPPER_NAME_PREFIX), k->n_cow);
	r = cow_make(&wish, c, e);
	if (r < 0) {
		cow_remove(c);
		return r;
	}
	k->n_cow++;
	return 0;
}

/* All pieces, one behind the other: takes over from what the device had before. */
static int shot_map_store(struct shot *k, struct err *e)
{
	_cleanup_table_ struct mapper_table t = { 0 };
	char name[MAPPER_NAME_MAX];
	int r;

	for (unsigned int i = 0; i < k->n_cow; i++) {
		for (size_t n = 0; n < k->cow[i].table.count; n++) {
			const struct mapper_target *x = &k->cow[i].table.targets[n];

			if (mapper_table_add(&t, x->length, x->type, "%s", x->params) < 0)
				return err_oom(e);
		}
	}
	interpose_name(&k->under, "cow", name);
	r = mapper_load(name, &t, false, e);
	return r < 0 ? r : mapper_resume(name, e);
}

/* Step 4. */
int shot_store_make(struct snapshot *s, struct shot *k, struct err *e)
{
	char name[MAPPER_NAME_MAX];
	int r;

	r = shot_add_store(s, k, s->request->cow_size, e);
	if (r < 0)
		return r;
	interpose_name(&k->under, "cow", name);
	r = mapper_create(name, &k->store, e);
	if (r < 0)
		return r;
	k->has_store = true;
	return shot_map_store(k, e);
}

/*
 * Blocks that were in use at the instant may be free by now, and belong to the new piece: what the snapshot still shows of
 * them would be overwritten below it. So they are left out of it. 0, -ENOSPC: too little remains.
 */
static int shot_make_harmless(const struct snapshot *s, struct shot *k, struct cow *c)
{
	_cleanup_extents_ struct extent_set used = { 0 }, rest = { 0 };
	const uint64_t before = c->size;

	if (c->kind != COW_FILE)
		return 0;
	for (size_t i = 0; i < s->map->n_regions; i++) {
		extent_for_each(x, &s->map->regions[i].used) {
			if (extent_set_add(&used, x->start, x->length) < 0)
				return -ENOMEM;
		}
	}
	extent_set_normalise(&used);
	if (extent_set_subtract(&c->hidden, &used, &rest) < 0)
		return -ENOMEM;
	mapper_table_done(&c->table);
	extent_for_each(x, &rest) {
		if (mapper_table_add(&c->table, x->length / MAPPER_SECTOR, "linear", "%u:%u %llu",
				     major(k->under.below), minor(k->under.below),
				     (unsigned long long)((k->under.below_start + x->start) /
							  MAPPER_SECTOR)) < 0)
			return -ENOMEM;
	}
	c->size = extent_set_total(&rest);
	return c->size >= before / 2 ? 0 : -ENOSPC;
}

/* Twice as much, if it may be. False: it stays as it is from now on. */
static bool shot_grow(struct snapshot *s, struct shot *k)
{
	struct err e = { 0 };
	uint64_t size = 0;
	int r;

	if (s->request->cow_size || k->n_cow == STORES_MAX || k->cow[0].kind == COW_DEVICE)
		return false;
	for (unsigned int i = 0; i < k->n_cow; i++)
		size += k->cow[i].size;
	r = shot_add_store(s, k, size, &e);
	if (r >= 0) {
		r = shot_make_harmless(s, k, &k->cow[k->n_cow - 1]);
		if (r < 0) {
			cow_remove(&k->cow[--k->n_cow]);
			err_set(&e, r, "what is free now was in use at the instant");
		}
	}
	/* a piece that is in no table stays until the end: nothing writes to it */
	if (r >= 0)
		r = shot_map_store(k, &e);
	if (r < 0) {
		log_warning("%s: the COW store (%s) cannot grow: %s", s->disk->path,
			    k->cow[0].where, e.text);
		return false;
	}
	log_info("%s: the COW store grew by %s", s->disk->path, k->cow[k->n_cow - 1].where);
	return true;
}

static void shot_warn(const struct snapshot *s, const struct shot *k)
{
	log_warning("%s: the COW store (%s) is filled to %u %%: when it is full, this capture %s",
		    s->disk->path, k->cow[0].where, WARN_PERCENT,
		    s->request->overflow_precopy ? "goes on as precopy" : "fails");
}

static void *shot_watch(void *arg)
{
	struct snapshot *s = arg;
	struct shot *k = s->state;
	bool warned = false, grows = true;
	uint64_t used = 0, all = 0;

	while (!atomic_load(&k->stop) && shot_usage(k, &used, &all, NULL) == 0) {
		atomic_store(&s->status->store_used, used * MAPPER_SECTOR);
		atomic_store(&s->status->store_size, all * MAPPER_SECTOR);
		if (grows && used * 100 >= all * GROW_PERCENT) {
			grows = shot_grow(s, k);
			continue;
		}
		if (!warned && used * 100 >= all * WARN_PERCENT) {
			warned = true;
			shot_warn(s, k);
		}
		nanosleep(&(struct timespec){ .tv_nsec = WATCH_NS }, NULL);
	}
	return NULL;
}

int shot_store_watch(struct snapshot *s, struct err *e)
{
	struct shot *k = s->state;

	if (pthread_create(&k->watcher, NULL, shot_watch, s) != 0)
		return err_oom(e);
	k->watched = true;
	return 0;
}

void shot_store_unwatch(struct shot *k)
{
	if (!k->watched)
		return;
	atomic_store(&k->stop, true);
	pthread_join(k->watcher, NULL);
	k->watched = false;
}

void shot_store_remove(struct shot *k)
{
	while (k->n_cow > 0) {
		struct cow *c = &k->cow[--k->n_cow];

		if (k->has_store) {
			cow_abandon(c);
		} else {
			cow_remove(c);
		}
	}
}
