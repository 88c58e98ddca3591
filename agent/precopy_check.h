/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * precopy_check - is the disk still the one that the image tells of? Invariant S3 of snapshot_precopy.c. Nothing
 * stands still any more when these are called: they block and allocate.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/snapshot.h"
#include "lib/base/err.h"

/*
 * S3 (d): are the file systems of the disk some of those whose mount ids are @ids? 1: yes, 0: one has come.
 * Refreshes s->disk->mounts.
 */
int precopy_same_mounts(struct snapshot *s, const int *ids, size_t count, struct err *e);
/* S3 (e): is it divided as when we began, and do the same file systems lie on it? 0 or -ESTALE. */
int precopy_check_layout(const struct snapshot *s, struct err *e);
/* Is a file system mounted where we cannot see it, in a mount namespace of its own? It was not frozen. */
bool precopy_hidden_mounts(const struct snapshot *s);
