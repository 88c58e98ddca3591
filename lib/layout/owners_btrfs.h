/* SPDX-License-Identifier: GPL-2.0-or-later */
/* owners_btrfs - what owners_btrfs.c and owners_btrfs_names.c share. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/layout/btrfs_tree.h"

struct btrfs_subvolume {
	uint64_t id;
	struct btrfs_ref root;
};

/* Where a subvolume is: @name in @directory of the subvolume @parent. */
struct btrfs_subvolume_name {
	uint64_t id, parent, directory;
	char *name;
};

struct btrfs {
	struct owners_walk *w;
	struct btrfs_space space;
	struct btrfs_tree tree;
	struct btrfs_tree sizes;	    /* for what is looked up while `tree` is walked */
	struct btrfs_subvolume *subvolumes; /* by id, each once */
	size_t n_subvolumes, subvolumes_allocated;
	struct btrfs_subvolume_name *names; /* by id, each once */
	size_t n_names, names_allocated;
};

const struct btrfs_subvolume *btrfs_subvolume(const struct btrfs *b, uint64_t id);
const struct btrfs_subvolume_name *btrfs_subvolume_name(const struct btrfs *b, uint64_t id);

/* owners_walk_entry() for owners_walk_holders() and for every directory on the way from these to the root. */
int btrfs_tell_names(struct btrfs *b, struct err *e);
