/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc_object - the notes under gc/ by which images and packs are let go (gc.c has the whole argument).
 *
 *	gc/forget-<image>	a tombstone: the image is hidden, and is deleted a grace period later
 *	gc/mark-<pack>		the pack will be deleted: nobody who reads this may rely on what is in it
 *	gc/stray-<pack>		no index file names the pack; it may become a whole one yet, writers pay no heed
 *	gc/gone-<pack>		the pack was deleted: a while later its mark may go, too
 *	gc/lossy-<random>	a repair may have lost something: see repo_whole.h
 *	gc/prune-<random>	a prune is at work, or was killed
 *	gc/repair-<random>	a repair, likewise: see gc_turn.h
 *
 * Each is one record (lib/image/record.h) with JSON, sealed in encrypted repositories so that only who has full rights can
 * make one that counts: a stolen key that may only add does not let go of anything. A mark is never taken back while its pack is there.
 *
 * What a writer (lib/repo/ingest) owes to gc:
 *  W1. It loads marks first, index second, and picks its parent third. It relies on no entry in a pack that was marked then,
 *	and on no parent that was forgotten then.
 *  W2. It commits its image within the grace period of W1, or not at all.
 *  W3. The name of its packs is new: no two packs are ever made with the same bytes (the head of each has random bytes in
 *	it). A pack that is "there already" might be just being deleted.
 *  W4. Packs, then index files, then the image.
 * Readers do read from marked packs: that an image is read must not depend on what is marked.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/crypt.h"
#include "lib/repo/repo.h"
#include "lib/repo/repo_format.h"
#include "lib/repo/store.h"

#define REPO_RECORD_GC 21

/* Longer than the longest capture: from loading marks to the image's commit (W2). */
#define GC_GRACE_DEFAULT_NS REPO_GRACE_NS
/* How far the clocks of those who prune may be apart; waited for on top of every grace period. */
#define GC_CLOCK_SLACK_NS (UINT64_C(300) * 1000000000)
/* Which boot of which machine a note was put by: see gc_clock.h. */
#define GC_BOOT_SIZE 16

enum gc_kind {
	GC_FORGET,
	GC_MARK,
	GC_STRAY,
	GC_GONE,
	GC_LOSSY,
	GC_PRUNE,
	GC_REPAIR,
};

enum gc_reason {
	GC_REASON_NONE,
	GC_REASON_DEAD,	    /* no image needs anything in it */
	GC_REASON_REPACKED, /* what is needed of it was copied */
};

struct gc_object {
	enum gc_kind kind;
	enum gc_reason reason;	      /* of GC_MARK */
	uint8_t hash[REPO_NAME_HASH]; /* the image's or pack's name */
	uint64_t time_ns;	      /* when it was put, by the clock of who put it, since 1970 */
	uint8_t boot[GC_BOOT_SIZE];   /* of who put it; zeros: it does not say */
	uint64_t boot_ns;	      /* CLOCK_BOOTTIME of that boot, likewise */
	bool damaged; /* it is there and cannot be read; only kind and hash are known */
};

/* Is a note's hash the name of a pack? */
static inline bool gc_object_is_of_pack(enum gc_kind kind)
{
	return kind == GC_MARK || kind == GC_STRAY || kind == GC_GONE;
}

/* "gc/mark-4f0c…" */
#define GC_OBJECT_NAME_SIZE 80
char *gc_object_name(enum gc_kind kind, const uint8_t hash[REPO_NAME_HASH],
		     char ret[GC_OBJECT_NAME_SIZE]);
/* The other way round; -EINVAL when it is none. */
int gc_object_parse_name(const char *name, struct gc_object *ret);

/* @crypt NULL: the repository is not encrypted. That it is there already is fine: the older one counts. */
int gc_object_put(struct store *s, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
		  const struct gc_object *o, struct err *e);
/*
 * One of them, its kind and hash as in @o; fills the rest. -ENOENT; -EBADMSG: damaged, made by somebody without the keys, or
 * another one under this name.
 */
int gc_object_get(struct store *s, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
		  struct gc_object *o, struct err *e);
int gc_object_del(struct store *s, enum gc_kind kind, const uint8_t hash[REPO_NAME_HASH],
		  struct err *e);
/* What can be checked of its @len bytes without keys. 0 or -EBADMSG. */
int gc_object_check(const void *bytes, size_t len, struct err *e);

/* All of them, sorted by kind and hash. */
struct gc_objects {
	struct gc_object *items;
	size_t count;
};
/* Damaged ones are in it, flagged. 0 or an error of the store; what others delete meanwhile is left out. */
int gc_objects_load(struct store *s, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
		    struct gc_objects *ret, struct err *e);
void gc_objects_done(struct gc_objects *l);
const struct gc_object *gc_objects_find(const struct gc_objects *l, enum gc_kind kind,
					const uint8_t hash[REPO_NAME_HASH]);
