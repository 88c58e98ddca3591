/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo - a repository: its format, its keys, its index, its images. docs/REPOSITORY.md.
 *
 * Thread-safe where said; otherwise one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/crypt.h"
#include "lib/repo/repo_format.h"
#include "lib/repo/repo_index.h"
#include "lib/repo/store.h"

/* By measurement (docs/REPOSITORY.md, 7): 128 KiB, the granule of the tracker. */
#define REPO_CHUNK_SHIFT_DEFAULT 17
/* What was loaded of the index may be built upon for so long; gc waits longer. */
#define REPO_GRACE_NS (UINT64_C(24) * 3600 * 1000000000)

/* The object "format": what can never change. */
struct repo_format {
	uint8_t id[REPO_ID_SIZE];
	unsigned int chunk_shift;
	bool encrypted;
	uint64_t created_ns;
};

struct repo {
	struct store *store; /* owned */
	struct repo_format format;
	struct crypt *crypt;	  /* owned; NULL: not encrypted, or not unlocked yet */
	struct repo_index *index; /* repo_load_index() */
	struct pack_sessions *sessions;
	/* before the marks were listed, for repo_in_time() */
	uint64_t loaded_ns, loaded_realtime_ns;
};

/* May one be made in @s? -EEXIST: there is one; -EBADMSG: there was one, whose object "format" is gone. */
int repo_init_check(struct store *s, struct err *e);
/*
 * Make one in @s: the object "format". When it is to be encrypted, its first key slot must be in the store already
 * (keys_init()). Errors as repo_init_check()'s, too.
 */
int repo_init(struct store *s, const struct repo_format *f, struct err *e);
/*
 * The object alone, whatever else is there: for who makes it anew (repo_rebuild.h). -EEXIST: there is one; -EINVAL: chunk_shift.
 */
int repo_format_put(struct store *s, const struct repo_format *f, struct err *e);
/* Read it. As repo_open(). */
int repo_format_get(struct store *s, struct repo_format *ret, struct err *e);
/* @s is taken over, also on failure. -ENOENT: there is no repository; -EBADMSG: "format" is damaged, or gone; -ENOTSUP: it needs a newer tool. */
int repo_open(struct store *s, struct repo **ret, struct err *e);
void repo_free(struct repo *r);
DEFINE_CLEANUP(struct repo, repo_free);
/* Give it its keys; taken over. -EINVAL when it is not encrypted: who expects a key must not write in the clear. */
int repo_unlock(struct repo *r, struct crypt *c, struct err *e);
/*
 * (Re)load the index: the marks of gc first, then the index files, in this order (gc.h says why); packs that are marked are
 * excluded. -ENOKEY when it is encrypted and locked.
 */
int repo_load_index(struct repo *r, struct err *e);
/* The same for who looks at all that is there (gc, check): no marks, nothing is excluded, and nothing may be written upon it. */
int repo_load_whole_index(struct repo *r, struct err *e);
/*
 * May what repo_load_index() found still be relied on, @grace_ns being the grace period (W2 of gc_object.h)? 0 or -ESTALE.
 * A machine that slept since, or stood still under its hypervisor and had its clock put right, has lost that time.
 */
int repo_in_time(const struct repo *r, uint64_t grace_ns, struct err *e);

/*
 * The chunk's zstd frame or the page's body whose plain id is @id into @ret (allocated). The bytes are as the store has
 * them, decrypted; the caller checks them against the id. When a pack is gone (it was repacked meanwhile) other places are
 * tried. Thread-safe. -ENOENT with words when no index file knows it.
 */
int repo_read(struct repo *r, const struct chunk_id *id, enum repo_kind kind, void **ret,
	      size_t *ret_len, struct err *e);
/* The same from a place that repo_index_find() gave; @ret has at least entry.frame_len bytes. Thread-safe. */
int repo_read_place(struct repo *r, const struct repo_place *p, void *ret, size_t *ret_len,
		    struct err *e);
/*
 * The two halves of it, for who reads many entries in one go: the bytes as stored, which are frame_len and of one
 * pack; and what they hold.
 */
int repo_read_stored(struct repo *r, const struct repo_place *p, void *ret, struct err *e);
int repo_open_entry(struct repo *r, const struct repo_place *p, const void *stored, void *ret,
		    size_t *ret_len, struct err *e);
/*
 * Is it there, as what it is, in a pack that is not marked? Fills @ret. 0 or -ENOENT, -EBADMSG. Thread-safe.
 */
int repo_find(struct repo *r, const struct chunk_id *id, enum repo_kind kind,
	      struct repo_place *ret, struct err *e);
/* The same for who only reads: also in a marked one, where there is no other. What is there to be read must not depend on marks. */
int repo_locate(struct repo *r, const struct chunk_id *id, enum repo_kind kind,
		struct repo_place *ret, struct err *e);
