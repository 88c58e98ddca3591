/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners - which files some bytes of a file system belong to.
 *
 * For somebody who has lost these bytes. The file system may lack them when it is looked at (and they may be its own
 * tables): what can be read of it is used, and it is said that something could not be.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/base/extent.h"

/* A file system's bytes, from wherever they come: not a device. */
struct owners_io {
	/*
	 * Exactly @len bytes at @offset; they lie within `size`. Blocks; from the calling thread. 0; -EBADMSG or -EIO: they
	 * are lost, go on; another negative errno with words in @e ends it all.
	 */
	int (*read)(void *ctx, void *buf, size_t len, uint64_t offset, struct err *e);
	void *ctx;
	uint64_t size; /* bytes */
};

/* What of a file it is. */
enum owner_kind {
	OWNER_DATA,	  /* what a regular file holds */
	OWNER_DIRECTORY,  /* names in a directory */
	OWNER_LINK,	  /* where a symbolic link leads */
	OWNER_ATTRIBUTES, /* extended attributes, access lists */
	OWNER_MAP,	  /* where the file's blocks are: the rest of it may be lost by that */
};
/* "data", "directory", "link", "attributes", "map" */
const char *owner_kind_name(enum owner_kind k);

struct owner {
	uint64_t tree; /* btrfs: the subvolume's id; else 0 */
	uint64_t inode;
	enum owner_kind kind;
	uint64_t at;	 /* bytes of the file system */
	uint64_t length; /* bytes, never 0; cut to what was asked for */
	uint64_t offset; /* of DATA: in the file, bytes */
	/*
	 * Of DATA: so many bytes of the file, from `offset` on. As many as `length`, but where they are compressed:
	 * there it is all that the whole is needed for, whatever part of it was asked for.
	 */
	uint64_t held;
	/*
	 * From the file system's root, "/var/lib/x": bytes, no control characters promised. One of them where there are
	 * several. NULL: no directory that could be read names it.
	 */
	char *path;
};

/* One stretch of bytes may have several owners (shared extents), and a file several stretches. */
struct owners {
	struct owner *items; /* in the order of `at` */
	size_t count, allocated;
	bool more; /* there were more than OWNERS_MAX, or their paths are very long; the rest is left out */
	/* asked for, and no file's: free, or the file system's own tables */
	struct extent_set others;
	/* Some of the file system's own tables could not be read, the first of them in words: owners may be missing. */
	bool incomplete;
	struct err lost;
};
#define OWNERS_MAX 100000
void owners_done(struct owners *o);

/*
 * Whose are the bytes of @wanted (normalised, within @io->size) in the file system @fs_type (libblkid's name)? Fills @ret,
 * which the caller frees in any case. Reads all inodes and directories once or twice; memory: some 50 to 150 bytes for each
 * directory. Hostile input is safe. 0; -ENOTSUP: not one of the file systems that are understood (ext2, ext3, ext4, xfs,
 * btrfs), or one with a feature that is not; -EBADMSG: what describes the file system itself is lost; -ECANCELED; -ENOMEM; or
 * an error of @io.
 */
int owners_find(const char *fs_type, const struct owners_io *io, const struct extent_set *wanted,
		struct cancel *c, struct owners *ret, struct err *e);
