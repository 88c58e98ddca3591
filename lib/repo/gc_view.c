/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/gc_view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/repo/pack.h"

/* The hash that ends an object's name; what has none is nothing of ours. */
static int name_to_hash(const char *name, uint8_t ret[REPO_NAME_HASH])
{
	const char *slash = strrchr(name, '/');

	return slash ? hex_decode(slash + 1, ret, REPO_NAME_HASH) : -EINVAL;
}

/* ---- loading: packs ------------------------------------------------------------------------------ */

struct pack_list {
	struct gc_pack *items;
	size_t count, allocated;
};

static int pack_list_add(struct pack_list *l, const struct gc_pack *p)
{
	if (ARRAY_ROOM(l->items, l->count, l->allocated, 256) < 0)
		return -ENOMEM;
	l->items[l->count++] = *p;
	return 0;
}

static int view_add_pack(void *ctx, const char *name, uint64_t size)
{
	struct gc_pack p = { .size = size, .stored = true };

	return name_to_hash(name, p.hash) < 0 ? 0 : pack_list_add(ctx, &p);
}

static int pack_compare(const void *a, const void *b)
{
	return memcmp(((const struct gc_pack *)a)->hash, ((const struct gc_pack *)b)->hash,
		      REPO_NAME_HASH);
}

static struct gc_pack *pack_find(struct gc_pack *packs, size_t n,
				 const uint8_t hash[REPO_NAME_HASH])
{
	struct gc_pack key;

	memcpy(key.hash, hash, sizeof(key.hash));
	return n ? bsearch(&key, packs, n, sizeof(key), pack_compare) : NULL;
}

/* @p speaks of the same pack. */
static void pack_unite(struct gc_pack *into, const struct gc_pack *p)
{
	into->stored |= p->stored;
	into->indexed |= p->indexed;
	into->size = MAX(into->size, p->size);
	into->entries = MAX(into->entries, p->entries);
}

/* Sort, and make one of those that are the same. */
static void pack_list_unite(struct pack_list *l)
{
	size_t n = 0;

	if (l->count)
		qsort(l->items, l->count, sizeof(*l->items), pack_compare);
	for (size_t i = 0; i < l->count; i++) {
		if (n && pack_compare(&l->items[n - 1], &l->items[i]) == 0) {
			pack_unite(&l->items[n - 1], &l->items[i]);
		} else {
			l->items[n++] = l->items[i];
		}
	}
	l->count = n;
}

/* Where the first @sorted know the pack it is not added: nearly all packs are in the store and in the index. */
static int pack_list_join(struct pack_list *l, size_t sorted, const struct gc_pack *p)
{
	struct gc_pack *known = pack_find(l->items, sorted, p->hash);

	if (!known)
		return pack_list_add(l, p);
	pack_unite(known, p);
	return 0;
}

/* A pack of another size than the index says has not what the index says: it is as good as gone. */
static void view_check_sizes(struct gc_view *v)
{
	for (size_t i = 0; i < repo_index_packs(v->repo->index); i++) {
		const struct repo_index_pack_info *info =
			repo_index_pack(v->repo->index, (uint32_t)i);
		struct gc_pack *p = &v->packs[v->of_index[i]];

		if (p->stored && p->size != info->size)
			p->stored = false;
	}
}

static int view_join_packs(struct gc_view *v, struct pack_list *l, struct err *e)
{
	const size_t n = repo_index_packs(v->repo->index);
	size_t sorted;
	int r = 0;

	pack_list_unite(l);
	sorted = l->count;
	for (size_t i = 0; i < n && r >= 0; i++) {
		const struct repo_index_pack_info *info =
			repo_index_pack(v->repo->index, (uint32_t)i);
		struct gc_pack p = { .indexed = true, .entries = info->entries };

		memcpy(p.hash, info->hash, sizeof(p.hash));
		r = pack_list_join(l, sorted, &p);
	}
	for (size_t i = 0; i < v->notes.count && r >= 0; i++) {
		struct gc_pack p = { 0 };

		memcpy(p.hash, v->notes.items[i].hash, sizeof(p.hash));
		/* the others do not speak of packs */
		if (gc_object_is_of_pack(v->notes.items[i].kind))
			r = pack_list_join(l, sorted, &p);
	}
	v->of_index = calloc(n + 1, sizeof(*v->of_index));
	if (r < 0 || !v->of_index)
		return err_oom(e);
	pack_list_unite(l);
	v->n_packs = l->count;
	v->packs = TAKE_PTR(l->items);
	for (size_t i = 0; i < n; i++) {
		const struct repo_index_pack_info *info =
			repo_index_pack(v->repo->index, (uint32_t)i);

		v->of_index[i] = (uint32_t)(pack_find(v->packs, v->n_packs, info->hash) - v->packs);
	}
	for (size_t i = 0; i < v->n_packs; i++) {
		struct gc_pack *p = &v->packs[i];

		p->mark = gc_objects_find(&v->notes, GC_MARK, p->hash);
		p->stray = gc_objects_find(&v->notes, GC_STRAY, p->hash);
		p->gone = gc_objects_find(&v->notes, GC_GONE, p->hash);
		p->first_use = UINT64_MAX;
		p->disk = UINT32_MAX;
	}
	view_check_sizes(v);
	return 0;
}

/* ---- loading: all -------------------------------------------------------------------------------- */

static int view_check_notes(const struct gc_view *v, struct err *e)
{
	char name[GC_OBJECT_NAME_SIZE];

	for (size_t i = 0; i < v->notes.count; i++) {
		const struct gc_object *o = &v->notes.items[i];

		gc_object_name(o->kind, o->hash, name);
		if (o->damaged) {
			return err_set(e, -EBADMSG,
				       "%s is damaged, nothing is deleted: 'ambroctl repo repair' "
				       "puts it right",
				       name);
		}
		if (o->time_ns > v->now_ns && o->time_ns - v->now_ns > GC_CLOCK_SLACK_NS) {
			return err_set(e, -ETIME,
				       "%s was written %" PRIu64
				       " s in the future: the clock of this or of another "
				       "machine is wrong, so nothing is deleted",
				       name, (o->time_ns - v->now_ns) / 1000000000);
		}
	}
	return 0;
}

static int view_load_all(struct gc_view *v, struct err *e)
{
	struct pack_list packs = { 0 };
	struct repo *r = v->repo;
	int n;

	n = gc_objects_load(r->store, r->format.id, r->crypt, &v->notes, e);
	if (n < 0)
		return n;
	n = view_check_notes(v, e);
	if (n < 0)
		return n;
	n = hash_list_load(r->store, "images/", &v->images, e);
	if (n < 0)
		return n;
	/* what is in marked packs counts as there */
	n = repo_load_whole_index(r, e);
	if (n < 0)
		return n;
	n = store_list(r->store, "packs/", view_add_pack, &packs, e);
	if (n >= 0) {
		n = view_join_packs(v, &packs, e);
	} else if (n == -ENOMEM) {
		err_oom(e);
	}
	free(packs.items);
	if (n < 0)
		return n;
	v->live = calloc(repo_index_entries(r->index) / 64 + 1, sizeof(*v->live));
	v->newest = calloc(repo_index_entries(r->index) / 64 + 1, sizeof(*v->newest));
	return v->live && v->newest ? 0 : err_oom(e);
}

int gc_view_load(struct repo *r, const struct gc_clock *clock, uint64_t grace_ns,
		 struct gc_view *ret, struct err *e)
{
	struct gc_view v = { .repo = r,
			     .clock = *clock,
			     .now_ns = clock->now_ns,
			     .loaded_ns = io_boot_ns(),
			     .grace_ns = grace_ns };
	int n;

	if (r->format.encrypted && !r->crypt)
		return err_set(e, -ENOKEY, "the repository is encrypted: give its key");
	n = view_load_all(&v, e);
	if (n < 0) {
		gc_view_done(&v);
		return n;
	}
	*ret = v;
	return 0;
}

void gc_view_done(struct gc_view *v)
{
	gc_objects_done(&v->notes);
	hash_list_done(&v->images);
	free(v->packs);
	free(v->of_index);
	free(v->live);
	free(v->newest);
	*v = (struct gc_view){ 0 };
}

bool gc_view_ripe(const struct gc_view *v, const struct gc_object *note)
{
	if (!v->grace_ns)
		return true;
	return gc_clock_age(&v->clock, note) >= v->grace_ns + GC_CLOCK_SLACK_NS;
}

int gc_view_in_time(const struct gc_view *v, struct err *e)
{
	if (!v->grace_ns || io_boot_ns() - v->loaded_ns < v->grace_ns)
		return 0;
	return err_set(e, -ESTALE,
		       "it took longer than the grace period, and what was found out may not be so "
		       "any more: what was done so far is right; run it again");
}

bool gc_view_image_dead(const struct gc_view *v, const uint8_t hash[REPO_NAME_HASH])
{
	const struct gc_object *o = gc_objects_find(&v->notes, GC_FORGET, hash);

	return o && gc_view_ripe(v, o);
}

bool gc_view_is_live(const struct gc_view *v, uint64_t ordinal)
{
	return v->live[ordinal / 64] >> (ordinal % 64) & 1;
}

bool gc_view_is_newest(const struct gc_view *v, uint64_t ordinal)
{
	return v->newest[ordinal / 64] >> (ordinal % 64) & 1;
}
