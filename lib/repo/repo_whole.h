/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_whole - may an image be the parent of another, after something was lost?
 *
 * An increment takes over what its parent has without looking at it. That is right while nothing is ever lost. A repair
 * (repo_repair.h) leaves a note, "gc/lossy-…": as long as one is there, a parent is walked first, and only one of which the
 * index knows everything is taken. The next prune that finds all images whole takes the notes away.
 */
#pragma once

#include "lib/base/err.h"
#include "lib/repo/repo.h"
#include "lib/repo/repo_image.h"

/* 1: it may be; 0: it lacks something (@e says what), or nobody here can tell; or a negative errno. Blocks. */
int repo_whole_parent(struct repo *r, const struct repo_image *i, struct err *e);
