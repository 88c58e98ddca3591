/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * page_source - where the pages of a parent's hash trees are read when that is not the repository (last_image.h).
 */
#pragma once

#include <stddef.h>

#include "lib/base/err.h"
#include "lib/image/format.h"

struct page_source {
	/* As repo_read(): allocated, not yet held against @id; -ENOENT with words. Thread-safe. */
	int (*read)(void *ctx, const struct chunk_id *id, void **ret, size_t *ret_len,
		    struct err *e);
	void *ctx;
};
