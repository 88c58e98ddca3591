/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/btrfs_tree.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/base/cleanup.h"

/* ---- blocks that have been read ------------------------------------------------------------------------------- */

#define PAGE_WORDS 512
#define PAGE_BITS  ((uint64_t)PAGE_WORDS * 64)

int btrfs_seen_init(struct btrfs_seen *s, uint64_t size, uint32_t sector)
{
	*s = (struct btrfs_seen){ .sector = sector, .count = size / sector / PAGE_BITS + 1 };
	s->pages = calloc(s->count, sizeof(uint64_t *));
	return s->pages ? 0 : -ENOMEM;
}

void btrfs_seen_done(struct btrfs_seen *s)
{
	for (size_t i = 0; s->pages && i < s->count; i++)
		free(s->pages[i]);
	free(s->pages);
	*s = (struct btrfs_seen){ 0 };
}

static bool seen_has(const struct btrfs_seen *s, uint64_t at)
{
	const uint64_t n = at / s->sector, page = n / PAGE_BITS, bit = n % PAGE_BITS;

	return page < s->count && s->pages[page] && s->pages[page][bit / 64] >> bit % 64 & 1;
}

/* @at has been read, so it lies within the device. */
static int seen_add(struct btrfs_seen *s, uint64_t at)
{
	const uint64_t n = at / s->sector, page = n / PAGE_BITS, bit = n % PAGE_BITS;

	if (!s->pages[page])
		s->pages[page] = calloc(PAGE_WORDS, sizeof(uint64_t));
	if (!s->pages[page])
		return -ENOMEM;
	s->pages[page][bit / 64] |= UINT64_C(1) << bit % 64;
	return 0;
}

/* ---- a walk ------------------------------------------------------------------------------------------------------ */

struct walk {
	struct btrfs_tree *t;
	const struct btrfs_ref *root;
	const struct btrfs_range *range;
	btrfs_item_fn fn;
	void *ctx;
};

void btrfs_tree_done(struct btrfs_tree *t)
{
	for (size_t i = 0; i < ARRAY_SIZE(t->levels); i++)
		free(t->levels[i].block);
	*t = (struct btrfs_tree){ 0 };
}

/* The keys of trees of files begin with the number of an inode. */
static void walk_say_lost(const struct walk *k, const struct btrfs_key *first,
			  const struct btrfs_key *end)
{
	struct owners_walk *w = k->t->space->w;
	const uint64_t id = k->root->owner;
	const uint64_t from = MAX(first->objectid, BTRFS_FIRST_ID);

	k->t->lost++;
	if (id == BTRFS_TREE_CHUNK) {
		owners_walk_lost(w, "a part of the chunk tree, which says where all is");
	} else if (id == BTRFS_TREE_ROOT) {
		owners_walk_lost(w, "a part of the list of subvolumes");
	} else if (end->objectid <= BTRFS_LAST_ID) {
		owners_walk_lost(w, "subvolume %llu, a part of inodes %llu to %llu",
				 (unsigned long long)id, (unsigned long long)from,
				 (unsigned long long)end->objectid);
	} else {
		owners_walk_lost(w, "subvolume %llu, a part of inodes from %llu on",
				 (unsigned long long)id, (unsigned long long)from);
	}
}

static bool walk_has_seen(const struct walk *k, uint64_t logical)
{
	const struct btrfs_space *s = k->t->space;
	const struct btrfs_place *p = btrfs_space_find(s, logical, s->rules.node);

	for (unsigned int i = 0; k->t->seen && p && i < p->copies; i++) {
		if (seen_has(k->t->seen, p->at[i] + (logical - p->logical)))
			return true;
	}
	return false;
}

/* Where in the block at @l the range begins: of children the last whose first key is not above the range's. */
static void level_seek(struct btrfs_level *l, unsigned int level, const struct btrfs_key *first)
{
	const uint32_t count = btrfs_block_count(l->block);
	struct btrfs_key k;

	l->slot = btrfs_block_find(l->block, level, first);
	if (!level || !l->slot)
		return;
	if (l->slot < count) {
		k = btrfs_block_key(l->block, level, l->slot);
		if (!btrfs_key_compare(&k, first))
			return;
	}
	l->slot--;
}

/* The block @ref into @l, if it is not there. 0; -EBADMSG: it is lost; or an error that ends it. */
static int level_load(struct btrfs_space *s, struct btrfs_level *l, const struct btrfs_ref *ref,
		      struct err *e)
{
	int r;

	if (l->valid && btrfs_block_fits(&s->rules, ref, l->block))
		return 0;
	l->valid = false;
	if (!l->block)
		l->block = malloc(s->rules.node);
	if (!l->block)
		return err_oom(e);
	r = btrfs_space_read(s, ref, l->block, &l->at, e);
	l->valid = r >= 0;
	return r;
}

/* Has the block at @l anything that is not below @end? */
static bool level_exceeds(const struct btrfs_level *l, unsigned int level,
			  const struct btrfs_key *end)
{
	const uint32_t count = btrfs_block_count(l->block);
	struct btrfs_key last;

	if (!count)
		return false;
	last = btrfs_block_key(l->block, level, count - 1);
	return btrfs_key_compare(&last, end) >= 0;
}

/* Go to the block @ref, whose keys are below @end. 1; 0: it is not gone into; or an error that ends it. */
static int walk_enter(const struct walk *k, const struct btrfs_ref *ref,
		      const struct btrfs_key *end, struct err *e)
{
	static const struct btrfs_key zero;
	struct btrfs_tree *t = k->t;
	struct btrfs_level *l = &t->levels[ref->level];
	int r;

	t->visits++;
	r = owners_walk_check(t->space->w);
	if (r < 0)
		return r;
	if (walk_has_seen(k, ref->logical))
		return 0;
	r = level_load(t->space, l, ref, e);
	if (r < 0 && r != -EBADMSG)
		return r;
	if (r < 0 || level_exceeds(l, ref->level, end)) {
		walk_say_lost(k, ref->first ? ref->first : &zero, end);
		return 0;
	}
	if (t->seen && seen_add(t->seen, l->at) < 0)
		return err_oom(e);
	l->end = *end;
	level_seek(l, ref->level, &k->range->first);
	return 1;
}

/* The next child of the block at @level that has anything of the range: 1 with it entered, 0: there is no more, or an error. */
static int walk_next_child(const struct walk *k, unsigned int level, struct err *e)
{
	struct btrfs_level *l = &k->t->levels[level];
	const uint32_t count = btrfs_block_count(l->block);

	while (l->slot < count) {
		const struct btrfs_disk_child *c = btrfs_block_child(l->block, l->slot);
		const struct btrfs_key first = btrfs_key_of(&c->key);
		const struct btrfs_key end = l->slot + 1 < count
						     ? btrfs_block_key(l->block, level, l->slot + 1)
						     : l->end;
		const struct btrfs_ref ref = {
			.logical = le64_get(c->blockptr),
			.generation = le64_get(c->generation),
			.owner = k->root->owner,
			.level = level - 1,
			.first = &first,
		};
		int r;

		if (btrfs_key_compare(&first, &k->range->last) > 0)
			return 0;
		l->slot++;
		r = walk_enter(k, &ref, &end, e);
		if (r != 0)
			return r;
	}
	return 0;
}

static int walk_leaf(const struct walk *k, struct err *e)
{
	const struct btrfs_level *l = &k->t->levels[0];
	const uint32_t count = btrfs_block_count(l->block);

	for (uint32_t i = l->slot; i < count; i++) {
		struct btrfs_item item = { .key = btrfs_block_key(l->block, 0, i) };
		int r;

		if (btrfs_key_compare(&item.key, &k->range->last) > 0)
			return 0;
		item.data = btrfs_block_item(l->block, i, &item.size);
		r = k->fn(k->ctx, &item, e);
		if (r)
			return r;
	}
	return 0;
}

int btrfs_tree_walk(struct btrfs_tree *t, const struct btrfs_ref *root,
		    const struct btrfs_range *range, btrfs_item_fn fn, void *ctx, struct err *e)
{
	const struct walk k = { .t = t, .root = root, .range = range, .fn = fn, .ctx = ctx };
	unsigned int level = root->level;
	int r;

	r = walk_enter(&k, root, &BTRFS_KEY_MAX, e);
	if (r <= 0)
		return r;
	for (;;) {
		if (level) {
			r = walk_next_child(&k, level, e);
			if (r < 0)
				return r;
			if (r) {
				level--;
				continue;
			}
		} else {
			r = walk_leaf(&k, e);
			if (r)
				return r;
		}
		if (level++ == root->level)
			return 0;
	}
}
