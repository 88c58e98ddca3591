/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners_xfs - what the files of the owners of an xfs share: owners_xfs.c (groups and inodes), owners_xfs_map.c (trees, and
 * where an inode's blocks are), owners_xfs_dir.c (names).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/layout/owners_fs.h"
#include "lib/layout/xfs_super.h"

#define XFS_CHUNK	64 /* inodes in one record of a group's tree */
#define XFS_LEVELS_MAX	12
#define XFS_TABLES_MAX	5
#define XFS_BUFFER_SIZE 65536 /* the largest block, and the largest of a directory */

struct owners_xfs {
	struct owners_walk *w;
	struct xfs_super super;
	/* of an inode's bytes; of the inodes in a block; of the blocks in a group, in numbers; of a directory block's bytes */
	unsigned int inode_log, inodes_log, group_log, dir_log;
	bool sparse, ftype;
	uint64_t root;
	uint64_t tables[XFS_TABLES_MAX]; /* inodes that are the file system's own: quota, realtime */
	/*
	 * Blocks of trees and directories that may yet be read in this walk. None of them is ever shared, so a sound file
	 * system has no more of them than blocks; and one that names them many times over costs no more than that.
	 */
	uint64_t budget;
	uint64_t *dirs; /* all directories, ascending */
	size_t n_dirs, dirs_allocated;
	/* XFS_LEVELS_MAX blocks each for a group's tree and for an inode's, which is walked meanwhile */
	uint8_t *levels[2];
	uint8_t *inodes; /* a chunk or a block of them */
	uint64_t inodes_at;
	uint8_t *names; /* XFS_BUFFER_SIZE */
};

enum xfs_format {
	XFS_DEVICE,
	XFS_LOCAL,
	XFS_EXTENTS,
	XFS_BTREE,
};

/* One of an inode's two maps: what its last bytes hold of it. */
struct xfs_fork {
	const uint8_t *p; /* within the inode */
	size_t bytes;
	enum xfs_format format;
	uint64_t extents;
	enum owner_kind kind; /* of what it maps */
	bool elsewhere;	      /* on the realtime device */
};

struct xfs_inode {
	uint64_t number, size;
	uint32_t mode;
	size_t head;		  /* bytes before the first fork */
	struct xfs_fork data, at; /* at.bytes is 0 where there are no attributes */
};

/* Byte address of inode @number; the caller knows that the number is of this file system. */
uint64_t owners_xfs_inode_at(const struct owners_xfs *x, uint64_t number);
/* @raw is inode @number. @ret points into it. 0, or -EBADMSG: it is damaged, or another. */
int owners_xfs_inode(const struct owners_xfs *x, uint64_t number, const uint8_t *raw,
		     struct xfs_inode *ret);
/* Blocks in group @number, the last of which may be smaller. */
uint64_t owners_xfs_group_blocks(const struct owners_xfs *x, uint64_t number);
/* Take @blocks from the budget; false: it is used up. */
bool owners_xfs_spend(struct owners_xfs *x, uint64_t blocks);

/* A tree of blocks: a group's inodes, or (`map`) where the blocks of an inode are. */
struct xfs_tree {
	bool map;
	uint64_t owner; /* the group, the inode */
	/* A block of it is at @at, readable or not; NULL: nobody wants to know. */
	int (*block)(void *ctx, uint64_t at);
	/* A leaf's records. -EBADMSG: they make no sense. */
	int (*leaf)(void *ctx, const uint8_t *records, unsigned int count, struct err *e);
	void (*lost)(void *ctx); /* some of it cannot be used */
	void *ctx;
};
/* Block @pointer, @level above the leaves, and all below it. What cannot be used is passed over and said. */
int owners_xfs_tree(struct owners_xfs *x, const struct xfs_tree *t, uint64_t pointer,
		    unsigned int level, struct err *e);

/* Bytes @offset… of what the fork maps, at @at of the file system. */
struct xfs_run {
	uint64_t offset, at, length;
	bool unwritten;
};

struct xfs_map {
	const struct xfs_inode *inode;
	const struct xfs_fork *fork;
	bool tell; /* the blocks of the map itself are pieces */
	/* In the order of `offset`, which fits 63 bits with the length; they lie within the file system. */
	int (*run)(void *ctx, const struct xfs_run *run, struct err *e);
	void *ctx;
};
/* Every run that can be known of a fork in extents or a tree. What cannot is said to be lost. */
int owners_xfs_map(struct owners_xfs *x, const struct xfs_map *m, struct err *e);

/* owners_fs.entries */
int owners_xfs_entries(void *fs, struct err *e);
