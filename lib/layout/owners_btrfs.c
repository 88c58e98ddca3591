/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners of btrfs: the trees of files, one for each subvolume. The format: btrfs_format.h.
 *
 * What is told, and what is not:
 * - Data. Where the device has two copies (DUP), each is told, whether or not the other is sound. Of an extent of which
 *   files use a part, the rest is nobody's; so is what lies behind a file's end, but where the tree block that says how long
 *   the file is cannot be read: then it is told, too. A compressed extent is told whole, for all of the file that it holds
 *   a part of.
 * - Nothing else. All that is small (inline files, symbolic links, names, attributes, and where extents are) is in tree blocks,
 *   which are the file system's own, as are its caches of free space: a tree block stands for hundreds of files at once, is
 *   mostly there twice, and is read here or not. When it cannot be read, it is said which inodes had something in it.
 * - Snapshots share tree blocks. Each is gone into once, in the subvolume with the smallest number that has it, mostly the
 *   one that the snapshots are of. So every extent has one owner at least, and a tree block with wanted extents in it is
 *   no work again in each of a thousand snapshots; but not every snapshot that has the file is named.
 * - A subvolume that was deleted and is being taken apart is not looked at: what it had is nobody's.
 * - The log of what was synced since the last commit is not looked at: it is said that owners may be missing.
 */
#include "lib/layout/owners_btrfs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/cleanup.h"
#include "lib/base/text.h"

/* ---- what describes the file system -------------------------------------------------------------------------- */

static void btrfs_close(void *fs)
{
	struct btrfs *b = fs;

	if (!b)
		return;
	for (size_t i = 0; i < b->n_names; i++)
		free(b->names[i].name);
	free(b->names);
	free(b->subvolumes);
	btrfs_tree_done(&b->tree);
	btrfs_tree_done(&b->sizes);
	btrfs_space_done(&b->space);
	free(b);
}

static void btrfs_freep(struct btrfs **b)
{
	btrfs_close(*b);
}

static int take_chunk(void *ctx, const struct btrfs_item *item, struct err *e)
{
	struct btrfs *b = ctx;
	int r;

	if (item->key.type != BTRFS_ITEM_CHUNK)
		return 0;
	r = btrfs_space_add(&b->space, item->key.offset, item->data, item->size, e);
	if (r != -EBADMSG)
		return r;
	owners_walk_lost(b->w, "chunk %llu: it makes no sense",
			 (unsigned long long)item->key.offset);
	return 0;
}

static bool is_subvolume(uint64_t id)
{
	return id == BTRFS_TREE_FILES || (id >= BTRFS_FIRST_ID && id <= BTRFS_LAST_ID);
}

static int take_root(struct btrfs *b, const struct btrfs_item *item)
{
	const struct btrfs_disk_root *d = (const void *)item->data;
	const uint64_t id = item->key.objectid;

	if (!is_subvolume(id))
		return 0;
	if (item->size < sizeof(*d) || d->level >= BTRFS_LEVELS_MAX) {
		owners_walk_lost(b->w, "subvolume %llu: its root makes no sense",
				 (unsigned long long)id);
		return 0;
	}
	if (!le32_get(d->refs))
		return 0;
	if (ARRAY_ROOM(b->subvolumes, b->n_subvolumes, b->subvolumes_allocated, 16) < 0)
		return -ENOMEM;
	b->subvolumes[b->n_subvolumes++] = (struct btrfs_subvolume){
		.id = id,
		.root = {
			.logical = le64_get(d->bytenr),
			.generation = le64_get(d->generation),
			.owner = id,
			.level = d->level,
		},
	};
	return 0;
}

/* Both ways between a subvolume and the one that its name is in are noted: one of them may be lost. */
static int take_root_name(struct btrfs *b, const struct btrfs_item *item)
{
	const struct btrfs_disk_root_ref *d = (const void *)item->data;
	const bool of_child = item->key.type == BTRFS_ITEM_ROOT_PARENT;
	struct btrfs_subvolume_name n = {
		.id = of_child ? item->key.objectid : item->key.offset,
		.parent = of_child ? item->key.offset : item->key.objectid,
	};

	if (item->size < sizeof(*d) || le16_get(d->name_len) > item->size - sizeof(*d)) {
		owners_walk_lost(b->w, "subvolume %llu: its name makes no sense",
				 (unsigned long long)n.id);
		return 0;
	}
	n.directory = le64_get(d->dirid);
	if (ARRAY_ROOM(b->names, b->n_names, b->names_allocated, 16) < 0)
		return -ENOMEM;
	n.name = text_of(d + 1, le16_get(d->name_len));
	if (!n.name)
		return -ENOMEM;
	b->names[b->n_names++] = n;
	return 0;
}

static int take_root_item(void *ctx, const struct btrfs_item *item, struct err *e)
{
	struct btrfs *b = ctx;

	(void)e; /* -ENOMEM needs no words */
	if (item->key.type == BTRFS_ITEM_ROOT)
		return take_root(b, item);
	if (item->key.type == BTRFS_ITEM_ROOT_PARENT || item->key.type == BTRFS_ITEM_ROOT_CHILD)
		return take_root_name(b, item);
	return 0;
}

/* For structures that begin with the id. */
static int id_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void sort_roots(struct btrfs *b)
{
	size_t kept = 0;

	if (b->n_subvolumes)
		qsort(b->subvolumes, b->n_subvolumes, sizeof(*b->subvolumes), id_compare);
	for (size_t i = 0; i < b->n_subvolumes; i++) {
		if (!kept || b->subvolumes[kept - 1].id != b->subvolumes[i].id)
			b->subvolumes[kept++] = b->subvolumes[i];
	}
	b->n_subvolumes = kept;
	kept = 0;
	if (b->n_names)
		qsort(b->names, b->n_names, sizeof(*b->names), id_compare);
	for (size_t i = 0; i < b->n_names; i++) {
		if (!kept || b->names[kept - 1].id != b->names[i].id) {
			b->names[kept++] = b->names[i];
		} else {
			free(b->names[i].name);
		}
	}
	b->n_names = kept;
}

const struct btrfs_subvolume *btrfs_subvolume(const struct btrfs *b, uint64_t id)
{
	if (!b->n_subvolumes)
		return NULL;
	return bsearch(&id, b->subvolumes, b->n_subvolumes, sizeof(*b->subvolumes), id_compare);
}

const struct btrfs_subvolume_name *btrfs_subvolume_name(const struct btrfs *b, uint64_t id)
{
	return b->n_names ? bsearch(&id, b->names, b->n_names, sizeof(*b->names), id_compare)
			  : NULL;
}

/* A tree that all else hangs on: without its root there is nothing. */
static int walk_essential(struct btrfs *b, const struct btrfs_ref *root, btrfs_item_fn fn,
			  const char *what, struct err *e)
{
	_cleanup_free_ uint8_t *block = malloc(b->space.rules.node);
	uint64_t at;
	int r;

	if (!block)
		return err_oom(e);
	r = btrfs_space_read(&b->space, root, block, &at, e);
	if (r == -EBADMSG)
		return err_set(e, r, "%s of this btrfs is lost", what);
	return r < 0 ? r : btrfs_tree_walk(&b->tree, root, &BTRFS_RANGE_ALL, fn, b, e);
}

static int btrfs_open(struct owners_walk *w, void **ret, struct err *e)
{
	_cleanup_(btrfs_freep) struct btrfs *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_oom(e);
	b->w = w;
	b->tree.space = &b->space;
	b->sizes.space = &b->space;
	r = btrfs_space_open(&b->space, w, e);
	if (r < 0)
		return r;
	r = walk_essential(b, &b->space.chunk_root, take_chunk, "the tree that says where all is",
			   e);
	if (r < 0)
		return r;
	r = btrfs_space_settle(&b->space, e);
	if (r < 0)
		return r;
	r = walk_essential(b, &b->space.tree_root, take_root_item, "the list of all trees", e);
	if (r < 0)
		return r;
	sort_roots(b);
	if (b->space.log_root)
		owners_walk_lost(w, "the log of what was synced last: it is not looked at");
	*ret = TAKE_PTR(b);
	return 0;
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

struct pieces {
	struct btrfs *b;
	const struct btrfs_subvolume *subvolume;
	uint64_t inode; /* the one that comes now */
	uint64_t size;	/* of it, bytes; UINT64_MAX: not known */
};

/* An extent, or what a file uses of it. */
struct stretch {
	uint64_t logical, length;
	uint64_t offset, held; /* of the file */
	bool packed;
};

/* What a file has at @item: 1; 0: nothing that has a place of its own; -EBADMSG: it makes no sense. */
static int stretch_of(const struct btrfs_item *item, struct stretch *ret)
{
	const struct btrfs_disk_extent *d = (const void *)item->data;
	uint64_t end, offset;

	if (item->size < offsetof(struct btrfs_disk_extent, disk_bytenr) ||
	    d->type > BTRFS_EXTENT_MAX)
		return -EBADMSG;
	if (d->type != BTRFS_EXTENT_WRITTEN)
		return 0;
	if (item->size < sizeof(*d))
		return -EBADMSG;
	if (!le64_get(d->disk_bytenr))
		return 0;
	*ret = (struct stretch){
		.logical = le64_get(d->disk_bytenr),
		.length = le64_get(d->disk_num_bytes),
		.offset = item->key.offset,
		.held = le64_get(d->num_bytes),
		.packed = d->compression,
	};
	if (__builtin_add_overflow(ret->offset, ret->held, &end))
		return -EBADMSG;
	if (ret->packed)
		return 1;
	offset = le64_get(d->offset);
	if (__builtin_add_overflow(offset, ret->held, &end) || end > ret->length ||
	    __builtin_add_overflow(ret->logical, offset, &ret->logical))
		return -EBADMSG;
	ret->length = ret->held;
	return 1;
}

/* An inode's size stands before its extents. */
static int take_size(void *ctx, const struct btrfs_item *item, struct err *e)
{
	const struct btrfs_disk_inode *d = (const void *)item->data;
	struct pieces *p = ctx;

	(void)e;
	p->inode = item->key.objectid;
	p->size = item->size < sizeof(*d) ? UINT64_MAX : le64_get(d->size);
	return 0;
}

/* It was not met: its tree block was gone into in another subvolume, or is lost. */
static int find_size(struct pieces *p, uint64_t inode, struct err *e)
{
	const struct btrfs_key key = { .objectid = inode, .type = BTRFS_ITEM_INODE };
	const struct btrfs_range range = { key, key };

	p->inode = inode;
	p->size = UINT64_MAX;
	return btrfs_tree_walk(&p->b->sizes, &p->subvolume->root, &range, take_size, p, e);
}

/* What lies behind the file's end is not its. Returns whether anything is left. */
static bool stretch_cut(struct stretch *s, uint64_t size)
{
	if (s->offset >= size)
		return false;
	s->held = MIN(s->held, size - s->offset);
	if (!s->packed)
		s->length = s->held;
	return true;
}

static int tell_stretch(const struct pieces *p, const struct owner_id *id, const struct stretch *s,
			uint64_t at)
{
	struct owners_walk *w = p->b->w;

	if (s->packed)
		return owners_walk_packed(w, *id, at, s->length, s->offset, s->held);
	return owners_walk_piece(w, *id, OWNER_DATA, at, s->length, s->offset);
}

static int take_file_item(void *ctx, const struct btrfs_item *item, struct err *e)
{
	struct pieces *p = ctx;
	const struct owner_id id = { .tree = p->subvolume->id, .inode = item->key.objectid };
	const struct btrfs_place *place = NULL;
	struct stretch s;
	int r;

	if (id.inode < BTRFS_FIRST_ID || id.inode > BTRFS_LAST_ID)
		return 0;
	if (item->key.type == BTRFS_ITEM_INODE)
		return take_size(p, item, e);
	if (item->key.type != BTRFS_ITEM_EXTENT_DATA)
		return 0;
	r = stretch_of(item, &s);
	if (!r)
		return 0;
	if (r > 0)
		place = btrfs_space_find(&p->b->space, s.logical, s.length);
	if (!place) {
		owners_walk_lost(p->b->w,
				 "subvolume %llu, an extent of inode %llu: in no known place",
				 (unsigned long long)id.tree, (unsigned long long)id.inode);
		return 0;
	}
	r = id.inode == p->inode ? 0 : find_size(p, id.inode, e);
	if (r < 0 || !stretch_cut(&s, p->size))
		return r;
	for (unsigned int i = 0; i < place->copies; i++) {
		r = tell_stretch(p, &id, &s, place->at[i] + (s.logical - place->logical));
		if (r < 0)
			return r;
	}
	return 0;
}

static int btrfs_pieces(void *fs, struct err *e)
{
	struct btrfs *b = fs;
	_cleanup_(btrfs_seen_done) struct btrfs_seen seen = { 0 };
	int r = 0;

	if (btrfs_seen_init(&seen, owners_walk_size(b->w), b->space.sector) < 0)
		return err_oom(e);
	b->tree.seen = &seen;
	for (size_t i = 0; r >= 0 && i < b->n_subvolumes; i++) {
		struct pieces p = { .b = b, .subvolume = &b->subvolumes[i] };

		r = btrfs_tree_walk(&b->tree, &p.subvolume->root, &BTRFS_RANGE_ALL, take_file_item,
				    &p, e);
	}
	b->tree.seen = NULL;
	return r;
}

/* ---- names --------------------------------------------------------------------------------------------------------- */

static int btrfs_entries(void *fs, struct err *e)
{
	return btrfs_tell_names(fs, e);
}

static struct owner_id btrfs_root(void *fs)
{
	(void)fs;
	return (struct owner_id){ .tree = BTRFS_TREE_FILES, .inode = BTRFS_ROOT_INODE };
}

const struct owners_fs owners_btrfs = {
	.open = btrfs_open,
	.pieces = btrfs_pieces,
	.entries = btrfs_entries,
	.root = btrfs_root,
	.close = btrfs_close,
};
