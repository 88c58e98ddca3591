/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/repo_arg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/store_stop.h"
#include "lib/base/cleanup.h"

struct repo_arg arg_repo = { .keys = KEY_SOURCE_NONE };

int repo_arg_require(struct err *e)
{
	if (arg_repo.path)
		return 0;
	return err_set(e, -EINVAL,
		       "which repository? give --repo DIRECTORY, or set AMBRO_REPOSITORY");
}

/* The store makes what is in the directory durable, but the directory's own name is its parent's. */
static int repo_arg_make(const char *path, struct err *e)
{
	_cleanup_free_ char *parent = NULL;
	_cleanup_close_ int fd = -EBADF;
	const bool made = mkdir(path, 0700) == 0;

	if (!made && errno != EEXIST)
		return err_set_errno(e, -errno, "cannot make %s", path);
	if (asprintf(&parent, "%s/..", path) < 0)
		return err_oom(e);
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* what was there already may be in a place that we may not read; store_dir.c's folder_flush() has the rest */
	if ((fd < 0 || fsync(fd) < 0) && made && errno != EINVAL && errno != EROFS)
		return err_set_errno(e, -errno, "cannot flush the directory that %s is in", path);
	return 0;
}

int repo_arg_store(const struct repo_arg *a, bool create, struct store **ret, struct err *e)
{
	int r = store_stop_set_up(e);

	if (r < 0)
		return r;
	if (strstr(a->path, "://")) {
		return err_set(e, -ENOTSUP,
			       "%s: a repository is a directory; other places are not "
			       "known to this version",
			       a->path);
	}
	if (create) {
		r = repo_arg_make(a->path, e);
		if (r < 0)
			return r;
	}
	return store_dir_open(a->path, true, ret, e);
}

static int repo_arg_unlock(const struct repo_arg *a, struct repo *r, struct err *e)
{
	if (!r->format.encrypted && key_source_given(&a->keys)) {
		return err_set(
			e, -EINVAL,
			"the repository is not encrypted, but a key was given for it: nothing "
			"is written in the clear to a place that should be encrypted");
	}
	return r->format.encrypted ? key_source_unlock(&a->keys, r, e) : 0;
}

static int repo_arg_load_index(struct repo *r, struct err *e)
{
	struct err why = { 0 };
	int n = repo_load_index(r, &why);

	if (n == -EBADMSG) {
		return err_set(e, n, "%.400s ('ambroctl repo repair' makes the index anew)",
			       why.text);
	}
	if (n < 0)
		*e = why;
	return n;
}

int repo_arg_open(const struct repo_arg *a, enum repo_arg_want want, struct repo **ret,
		  struct err *e)
{
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct store *store = NULL;
	int n;

	n = repo_arg_store(a, false, &store, e);
	if (n < 0)
		return n;
	n = repo_open(store, &r, e);
	if (n >= 0 && want >= REPO_ARG_IMAGES)
		n = repo_arg_unlock(a, r, e);
	if (n >= 0 && want >= REPO_ARG_CHUNKS)
		n = repo_arg_load_index(r, e);
	if (n < 0)
		return err_prefix(e, "%s", a->path), n;
	*ret = TAKE_PTR(r);
	return 0;
}
