/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners_ext - what the files of owners_ext*.c share: an ext2, ext3 or ext4 that is walked.
 *
 * The format is the one of Linux' Documentation/filesystems/ext4/ and of libext2fs' headers. Of libext2fs only its checks of the
 * super block, its geometry of groups and its check values of descriptors are used; it reads the super block through a
 * manager of ours, and nothing else. All other tables are read and checked here, because libext2fs gives up on a whole tree
 * where one block of it is lost, and is bounded by nothing where hostile trees share blocks.
 *
 * Invariants:
 * - what a table says is looked at as a whole before any of it is believed: a block with one bad pointer is a lost one;
 * - a step down in a tree lowers the level, so no tree has a circle; and all trees together, with the blocks of attributes
 *   that are looked into, may have no more blocks than the file system has (ext.visits), so that shared ones cost no more
 *   than those of a whole file system.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ext2fs/ext2fs.h>

#include "lib/base/err.h"
#include "lib/layout/owners_fs.h"

/* Of extents and of block maps; the root is in the inode. */
#define EXT_LEVELS_MAX 5u
/* Of inode tables and directories as many at once. */
#define EXT_READ_BYTES	65536u
#define EXT_READ_BLOCKS (EXT_READ_BYTES / EXT2_MIN_BLOCK_SIZE)
#define EXT_INODE_BYTES 128u /* what all have */

/* What is known of a group. */
enum ext_group {
	EXT_GROUP_LOST,
	EXT_GROUP_COPY, /* where its tables are, from a copy: its flags and counts are not of today */
	EXT_GROUP_GOOD,
};

/* What an inode holds of an extended attribute's value that has an inode of its own. */
struct ext_value {
	uint32_t inode;
	bool told;	     /* somebody's attribute */
	uint64_t at, length; /* bytes */
};

struct ext_piece_of_table {
	uint64_t at; /* block; 0: nothing */
	uint32_t count;
	uint8_t *bytes; /* EXT_READ_BYTES */
	bool lost[EXT_READ_BLOCKS];
};

struct ext {
	struct owners_walk *w;
	ext2_filsys fs; /* without maps of its own */
	int error;	/* of a read for libext2fs: what ended it all */
	struct err *e;
	uint32_t block_size;
	uint64_t blocks;
	bool checks;		 /* everything has a check value */
	uint8_t *groups;	 /* enum ext_group */
	uint8_t *block, *bitmap; /* one block each */
	uint8_t *levels;	 /* EXT_LEVELS_MAX blocks */
	uint8_t *names;		 /* EXT_READ_BYTES */
	struct ext_piece_of_table table;
	uint64_t visits;       /* blocks of trees and attributes that may still be read */
	uint32_t *directories; /* their inodes, ascending */
	size_t n_directories, directories_allocated;
	struct ext_value *values; /* by inode */
	size_t n_values, values_allocated;
	size_t values_told;
};

struct ext_inode {
	uint32_t number;
	uint32_t mode, flags, links, seed; /* @seed: its check values begin with it */
	uint64_t size, attributes;	   /* @attributes: a block, or 0 */
	const uint8_t *raw;		   /* until the next is loaded */
};

/* ---- owners_ext_super.c: all return 0 or a negative errno as owners_fs has it */

int ext_super_open(struct ext *x, struct err *e);
int ext_groups_open(struct ext *x, struct err *e);
/* Are @count blocks from @block on within the file system, behind its first? */
bool ext_inside(const struct ext *x, uint64_t block, uint64_t count);
int ext_read_block(struct ext *x, uint8_t *buf, uint64_t block, struct err *e);
/* Up to EXT_READ_BYTES. Not an error: some are lost, @lost says which. */
int ext_read_blocks(struct ext *x, uint8_t *buf, uint64_t block, uint32_t count, bool *lost,
		    struct err *e);

/* ---- owners_ext_inode.c */

/* Whoever is asked for @ret->raw next takes it away. 1; 0: its bytes are lost; or a negative errno. */
int ext_inode_load(struct ext *x, uint32_t number, struct ext_inode *ret, struct err *e);
bool ext_inode_sound(const struct ext *x, const struct ext_inode *i);
uint64_t ext_inode_at(const struct ext *x, uint32_t number); /* bytes */
/* Has it blocks of its own, and a map? */
bool ext_inode_mapped(const struct ext *x, const struct ext_inode *i);
bool ext_inode_inline(const struct ext *x, const struct ext_inode *i);
bool ext_inode_of_value(const struct ext *x, const struct ext_inode *i);
/*
 * Call @fn for each inode that is in use and a file's. @known: that it is in use is certain; else its own bytes are to say so.
 */
int ext_inodes_walk(struct ext *x,
		    int (*fn)(struct ext *x, uint32_t number, bool known, struct err *e),
		    struct err *e);

/* ---- owners_ext_map.c */

/* Blocks that follow each other in the file and on the disk. */
struct ext_run {
	uint64_t logical, block, count;
	bool unwritten; /* allocated only: zeros */
};

struct ext_map_seen {
	int (*run)(void *ctx, const struct ext_run *run);
	int (*node)(void *ctx, uint64_t block); /* of the map itself */
	void *ctx;
};
/* What of it is damaged is said and left out. Negative: what @seen returned, or a read that ends it all. */
int ext_map_walk(struct ext *x, const struct ext_inode *i, const struct ext_map_seen *seen,
		 struct err *e);

/* ---- owners_ext_names.c */

int ext_entries(struct ext *x, struct err *e);

/* ---- owners_ext_attrs.c */

struct ext_attrs {
	const uint8_t *base; /* what values' places count from */
	size_t size, at;
};

struct ext_attr {
	uint8_t space;
	const char *name;
	size_t name_len;
	uint32_t inode;	      /* where its value is, or 0: here */
	const uint8_t *value; /* NULL: not within */
	size_t value_len;
};

/* Those in the inode; false: there are none. */
bool ext_attrs_in_inode(const struct ext *x, const struct ext_inode *i, struct ext_attrs *ret);
bool ext_attrs_next(struct ext_attrs *a, struct ext_attr *ret);
/* Tell of the block of attributes, and of the values in inodes of their own that are in x->values. */
int ext_attrs_pieces(struct ext *x, const struct ext_inode *i, struct err *e);
/* x->values: for ext_inodes_walk() */
int ext_values_collect(struct ext *x, uint32_t number, bool known, struct err *e);
/* Values that no attribute which could be read speaks of. */
int ext_values_rest(struct ext *x);
