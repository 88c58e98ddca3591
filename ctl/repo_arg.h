/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_arg - the repository that a verb works on: --repo or AMBRO_REPOSITORY, and its keys.
 */
#pragma once

#include <stdbool.h>

#include "ctl/key_source.h"
#include "lib/repo/repo.h"

struct repo_arg {
	const char *path; /* a directory; NULL: not given */
	bool explicit;	  /* by --repo, not by the environment */
	const char *host; /* --host: whose images; NULL: anybody's */
	struct key_source keys;
};

/* Filled by verb_getopt() from VERB_REPO_OPTIONS and the environment. */
extern struct repo_arg arg_repo;

/* -EINVAL with words when none was given. */
int repo_arg_require(struct err *e);
/* Each more than the one before. A damaged index must not hinder who does not need it. */
enum repo_arg_want {
	REPO_ARG_FORMAT, /* neither keys nor index */
	REPO_ARG_IMAGES, /* its keys (a key for one that is not encrypted is refused): images and notes can be read */
	REPO_ARG_CHUNKS, /* and its index */
};
int repo_arg_open(const struct repo_arg *a, enum repo_arg_want want, struct repo **ret,
		  struct err *e);
/* The store alone: for making a repository. The directory is made when @create and it is not there. */
int repo_arg_store(const struct repo_arg *a, bool create, struct store **ret, struct err *e);
