/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * btrfs_space - where on the device a btrfs has its bytes, and its tree blocks. For owners_btrfs.c and what belongs to it.
 *
 * All is read by owners_walk_read(). Of what is stored twice on the device (DUP) either copy will do.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/layout/btrfs_block.h"
#include "lib/layout/owners_fs.h"

#define BTRFS_COPIES_MAX 4
#define BTRFS_WINDOWS	 16

/* A chunk: so many logical bytes, and where they are. */
struct btrfs_place {
	uint64_t logical, length;
	uint64_t type;
	unsigned int copies;
	uint64_t at[BTRFS_COPIES_MAX];
};

struct btrfs_window {
	uint64_t at;
	uint8_t *bytes; /* NULL: not yet used */
	bool valid;
};

struct btrfs_space {
	struct owners_walk *w;
	struct btrfs_block_rules rules;
	uint64_t devid, log_root;
	uint32_t sector; /* bytes */
	struct btrfs_ref chunk_root, tree_root;
	struct btrfs_place *places; /* the first `settled` of them in order, and looked at */
	size_t settled, count, allocated;
	/* tree blocks are small, and their neighbours are wanted soon */
	struct btrfs_window windows[BTRFS_WINDOWS];
	unsigned int turn;
};

/*
 * Take the super block, or when it is lost the newest of its copies, and the chunks named by it. 0; -ENOTSUP, -EBADMSG, both with
 * words; or another error. btrfs_space_done() in any case.
 */
int btrfs_space_open(struct btrfs_space *s, struct owners_walk *w, struct err *e);
void btrfs_space_done(struct btrfs_space *s);
/*
 * An item of the chunk tree. It is found only after btrfs_space_settle(). 0; -ENOTSUP with words: bytes of it are elsewhere than
 * on this device, or spread in a way that is not understood; -EBADMSG: makes no sense; -ENOMEM.
 */
int btrfs_space_add(struct btrfs_space *s, uint64_t logical, const void *item, size_t size,
		    struct err *e);
/* 0; -EBADMSG with words: chunks overlap. */
int btrfs_space_settle(struct btrfs_space *s, struct err *e);
/* The chunk that has all of these bytes, or NULL. Any numbers. */
const struct btrfs_place *btrfs_space_find(const struct btrfs_space *s, uint64_t logical,
					   uint64_t length);
/*
 * Read a tree block, from whichever copy is sound, into @block (rules.node bytes); *@ret_at is its place on the device. 0;
 * -EBADMSG: none is; or an error that ends it.
 */
int btrfs_space_read(struct btrfs_space *s, const struct btrfs_ref *ref, uint8_t *block,
		     uint64_t *ret_at, struct err *e);
