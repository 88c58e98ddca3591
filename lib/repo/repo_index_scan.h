/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_index_scan - blocks of index files for who asks for many names in their order.
 *
 * Each block is read once, and as soon as neighbours are asked for one after the other, up to 64 of them in one piece: a
 * million names are in nearly every block of a hundred million entries. Not thread-safe; it must not outlive its index.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/repo_format.h"
#include "lib/repo/repo_index.h"

struct repo_index_scan;

/* @x is borrowed. NULL: out of memory. Up to 17 MB, where that many files overlap. */
struct repo_index_scan *repo_index_scan_new(const struct repo_index *x);
void repo_index_scan_free(struct repo_index_scan *s);
DEFINE_CLEANUP(struct repo_index_scan, repo_index_scan_free);

/* As repo_index_find(), and quick as long as names come in order. */
int repo_index_scan_find(struct repo_index_scan *s, const struct chunk_id *name,
			 const uint64_t *ordinal_after, struct repo_place *ret, struct err *e);
