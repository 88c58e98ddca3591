/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners-xfs-check - is what is told of a scene (owners-xfs-scene.h) true, and is it all? For test-owners-xfs. Included once.
 */
#pragma once

#include "tests/unit/owners-xfs-scene.h"

static void owner_bits(const struct owner *o, struct bits *b)
{
	const struct bit all = { o->at, o->inode, o->offset, o->length, o->kind };

	bits_add(b, &all);
}

static bool in_inodes(const struct scene *s, const struct owner *o)
{
	return extent_set_overlaps(&s->inodes, o->at, o->length);
}

/* What is told of all but inodes, sorted. */
static void told_bits(const struct scene *s, const struct owners *o, struct bits *ret)
{
	for (size_t i = 0; i < o->count; i++) {
		if (!in_inodes(s, &o->items[i]))
			owner_bits(&o->items[i], ret);
	}
	bits_sort(ret);
}

static void assert_same_bits(const struct bits *a, const struct bits *b)
{
	for (size_t i = 0; i < MIN(a->count, b->count); i++) {
		const struct bit *x = &a->items[i], *y = &b->items[i];

		if (bit_compare(x, y) != 0) {
			fail_msg(
				"%llu: inode %llu kind %llu offset %llu, not %llu: %llu, %llu, %llu",
				be64toh(x->at), be64toh(x->inode), be64toh(x->kind),
				be64toh(x->offset), be64toh(y->at), be64toh(y->inode),
				be64toh(y->kind), be64toh(y->offset));
		}
	}
	assert_int_equal(a->count, b->count);
}

static void assert_named(const struct scene *s, const struct owners *o)
{
	for (size_t i = 0; i < o->count; i++) {
		if (!scene_has(&s->disk, o->items[i].inode, o->items[i].path)) {
			fail_msg("inode %llu is not %s", (unsigned long long)o->items[i].inode,
				 o->items[i].path ? o->items[i].path : "without a name");
		}
	}
}

/* One owner's stretch: the first of this kind. */
static struct extent stretch_of(const struct scene *s, const char *path, enum owner_kind kind,
				bool within)
{
	struct extent x = { 0 };
	struct owners o;
	struct err e = { 0 };

	assert_int_equal(scene_find_all(&s->disk, NULL, &o, &e), 0);
	for (size_t i = 0; i < o.count && !x.length; i++) {
		const struct owner *w = &o.items[i];

		if (w->inode == scene_named(&s->disk, path)->inode && w->kind == kind &&
		    in_inodes(s, w) == within)
			x = (struct extent){ w->at, w->length };
	}
	assert_true(x.length);
	owners_done(&o);
	return x;
}

/* ---- with bytes lost ------------------------------------------------------------------------------------- */

static bool bits_have(const struct bits *b, const struct bit *one)
{
	return bsearch(one, b->items, b->count, sizeof(*one), bit_compare);
}

/* Inodes that @lost hurts: of which a block that says where something is, or the block with the inode, is not whole. */
static void find_hurt(const struct scene *s, const struct owners *all,
		      const struct extent_set *lost, bool *hurt, bool *ret_directory)
{
	const uint64_t block = 4096;

	*ret_directory = false;
	for (size_t i = 0; i < all->count; i++) {
		const struct owner *o = &all->items[i];
		const struct name *n = scene_name(&s->disk, o->inode);
		const uint64_t from = ROUND_DOWN(o->at, block);
		const bool table = o->kind == OWNER_MAP || in_inodes(s, o);

		if (!extent_set_overlaps(lost, from, ROUND_UP(o->at + o->length, block) - from))
			continue;
		if (table)
			hurt[n - s->disk.names] = true;
		if (S_ISDIR(n->mode))
			*ret_directory = true;
	}
}

/* What is of no hurt inode is all told, by its name if no directory is hurt. */
static void assert_rest_told(const struct scene *s, const struct extent_set *lost,
			     const struct bits *told, const struct owners *o)
{
	bool *hurt = calloc(s->disk.n_names, sizeof(*hurt)), directory;
	struct owners all;
	struct err e = { 0 };

	assert_non_null(hurt);
	assert_int_equal(scene_find_all(&s->disk, NULL, &all, &e), 0);
	find_hurt(s, &all, lost, hurt, &directory);
	for (size_t i = 0; i < s->truth.count; i++) {
		const struct bit *b = &s->truth.items[i];

		if (!hurt[scene_name(&s->disk, be64toh(b->inode)) - s->disk.names])
			assert_true(bits_have(told, b));
	}
	if (!directory)
		assert_named(s, o);
	free(hurt);
	owners_done(&all);
}

/* With @lost lost, what is told is true; and all is told, or it is said that not. @tables: some of the groups' are lost. */
static void check_lost(const struct scene *s, const struct extent_set *lost, bool tables)
{
	struct bits told = { 0 };
	bool unnamed = false;
	struct owners o;
	struct err e = { 0 };

	assert_int_equal(scene_find_all(&s->disk, lost, &o, &e), 0);
	told_bits(s, &o, &told);
	for (size_t i = 0; i < told.count; i++)
		assert_true(bits_have(&s->truth, &told.items[i]));
	for (size_t i = 0; i < o.count; i++) {
		const struct owner *w = &o.items[i];

		unnamed = unnamed || !scene_has(&s->disk, w->inode, w->path);
		if (w->path)
			assert_true(scene_has(&s->disk, w->inode, w->path));
		assert_non_null(scene_name(&s->disk, w->inode));
	}
	if (told.count < s->truth.count || unnamed) {
		assert_true(o.incomplete);
		assert_true(o.lost.text[0]);
	}
	if (!tables)
		assert_rest_told(s, lost, &told, &o);
	bits_done(&told);
	owners_done(&o);
}

/* Some of what is anything but data, @count times; then what else is there is not lost. */
static void lose(const struct owners *all, unsigned int count, bool more, struct extent_set *ret)
{
	while (count) {
		const struct owner *w = &all->items[any(all->count)];
		uint64_t from, length = UNIT << any(9);

		if (w->kind == OWNER_DATA && any(20))
			continue;
		from = w->at + any(w->length);
		if (!more)
			length = MIN(length, w->at + w->length - from);
		assert_int_equal(extent_set_add(ret, from, length), 0);
		count--;
	}
	extent_set_normalise(ret);
}
