/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/tree.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/image/codec.h"

/*
 * A leaf is kept almost as its page will be: states, then the ids of its data chunks packed in order. So
 * a leaf with one data chunk costs 4 KiB and not 132, and setting chunks in order is appending.
 */
struct leaf {
	uint32_t n_ids;
	uint32_t allocated;
	struct chunk_id *ids;
	uint8_t states[AMBRO_PAGE_FANOUT];
};

/* Where all chunks are in one state there is no leaf. */
struct slot {
	struct leaf *leaf;
	enum chunk_state all; /* while there is no leaf */
};

struct tree {
	uint64_t chunks;
	uint64_t n_slots;
	struct slot *slots;
};

static void leaf_free(struct leaf *l)
{
	if (!l)
		return;
	free(l->ids);
	free(l);
}
DEFINE_CLEANUP(struct leaf, leaf_free);

/* How many of the first @count states are CHUNK_DATA, eight at a time. */
static uint32_t states_count_data(const uint8_t *states, uint32_t count)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint32_t i = 0, n = 0;

	static_assert(CHUNK_DATA == 2 && CHUNK_BAD == 3 && CHUNK_SAME == 4,
		      "bit 1 set and bit 0 clear is DATA");
	for (; i + 8 <= count; i += 8) {
		uint64_t w;

		memcpy(&w, states + i, sizeof(w));
		n += (uint32_t)((((w >> 1) & ~w & ones) * ones) >> 56);
	}
	for (; i < count; i++)
		n += states[i] == CHUNK_DATA;
	return n;
}

static int leaf_set(struct leaf *l, uint32_t i, enum chunk_state state, const struct chunk_id *id)
{
	bool was_data = l->states[i] == CHUNK_DATA;
	uint32_t rank;
	int r;

	if (!was_data && state != CHUNK_DATA) {
		l->states[i] = (uint8_t)state;
		return 0;
	}
	rank = states_count_data(l->states, i);
	if (!was_data) {
		r = ARRAY_ROOM(l->ids, l->n_ids, l->allocated, 4);
		if (r < 0)
			return r;
		memmove(l->ids + rank + 1, l->ids + rank, (l->n_ids - rank) * sizeof(*l->ids));
		l->n_ids++;
	} else if (state != CHUNK_DATA) {
		assert(rank < l->n_ids && l->ids);
		l->n_ids--;
		memmove(l->ids + rank, l->ids + rank + 1, (l->n_ids - rank) * sizeof(*l->ids));
	}
	if (state == CHUNK_DATA) {
		assert(rank < l->n_ids && l->ids);
		l->ids[rank] = *id;
	}
	l->states[i] = (uint8_t)state;
	return 0;
}

int tree_new(uint64_t chunks, struct tree **ret)
{
	_cleanup_(tree_freep) struct tree *t = NULL;

	if (!chunks)
		return -EINVAL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->chunks = chunks;
	t->n_slots = (chunks - 1) / AMBRO_PAGE_FANOUT + 1;
	t->slots = calloc(t->n_slots, sizeof(*t->slots));
	if (!t->slots)
		return -ENOMEM;
	*ret = TAKE_PTR(t);
	return 0;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	for (uint64_t i = 0; t->slots && i < t->n_slots; i++)
		leaf_free(t->slots[i].leaf);
	free(t->slots);
	free(t);
}

static uint32_t tree_leaf_count(const struct tree *t, uint64_t slot)
{
	return (uint32_t)MIN(t->chunks - slot * AMBRO_PAGE_FANOUT, (uint64_t)AMBRO_PAGE_FANOUT);
}

static int slot_make_leaf(struct slot *s)
{
	struct leaf *l;

	if (s->leaf)
		return 0;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	memset(l->states, s->all, sizeof(l->states));
	s->leaf = l;
	return 0;
}

int tree_set(struct tree *t, uint64_t index, enum chunk_state state, const struct chunk_id *id)
{
	struct slot *s = &t->slots[index / AMBRO_PAGE_FANOUT];
	int r;

	if (!s->leaf && state != CHUNK_DATA && s->all == state)
		return 0;
	r = slot_make_leaf(s);
	if (r < 0)
		return r;
	return leaf_set(s->leaf, index % AMBRO_PAGE_FANOUT, state, id);
}

static void leaf_set_run(struct leaf *l, uint32_t first, uint32_t n, enum chunk_state state)
{
	const uint32_t before = states_count_data(l->states, first);
	const uint32_t gone = states_count_data(l->states + first, n);

	if (gone) {
		assert(before + gone <= l->n_ids && l->ids);
		l->n_ids -= gone;
		memmove(l->ids + before, l->ids + before + gone,
			(l->n_ids - before) * sizeof(*l->ids));
	}
	memset(l->states + first, state, n);
}

static int slot_set_run(struct slot *s, uint32_t first, uint32_t n, enum chunk_state state)
{
	int r;

	if (!s->leaf && s->all == state)
		return 0;
	r = slot_make_leaf(s);
	if (r < 0)
		return r;
	leaf_set_run(s->leaf, first, n, state);
	return 0;
}

int tree_set_run(struct tree *t, uint64_t index, uint64_t count, enum chunk_state state)
{
	while (count) {
		uint64_t i = index / AMBRO_PAGE_FANOUT;
		uint32_t first = index % AMBRO_PAGE_FANOUT;
		uint32_t in_leaf = tree_leaf_count(t, i);
		uint32_t n = (uint32_t)MIN((uint64_t)(in_leaf - first), count);

		if (n == in_leaf) {
			leaf_free(t->slots[i].leaf);
			t->slots[i] = (struct slot){ .all = state };
		} else {
			int r = slot_set_run(&t->slots[i], first, n, state);

			if (r < 0)
				return r;
		}
		index += n;
		count -= n;
	}
	return 0;
}

enum chunk_state tree_get(const struct tree *t, uint64_t index, struct chunk_id *ret_id)
{
	const struct slot *s = &t->slots[index / AMBRO_PAGE_FANOUT];
	const uint32_t i = index % AMBRO_PAGE_FANOUT;

	if (!s->leaf)
		return s->all;
	if (s->leaf->states[i] == CHUNK_DATA && ret_id)
		*ret_id = s->leaf->ids[states_count_data(s->leaf->states, i)];
	return s->leaf->states[i];
}

uint64_t tree_count(const struct tree *t, enum chunk_state state)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < t->n_slots; i++) {
		const struct slot *s = &t->slots[i];
		const uint32_t in_leaf = tree_leaf_count(t, i);

		if (!s->leaf) {
			n += s->all == state ? in_leaf : 0;
			continue;
		}
		for (uint32_t k = 0; k < in_leaf; k++)
			n += s->leaf->states[k] == state;
	}
	return n;
}

uint64_t tree_chunks(const struct tree *t)
{
	return t->chunks;
}

bool tree_leaf(const struct tree *t, uint64_t number, struct page_view *ret,
	       enum chunk_state *ret_all)
{
	const struct slot *s = &t->slots[number];

	*ret = (struct page_view){ .count = tree_leaf_count(t, number) };
	if (!s->leaf) {
		*ret_all = s->all;
		return false;
	}
	ret->states = s->leaf->states;
	ret->ids = s->leaf->ids;
	ret->n_ids = s->leaf->n_ids;
	return true;
}

unsigned int tree_depth(uint64_t chunks)
{
	unsigned int depth = 1;

	for (uint64_t pages = chunks; pages > AMBRO_PAGE_FANOUT; depth++)
		pages = (pages - 1) / AMBRO_PAGE_FANOUT + 1;
	return depth;
}

/* The entries of one level while its pages are made: what the pages of the level below have become. */
struct level {
	unsigned int number;
	uint64_t count;
	uint8_t *states;
	struct chunk_id *ids; /* of the entries with CHUNK_DATA, in order */
	uint64_t n_ids;
	uint64_t allocated;
};

static void level_done(struct level *l)
{
	free(l->states);
	free(l->ids);
}

static int level_add(struct level *l, enum chunk_state state, const struct chunk_id *id)
{
	if (state == CHUNK_DATA) {
		if (ARRAY_ROOM(l->ids, l->n_ids, l->allocated, 64) < 0)
			return -ENOMEM;
		l->ids[l->n_ids++] = *id;
	}
	l->states[l->count++] = (uint8_t)state;
	return 0;
}

struct emission {
	int (*emit)(void *ctx, const void *page, size_t len, const struct chunk_id *id);
	void *ctx;
	uint8_t page[AMBRO_PAGE_MAX];
};

/* All of @count states FREE, or all ZERO, or all SAME: such a page is not stored. */
static bool states_say_it_all(const uint8_t *states, uint32_t count)
{
	return (states[0] <= CHUNK_ZERO || states[0] == CHUNK_SAME) &&
	       !memcmp(states, states + 1, count - 1);
}

/* Make a page of @count entries, hand it out, and enter it into the level above. */
static int emission_page(struct emission *e, const struct page_view *v, bool is_root,
			 struct level *above)
{
	struct ambro_page head = { .level = (uint8_t)v->level, .count = le32(v->count) };
	size_t len = sizeof(head) + v->count + v->n_ids * sizeof(*v->ids);
	struct chunk_id id;
	int r;

	if (!is_root && states_say_it_all(v->states, v->count))
		return level_add(above, v->states[0], NULL);
	memcpy(e->page, &head, sizeof(head));
	memcpy(e->page + sizeof(head), v->states, v->count);
	if (v->n_ids)
		memcpy(e->page + sizeof(head) + v->count, v->ids, v->n_ids * sizeof(*v->ids));
	chunk_id_of(e->page, len, &id);
	r = e->emit(e->ctx, e->page, len, &id);
	if (r < 0)
		return r;
	return level_add(above, CHUNK_DATA, &id);
}

static int emission_leaf(struct emission *e, const struct tree *t, uint64_t slot,
			 struct level *above)
{
	const struct slot *s = &t->slots[slot];
	struct page_view v = { .count = tree_leaf_count(t, slot) };
	uint8_t uniform[AMBRO_PAGE_FANOUT];

	if (s->leaf) {
		v.states = s->leaf->states;
		v.ids = s->leaf->ids;
		v.n_ids = s->leaf->n_ids;
	} else {
		memset(uniform, s->all, v.count);
		v.states = uniform;
	}
	return emission_page(e, &v, t->n_slots == 1, above);
}

static int emission_level(struct emission *e, const struct level *below, struct level *above)
{
	const uint64_t pages = (below->count - 1) / AMBRO_PAGE_FANOUT + 1;
	uint64_t ids_done = 0;
	int r;

	for (uint64_t i = 0; i < pages; i++) {
		uint64_t first = i * AMBRO_PAGE_FANOUT;
		struct page_view v = { .level = below->number, .states = below->states + first };

		v.count = (uint32_t)MIN(below->count - first, (uint64_t)AMBRO_PAGE_FANOUT);
		v.n_ids = states_count_data(v.states, v.count);
		v.ids = v.n_ids ? below->ids + ids_done : NULL;
		ids_done += v.n_ids;
		r = emission_page(e, &v, pages == 1, above);
		if (r < 0)
			return r;
	}
	return 0;
}

static int level_new(unsigned int number, uint64_t entries, struct level *ret)
{
	*ret = (struct level){ .number = number, .states = calloc(entries, 1) };
	return ret->states ? 0 : -ENOMEM;
}

int tree_emit(const struct tree *t,
	      int (*emit)(void *ctx, const void *page, size_t len, const struct chunk_id *id),
	      void *ctx, struct chunk_id *ret_root)
{
	_cleanup_free_ struct emission *e = malloc(sizeof(*e));
	_cleanup_(level_done) struct level below = { 0 };
	int r;

	if (!e)
		return -ENOMEM;
	e->emit = emit;
	e->ctx = ctx;
	r = level_new(1, t->n_slots, &below);
	for (uint64_t i = 0; i < t->n_slots && r >= 0; i++)
		r = emission_leaf(e, t, i, &below);
	while (r >= 0 && below.count > 1) {
		_cleanup_(level_done) struct level above = { 0 };

		r = level_new(below.number + 1, (below.count - 1) / AMBRO_PAGE_FANOUT + 1, &above);
		if (r >= 0)
			r = emission_level(e, &below, &above);
		if (r >= 0) {
			struct level done = below;

			below = above;
			above = done;
		}
	}
	if (r < 0)
		return r;
	*ret_root = below.ids[0];
	return 0;
}

/* May @state stand in a page of @level? */
static bool page_state_fits(uint8_t state, unsigned int level, bool delta)
{
	return state <= (level ? CHUNK_DATA : CHUNK_BAD) || (delta && state == CHUNK_SAME);
}

static int page_parse_any(const void *body, size_t len, unsigned int level, uint64_t count,
			  bool delta, struct page_view *ret)
{
	const uint8_t *bytes = body;
	struct ambro_page head;
	struct page_view v;

	if (len < sizeof(head) || !count || count > AMBRO_PAGE_FANOUT)
		return -EBADMSG;
	memcpy(&head, body, sizeof(head));
	if (head.level != level || le32_get(head.count) != count || head.reserved[0] ||
	    head.reserved[1] || head.reserved[2])
		return -EBADMSG;
	if (len - sizeof(head) < count)
		return -EBADMSG;
	v = (struct page_view){ .level = level,
				.count = (uint32_t)count,
				.states = bytes + sizeof(head) };
	for (uint32_t i = 0; i < v.count; i++) {
		if (!page_state_fits(v.states[i], level, delta))
			return -EBADMSG;
	}
	v.n_ids = states_count_data(v.states, v.count);
	if (len != sizeof(head) + count + v.n_ids * sizeof(*v.ids))
		return -EBADMSG;
	v.ids = (const struct chunk_id *)(v.states + v.count);
	*ret = v;
	return 0;
}

int page_parse(const void *body, size_t len, unsigned int level, uint64_t count,
	       struct page_view *ret)
{
	return page_parse_any(body, len, level, count, false, ret);
}

int page_parse_delta(const void *body, size_t len, unsigned int level, uint64_t count,
		     struct page_view *ret)
{
	return page_parse_any(body, len, level, count, true, ret);
}

enum chunk_state page_entry(const struct page_view *v, uint32_t i, struct chunk_id *ret_id)
{
	if (v->states[i] == CHUNK_DATA && ret_id)
		*ret_id = v->ids[states_count_data(v->states, i)];
	return v->states[i];
}

size_t page_make_uniform(unsigned int level, uint32_t count, enum chunk_state state, void *ret)
{
	const struct ambro_page head = { .level = (uint8_t)level, .count = le32(count) };

	memcpy(ret, &head, sizeof(head));
	memset((uint8_t *)ret + sizeof(head), state, count);
	return sizeof(head) + count;
}
