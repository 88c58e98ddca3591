/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store - the seam between a repository and what keeps its bytes: write-once objects under names.
 *
 * An object is put whole and never changes; it can only be deleted. So nothing here needs a lock, and a directory, a
 * bucket and a table in memory can all be one.
 *
 * Names are made of [a-z0-9.-] and '/', e.g. "packs/4f/4f0c…", at most STORE_NAME_MAX bytes, never with a part that is
 * empty or begins with '.', and "tmp" is never the first. No object is called as another's folder is.
 *
 * What a store promises:
 *  S1. put() returns 0 only when the object is whole, durable, and found by every later get() and list(), also after a
 *	crash of the machine. When it fails, the object is there whole or not at all; a name never shows part of it.
 *  S2. put() of a name that is there changes nothing and returns -EEXIST. Of two at the same time one wins. What
 *	-EEXIST speaks of is as durable as after 0, whoever put it.
 *  S3. get() returns the very bytes that were put, or fails. (Bytes that rotted are for the caller to find: every
 *	object of a repository proves itself.)
 *  S4. list() names every object that was there before it began and was not deleted meanwhile. Names come in any order.
 *	What it named is durable when it returns 0: who builds on another's index file will find it after a crash.
 *  S5. del() of what is not there is 0. What it deleted stays deleted after a crash of the machine.
 *
 * All calls block, and are thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"

#define STORE_NAME_MAX 255

struct store;
struct store_draft;

/* Called for each object, and may call the store; a negative return ends the listing and is returned. */
typedef int (*store_list_fn)(void *ctx, const char *name, uint64_t size);

struct store_ops {
	/* The @n parts one behind the other. 0, -EEXIST, or another negative errno: nothing was put. */
	int (*put)(struct store *s, const char *name, const struct iovec *parts, size_t n,
		   struct err *e);
	/*
	 * Exactly @len bytes at @offset. -ENOENT: no such object; -ENODATA: it ends before; otherwise an error of the
	 * store.
	 */
	int (*get)(struct store *s, const char *name, uint64_t offset, void *buf, size_t len,
		   struct err *e);
	/* Bytes of the object, or -ENOENT. */
	int (*size)(struct store *s, const char *name, uint64_t *ret, struct err *e);
	/* Every object whose name begins with @prefix ("packs/"; it ends with '/', or is "": all). */
	int (*list)(struct store *s, const char *prefix, store_list_fn fn, void *ctx,
		    struct err *e);
	int (*del)(struct store *s, const char *name, struct err *e);
	void (*free)(struct store *s);
	/* When it was put, by the store's own clock, nanoseconds since 1970. NULL: it does not know. */
	int (*time)(struct store *s, const char *name, uint64_t *ret_ns, struct err *e);
	/* store_draft_new(). NULL: it takes objects in one piece only. */
	int (*draft)(struct store *s, const char *folder, struct store_draft **ret, struct err *e);
};

/* The beginning of every store. */
struct store {
	const struct store_ops *ops;
};

int store_put(struct store *s, const char *name, const void *bytes, size_t len, struct err *e);
int store_putv(struct store *s, const char *name, const struct iovec *parts, size_t n,
	       struct err *e);
int store_get(struct store *s, const char *name, uint64_t offset, void *buf, size_t len,
	      struct err *e);
/* The whole object, allocated; -EFBIG when it is longer than @most. */
int store_get_all(struct store *s, const char *name, size_t most, void **ret, size_t *ret_len,
		  struct err *e);
int store_size(struct store *s, const char *name, uint64_t *ret, struct err *e);
/* By the clock of what keeps it (a file server's, not ours). -ENOTSUP: it does not say. */
int store_time(struct store *s, const char *name, uint64_t *ret_ns, struct err *e);
int store_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx, struct err *e);
int store_del(struct store *s, const char *name, struct err *e);

/*
 * An object that is written piece by piece, by who learns its name at its end only: a pack is called by the hash of its
 * bytes. Nobody sees it before store_draft_put(), which promises what put() does; what is freed before was never there.
 * Where the store takes objects in one piece only, it grows in memory. One thread at a time.
 */
struct store_draft_ops {
	int (*add)(struct store_draft *d, const struct iovec *parts, size_t n, struct err *e);
	int (*put)(struct store_draft *d, const char *name, struct err *e);
	void (*free)(struct store_draft *d);
};
/* The beginning of every draft. */
struct store_draft {
	const struct store_draft_ops *ops;
	int failed; /* negative errno of an add() or put(): it may not be what it was given */
};
/* @folder ("packs/"): where it will be, or in a folder in there. @s outlives it. */
int store_draft_new(struct store *s, const char *folder, struct store_draft **ret, struct err *e);
/* The @n parts one behind the other, after what is there. After an error it can only be freed. */
int store_draft_add(struct store_draft *d, const struct iovec *parts, size_t n, struct err *e);
/* It is complete, and gets its name. Errors as put(); after one but -EEXIST it can only be freed. */
int store_draft_put(struct store_draft *d, const char *name, struct err *e);
/* Accepts NULL. */
void store_draft_free(struct store_draft *d);
DEFINE_CLEANUP(struct store_draft, store_draft_free);

/* Accepts NULL. */
void store_free(struct store *s);
DEFINE_CLEANUP(struct store, store_free);
/* Is it a name as above? */
bool store_name_valid(const char *name);

/*
 * A directory (store_dir.c), which must exist. An object is written without a name or under tmp/, made durable, linked,
 * and the directory made durable. What a killed writer left in tmp/ is removed by store_dir_clean(). Symbolic links in
 * the directory are not followed; what has no valid name in it is not seen. @sync false (tests only): nothing is made
 * durable.
 */
int store_dir_open(const char *path, bool sync, struct store **ret, struct err *e);
/*
 * Remove temporary files older than @age_s seconds; best effort, nothing in another kind of store. The put() of a writer
 * that is so slow fails, and harms nothing.
 */
int store_dir_clean(struct store *s, uint64_t age_s, struct err *e);
/*
 * For tests, set before there are threads: called before each system call that changes something, with the step's name
 * (at the head of store_dir.c). A negative return is taken for that of the system call, which is not made.
 */
extern int (*store_dir_step)(const char *step);

/* In memory (store_memory.c), for tests. */
int store_memory_new(struct store **ret);
/* Change a byte of an object, as rot would: for tests. -ENOENT, -ERANGE; -EINVAL: another kind of store. */
int store_memory_flip(struct store *s, const char *name, uint64_t offset, uint8_t mask);

/*
 * One that counts, and fails on purpose (store_fault.c), in front of @below, which it owns.
 */
enum store_fault {
	STORE_FAULT_NONE,
	STORE_FAULT_FAIL,	/* nothing happens, @error is returned */
	STORE_FAULT_LOST_REPLY, /* the operation is done, and @error is returned all the same */
	STORE_FAULT_DEAD, /* from this operation on, nothing works any more: the process was killed */
	STORE_FAULT_DEAD_AFTER, /* the operation is done, then as DEAD */
};
struct store_counts {
	uint64_t puts, gets, sizes, lists, dels; /* calls, also those that failed */
	uint64_t put_bytes, get_bytes;		 /* of those that @below answered with 0 */
};
int store_fault_new(struct store *below, struct store **ret);
/*
 * Operation number @at (0: the next put, of a draft too, or del) meets @fault with @error (negative errno), once; what is dead answers
 * everything with it, and the operation of DEAD_AFTER, too. Gets and lists are not counted. A call takes the place of the
 * one before, and brings the dead back; STORE_FAULT_NONE: no fault any more.
 */
void store_fault_at(struct store *s, uint64_t at, enum store_fault fault, int error);
/* From now on every get of the object @name fails with @error (negative errno), as from a bad sector; NULL: none does. */
void store_fault_get_of(struct store *s, const char *name, int error);
struct store_counts store_fault_counts(struct store *s);
/* Take @below back out, for what comes after the "crash"; @s is freed. */
struct store *store_fault_release(struct store *s);
