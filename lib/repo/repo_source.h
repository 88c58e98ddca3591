/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_source - an image of a repository, for everything that reads images (lib/image/image_reader.h).
 *
 * Frames and pages are read ahead (pack_ahead.h). Thread-safe as the reader says.
 */
#pragma once

#include "lib/base/err.h"
#include "lib/image/image_reader.h"
#include "lib/repo/repo.h"
#include "lib/repo/repo_image.h"

/*
 * A reader of @i. @r is borrowed, must stay, and its index must not be loaded anew meanwhile; @i is not needed afterwards.
 * Blocks little: nothing is read but memory. -ENOMEM, -EBADMSG.
 */
int repo_source_open(struct repo *r, const struct repo_image *i, struct image_reader **ret,
		     struct err *e);
