/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * parent - the image that an increment is made against, as a client tells of it: the agent's end of lib/image/parent.h.
 *
 * The client may be hostile, slow, or silent. Whatever it says has no effect but on its own image: lengths are bounded
 * before anything is allocated, pages are parsed, and a wait ends with the capture's cancel or with parent_break(). After the
 * first failure of the line every call fails in the same way.
 *
 * Thread-safe, but for parent_open() and parent_free(). Calls block for the client: never while a file system is frozen.
 * Memory: a few leaf pages of at most 136 KiB, and the manifest.
 */
#pragma once

#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/format.h"
#include "lib/image/manifest.h"

struct parent;

/*
 * Ask for the manifest. @fd is a connected stream socket, borrowed until parent_free(); @cancel (may be NULL) too. -EINVAL:
 * it is none. -EBADMSG: the client's answer cannot be.
 */
int parent_open(int fd, struct cancel *cancel, struct parent **ret, struct err *e);
void parent_free(struct parent *p);
DEFINE_CLEANUP(struct parent, parent_free);

const struct manifest *parent_manifest(const struct parent *p);

/* A chunk's state there, and for CHUNK_DATA its id. 0 or a negative errno. */
int parent_chunk(struct parent *p, uint32_t region, uint64_t index, enum chunk_state *ret_state,
		 struct chunk_id *ret_id, struct err *e);
/*
 * The plain bytes of a chunk with data into @ret, which has room for all of it. 0; -EACCES: the client cannot give them
 * (whatever it said why); or another negative errno.
 */
int parent_content(struct parent *p, uint32_t region, uint64_t index, void *ret, struct err *e);
/* Nobody shall wait for the client any more. From any thread; never blocks; accepts NULL. */
void parent_break(struct parent *p);
