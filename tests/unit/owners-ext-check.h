/* SPDX-License-Identifier: GPL-2.0-or-later */
/* owners-ext-check - what was told of a scene beside what is true of it. For test-owners-ext, included once. */
#pragma once

#include <ext2fs/ext2fs.h>

#include "lib/base/le.h"
#include "tests/unit/owners-ext-scene.h"

/* An inode that holds the value of an attribute. */
static bool of_value(const struct scene *s, const struct owner *o)
{
	le32_t flags;

	if (o->kind != OWNER_ATTRIBUTES || o->length != 512)
		return false;
	memcpy(&flags, s->disk.image + o->at + 32, sizeof(flags));
	return le32_get(flags) & EXT4_EA_INODE_FL;
}

/* A block of the value of an attribute, as scene_tag() writes it. */
static bool in_value(const struct scene *s, const struct owner *o)
{
	return o->kind == OWNER_ATTRIBUTES &&
	       !memcmp(s->disk.image + o->at, VALUE_MARK, strlen(VALUE_MARK));
}

/* All that is told but values of attributes with inodes of their own; how many bytes these are is returned. */
static uint64_t told_pieces(const struct scene *s, const struct owners *o, struct pieces *ret)
{
	uint64_t values = 0;

	for (size_t i = 0; i < o->count; i++) {
		const struct owner *x = &o->items[i];
		const struct piece p = { x->at, x->inode, x->kind, x->offset, x->length };

		if (in_value(s, x)) {
			values += x->length;
		} else if (!of_value(s, x)) {
			pieces_add(ret, &p);
		}
	}
	pieces_sort(ret);
	return values;
}

static void assert_same_pieces(const struct pieces *a, const struct pieces *b)
{
	for (size_t i = 0; i < MIN(a->count, b->count); i++) {
		const struct piece *x = &a->items[i], *y = &b->items[i];

		if (memcmp(x, y, sizeof(*x)) != 0) {
			fail_msg("%zu: %lu: inode %lu kind %lu offset %lu length %lu, not "
				 "%lu: inode %lu kind %lu offset %lu length %lu",
				 i, x->at, x->inode, x->kind, x->offset, x->length, y->at, y->inode,
				 y->kind, y->offset, y->length);
		}
	}
	assert_int_equal(a->count, b->count);
}

static void assert_named(const struct scene *s, const struct owners *o)
{
	for (size_t i = 0; i < o->count; i++) {
		const struct owner *x = &o->items[i];
		const struct name *n = scene_name(&s->disk, x->inode);

		assert_non_null(n);
		if (!n->path) {
			assert_null(x->path);
		} else if (!x->path || !scene_has(&s->disk, x->inode, x->path)) {
			fail_msg("inode %lu is not %s", x->inode,
				 x->path ? x->path : "without a name");
		}
	}
}

static bool within(const struct piece *outer, const struct piece *p)
{
	return outer->inode == p->inode && outer->kind == p->kind && outer->at <= p->at &&
	       p->at + p->length <= outer->at + outer->length &&
	       (p->kind != OWNER_DATA || p->offset - outer->offset == p->at - outer->at);
}

/* Some of @all has all of @p; few begin at the same place. */
static bool covered(const struct pieces *all, const struct piece *p)
{
	size_t low = 0, high = all->count;

	while (low < high) {
		const size_t mid = (low + high) / 2;

		if (all->items[mid].at <= p->at) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	for (size_t i = 0; i < 8 && i < low; i++) {
		if (within(&all->items[low - 1 - i], p))
			return true;
	}
	return false;
}

static void assert_true_pieces(const struct scene *s, const struct owners *o)
{
	for (size_t i = 0; i < o->count; i++) {
		const struct owner *x = &o->items[i];
		const struct piece p = { x->at, x->inode, x->kind, x->offset, x->length };

		if (in_value(s, x) || of_value(s, x))
			continue;
		/* a lost inode of a value is known by its place only */
		if (!covered(&s->truth, &p) &&
		    !(x->kind == OWNER_MAP && !scene_name(&s->disk, x->inode)))
			fail_msg("at %lu: not of inode %lu, kind %d", x->at, x->inode, x->kind);
		if (x->path && !scene_has(&s->disk, x->inode, x->path))
			fail_msg("inode %lu is not %s", x->inode, x->path);
	}
}

/* Inodes of which something that leads to the rest is lost. */
static bool touched(const struct scene *s, const struct extent_set *lost, uint64_t inode)
{
	for (size_t i = 0; i < s->truth.count; i++) {
		const struct piece *t = &s->truth.items[i];

		if (t->inode == inode && t->kind == OWNER_MAP &&
		    extent_set_overlaps(lost, t->at, t->length))
			return true;
	}
	return false;
}

/* Of all inodes that are not touched all is told, even that which is lost. */
static void assert_rest_told(const struct scene *s, const struct extent_set *lost,
			     const struct owners *o)
{
	struct pieces told = { 0 };
	uint64_t known = 0;

	(void)told_pieces(s, o, &told);
	for (size_t i = 0; i < s->truth.count; i++) {
		const struct piece *t = &s->truth.items[i];
		const struct name *n = scene_name(&s->disk, t->inode);

		/* that it is in use only the bitmap says */
		if (!n->path || t->inode == known || covered(&told, t))
			continue;
		if (!touched(s, lost, t->inode)) {
			fail_msg("at %lu: inode %lu is not told, kind %lu; lost %s", t->at,
				 t->inode, t->kind, o->lost.text);
		}
		known = t->inode;
	}
	pieces_done(&told);
}

static bool tables_lost(const struct scene *s, const struct extent_set *lost)
{
	for (size_t i = 0; i < s->truth.count; i++) {
		const struct piece *t = &s->truth.items[i];

		if ((t->kind == OWNER_MAP || t->kind == OWNER_DIRECTORY) &&
		    extent_set_overlaps(lost, t->at, t->length))
			return true;
	}
	return false;
}

/* What of @all lies within @wanted. */
static void cut(const struct owners *all, const struct extent_set *wanted, struct pieces *ret)
{
	extent_for_each(w, wanted) {
		for (size_t i = 0; i < all->count; i++) {
			const struct owner *x = &all->items[i];
			const uint64_t at = MAX(x->at, w->start);
			const uint64_t end = MIN(x->at + x->length, extent_end(w));
			const struct piece p = { at, x->inode, x->kind, x->offset + (at - x->at),
						 end - at };

			if (at < end)
				pieces_add(ret, &p);
		}
	}
	pieces_sort(ret);
}
