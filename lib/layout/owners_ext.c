/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who owns which bytes of an ext2, ext3 or ext4 (owners_ext.h, owners_fs.h).
 *
 * An inode's own bytes are its owner's too: as OWNER_MAP, because its map begins there, and because with them all else of
 * the file is lost (its size, a short link, inline data, attributes). So the files of a lost piece of an inode table are named,
 * by the bitmap that says which were in use and by the directories.
 *
 * Nobody's: the journal and all other inodes of the file system's own; of a cluster (bigalloc) the blocks that no extent
 * speaks of. In use without a name (unlinked while open): no path. What lies below encrypted directories has no path
 * either, because the names in these cannot be read.
 */
#include "lib/layout/owners_ext.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/base/array.h"
#include "lib/base/cleanup.h"

static void ext_close(void *fs)
{
	struct ext *x = fs;

	if (!x)
		return;
	if (x->fs)
		ext2fs_free(x->fs);
	free(x->groups);
	free(x->block);
	free(x->bitmap);
	free(x->levels);
	free(x->names);
	free(x->table.bytes);
	free(x->directories);
	free(x->values);
	free(x);
}

static void ext_closep(struct ext **x)
{
	ext_close(*x);
}

static int ext_open(struct owners_walk *w, void **ret, struct err *e)
{
	_cleanup_(ext_closep) struct ext *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return -ENOMEM;
	x->w = w;
	r = ext_super_open(x, e);
	if (r < 0)
		return r;
	x->block = malloc(x->block_size);
	x->bitmap = malloc(x->block_size);
	x->levels = reallocarray(NULL, EXT_LEVELS_MAX, x->block_size);
	x->names = malloc(EXT_READ_BYTES);
	x->table.bytes = malloc(EXT_READ_BYTES);
	if (!x->block || !x->bitmap || !x->levels || !x->names || !x->table.bytes)
		return -ENOMEM;
	r = ext_groups_open(x, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(x);
	return 0;
}

/* An inode whose stretches are told. */
struct telling {
	struct ext *x;
	struct owner_id id;
	enum owner_kind kind;
	uint64_t end; /* of the file: what lies behind holds nothing */
};

/* Of a run of a file or a link the part that holds something. */
static int tell_run(void *ctx, const struct ext_run *run)
{
	const struct telling *t = ctx;
	const uint64_t unit = t->x->block_size, offset = run->logical * unit;
	uint64_t length = run->count * unit;

	if (t->kind != OWNER_DIRECTORY) {
		if (run->unwritten || offset >= t->end)
			return 0;
		length = MIN(length, t->end - offset);
	}
	if (!owners_walk_wants(t->x->w, run->block * unit, length))
		return 0;
	return owners_walk_piece(t->x->w, t->id, t->kind, run->block * unit, length, offset);
}

static int tell_node(void *ctx, uint64_t block)
{
	const struct telling *t = ctx;
	const uint64_t unit = t->x->block_size;

	if (!owners_walk_wants(t->x->w, block * unit, unit))
		return 0;
	return owners_walk_piece(t->x->w, t->id, OWNER_MAP, block * unit, unit, 0);
}

static int tell_inode(struct ext *x, uint32_t number)
{
	const uint64_t at = ext_inode_at(x, number), length = EXT2_INODE_SIZE(x->fs->super);
	const struct owner_id id = { .inode = number };

	if (!owners_walk_wants(x->w, at, length))
		return 0;
	return owners_walk_piece(x->w, id, OWNER_MAP, at, length, 0);
}

/*
 * Its size; but what is encrypted may be of no use without the rest of its last block, and behind the end of what has a
 * tree of hashes (verity) this stands.
 */
static uint64_t inode_end(const struct ext *x, const struct ext_inode *i)
{
	if (i->flags & EXT4_VERITY_FL)
		return UINT64_MAX;
	return i->flags & EXT4_ENCRYPT_FL && i->size <= UINT64_MAX - x->block_size
		       ? ROUND_UP(i->size, x->block_size)
		       : i->size;
}

static int tell_blocks(struct ext *x, const struct ext_inode *i, struct err *e)
{
	struct telling t = {
		.x = x,
		.id = { .inode = i->number },
		.kind = OWNER_DATA,
		.end = inode_end(x, i),
	};
	const struct ext_map_seen seen = {
		.run = tell_run,
		.node = tell_node,
		.ctx = &t,
	};

	if (LINUX_S_ISDIR(i->mode))
		t.kind = OWNER_DIRECTORY;
	if (LINUX_S_ISLNK(i->mode))
		t.kind = OWNER_LINK;
	return ext_inode_mapped(x, i) ? ext_map_walk(x, i, &seen, e) : 0;
}

static int directory_note(struct ext *x, uint32_t number)
{
	if (ARRAY_ROOM(x->directories, x->n_directories, x->directories_allocated, 256) < 0)
		return -ENOMEM;
	x->directories[x->n_directories++] = number;
	return 0;
}

static int inode_pieces(struct ext *x, uint32_t number, bool known, struct err *e)
{
	struct ext_inode i = { 0 };
	int r = ext_inode_load(x, number, &i, e);
	bool sound;

	if (r < 0 || (r && !known && !i.links))
		return r < 0 ? r : 0;
	sound = r && ext_inode_sound(x, &i);
	if (!sound)
		owners_walk_lost(x->w, "inode %u", number);
	/* it is told of those whose attribute it is */
	if (sound && ext_inode_of_value(x, &i))
		return 0;
	r = known || sound ? tell_inode(x, number) : 0;
	if (r >= 0 && sound && LINUX_S_ISDIR(i.mode))
		r = directory_note(x, number);
	if (r >= 0 && sound)
		r = ext_attrs_pieces(x, &i, e);
	return r < 0 || !sound ? r : tell_blocks(x, &i, e);
}

static int ext_pieces(void *fs, struct err *e)
{
	struct ext *x = fs;
	int r = 0;

	x->visits = x->blocks;
	if (ext2fs_has_feature_ea_inode(x->fs->super))
		r = ext_inodes_walk(x, ext_values_collect, e);
	x->visits = x->blocks;
	if (r >= 0)
		r = ext_inodes_walk(x, inode_pieces, e);
	return r < 0 ? r : ext_values_rest(x);
}

static int ext_tell_entries(void *fs, struct err *e)
{
	return ext_entries(fs, e);
}

static struct owner_id ext_root(void *fs)
{
	(void)fs;
	return (struct owner_id){ .inode = EXT2_ROOT_INO };
}

const struct owners_fs owners_ext = {
	.open = ext_open,
	.pieces = ext_pieces,
	.entries = ext_tell_entries,
	.root = ext_root,
	.close = ext_close,
};
