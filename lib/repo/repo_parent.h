/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_parent - an image of a repository as the parent that an agent asks about (lib/image/parent_server.h).
 *
 * All calls are for one thread at a time, and block.
 */
#pragma once

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/parent_server.h"
#include "lib/repo/page_source.h"
#include "lib/repo/repo.h"
#include "lib/repo/repo_image.h"

struct repo_parent;

/*
 * @pages: where the image's pages are; NULL: in @r. All three are borrowed and must stay, and the index must not be loaded
 * anew meanwhile. 0 or a negative errno.
 */
int repo_parent_new(struct repo *r, const struct repo_image *i, const struct page_source *pages,
		    struct repo_parent **ret, struct err *e);
void repo_parent_free(struct repo_parent *p);
DEFINE_CLEANUP(struct repo_parent, repo_parent_free);

/* For parent_serve(), with a struct repo_parent as its context. */
extern const struct parent_server_ops repo_parent_ops;
/* What went wrong last, in words, because the agent is told a number only; code 0: nothing. */
const struct err *repo_parent_failure(const struct repo_parent *p);
