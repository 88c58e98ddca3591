/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners_fs - how owners_find.c asks each kind of file system, and what they tell it. For lib/layout/owners*.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/layout/owners.h"

/* What a file system tells while it is walked; owners_find.c's. */
struct owners_walk;

struct owner_id {
	uint64_t tree; /* 0 where a file system has one tree of inodes only */
	uint64_t inode;
};
/* For qsort() and bsearch() as well: by tree, then inode. */
int owner_id_compare(const void *a, const void *b);

/* One per file system. Calls return 0 or a negative errno; any that a call of owners_walk returned is handed on. */
struct owners_fs {
	/*
	 * Look at what describes the file system. -ENOTSUP: a feature that is not understood, -EBADMSG: lost or damaged,
	 * both with words. @w stays until close().
	 */
	int (*open)(struct owners_walk *w, void **ret, struct err *e);
	/*
	 * Every stretch that an inode in use holds: owners_walk_piece(), in any order; those not wanted may be left out. What
	 * lies behind a file's end (the rest of its last block, space allocated ahead) and extents that were never written
	 * hold nothing of it: they are left out, too.
	 */
	int (*pieces)(void *fs, struct err *e);
	/*
	 * Every entry of every directory, but "." and "..": owners_walk_entry(). One that can look up an inode's names may
	 * leave out what does not lead to a piece that was told. Called twice, after pieces(); the second time the same is
	 * told again.
	 */
	int (*entries)(void *fs, struct err *e);
	struct owner_id (*root)(void *fs);
	void (*close)(void *fs); /* NULL is fine */
};
extern const struct owners_fs owners_ext, owners_xfs, owners_btrfs;

/* 0, or -ECANCELED: for whoever does much without a call of the others. */
int owners_walk_check(const struct owners_walk *w);
uint64_t owners_walk_size(const struct owners_walk *w); /* bytes of the file system */
/*
 * Exactly @len bytes at @offset. -EBADMSG: they are lost, or not within the file system (hostile input may name such):
 * owners_walk_lost() says whose tables these were, and it goes on. Any other error ends it, -ECANCELED too.
 */
int owners_walk_read(struct owners_walk *w, void *buf, size_t len, uint64_t offset, struct err *e);
/* Has it anything of what is asked for? Cheap; any numbers. */
bool owners_walk_wants(const struct owners_walk *w, uint64_t at, uint64_t length);
/* @length bytes at @at of the file system are @id's, from byte @offset of the file on. Any numbers. 0, -ENOMEM, -ECANCELED. */
int owners_walk_piece(struct owners_walk *w, struct owner_id id, enum owner_kind kind, uint64_t at,
		      uint64_t length, uint64_t offset);
/* The same of DATA that is compressed: all of it holds @held bytes of the file, and no part of it holds a part of them. */
int owners_walk_packed(struct owners_walk *w, struct owner_id id, uint64_t at, uint64_t length,
		       uint64_t offset, uint64_t held);
/* From entries() on: the inodes of all pieces that were told, sorted, each once; *ret_n of them. */
const struct owner_id *owners_walk_holders(const struct owners_walk *w, size_t *ret_n);
/* @name, @len bytes, in the directory @parent is @child; @directory: itself one. 0, -ENOMEM, -ECANCELED. */
int owners_walk_entry(struct owners_walk *w, struct owner_id parent, struct owner_id child,
		      bool directory, const char *name, size_t len);
/* A table of the file system's own cannot be used, "the inodes of group 7": told once, however often it is said. */
void owners_walk_lost(struct owners_walk *w, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
