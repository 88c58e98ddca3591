/* SPDX-License-Identifier: GPL-2.0-or-later */
/* store-fixture - a store of each kind, for tests; that of a directory in one of its own below $TMPDIR or /tmp. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/repo/store.h"

enum store_kind {
	STORE_KIND_DIR,		  /* O_TMPFILE and link, if the file system can */
	STORE_KIND_DIR_TEMPORARY, /* as if it could not do the first */
	STORE_KIND_DIR_RENAME,	  /* nor the second */
	STORE_KIND_MEMORY,
	STORE_KIND_FAULT, /* in front of one in memory */
	STORE_KINDS
};

static const char *const store_kind_names[STORE_KINDS] __attribute__((unused)) = {
	[STORE_KIND_DIR] = "dir",
	[STORE_KIND_DIR_TEMPORARY] = "dir, temporary",
	[STORE_KIND_DIR_RENAME] = "dir, rename",
	[STORE_KIND_MEMORY] = "memory",
	[STORE_KIND_FAULT] = "fault",
};

struct store_fixture {
	enum store_kind
		kind; /* another than was asked for where the file system knows no RENAME_NOREPLACE */
	struct store *s;
	char dir[200]; /* "": none */
};

static inline int store_fixture_no_nameless(const char *step)
{
	return strcmp(step, "nameless") == 0 ? -EOPNOTSUPP : 0;
}

static inline int store_fixture_no_link(const char *step)
{
	return strcmp(step, "link") == 0 ? -EPERM : store_fixture_no_nameless(step);
}

/* NFS and most of FUSE do not know it, and have links. */
static inline bool store_fixture_knows_noreplace(const char *dir)
{
	char from[250], to[250];

	snprintf(from, sizeof(from), "%s/from", dir);
	snprintf(to, sizeof(to), "%s/to", dir);
	return mkdir(from, 0700) == 0 &&
	       ((renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0 &&
		 rmdir(to) == 0) ||
		rmdir(from) < 0);
}

static inline int store_fixture_open_dir(struct store_fixture *f)
{
	const char *below = getenv("TMPDIR");

	snprintf(f->dir, sizeof(f->dir), "%s/ambro-store.XXXXXX", below ? below : "/tmp");
	if (!mkdtemp(f->dir))
		return -errno;
	if (f->kind == STORE_KIND_DIR_RENAME && !store_fixture_knows_noreplace(f->dir))
		f->kind = STORE_KIND_DIR_TEMPORARY;
	store_dir_step = f->kind == STORE_KIND_DIR_TEMPORARY ? store_fixture_no_nameless
			 : f->kind == STORE_KIND_DIR_RENAME  ? store_fixture_no_link
							     : NULL;
	return store_dir_open(f->dir, true, &f->s, NULL);
}

static inline int store_fixture_setup(void **state)
{
	enum store_kind kind = *(const enum store_kind *)*state;
	struct store_fixture *f = calloc(1, sizeof(*f));
	struct store *below;
	int r;

	if (!f)
		return -1;
	f->kind = kind;
	if (kind <= STORE_KIND_DIR_RENAME) {
		r = store_fixture_open_dir(f);
	} else {
		r = store_memory_new(&f->s);
		below = f->s;
		if (r == 0 && kind == STORE_KIND_FAULT)
			r = store_fault_new(below, &f->s);
	}
	*state = f;
	return r;
}

static inline int store_fixture_remove(const char *path, const struct stat *st, int type,
				       struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline int store_fixture_teardown(void **state)
{
	struct store_fixture *f = *state;
	int r = 0;

	store_free(f->s);
	store_dir_step = NULL;
	if (*f->dir)
		r = nftw(f->dir, store_fixture_remove, 8, FTW_DEPTH | FTW_PHYS);
	free(f);
	return r;
}

static inline struct store *store_fixture_store(void **state)
{
	return ((struct store_fixture *)*state)->s;
}

/* The test freed the store itself, and has this one now. */
static inline void store_fixture_replace(void **state, struct store *s)
{
	((struct store_fixture *)*state)->s = s;
}

static inline struct CMUnitTest store_fixture_test(CMUnitTestFunction test, const char *name,
						   enum store_kind kind)
{
	static const enum store_kind kinds[STORE_KINDS] = { STORE_KIND_DIR,
							    STORE_KIND_DIR_TEMPORARY,
							    STORE_KIND_DIR_RENAME,
							    STORE_KIND_MEMORY, STORE_KIND_FAULT };

	return (struct CMUnitTest){ name, test, store_fixture_setup, store_fixture_teardown,
				    (void *)&kinds[kind] };
}
