/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hash_list - the hashes that stand in names of objects: of all "images/<hash>", of all "gc/mark-<hash>". */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/repo/repo_format.h"
#include "lib/repo/store.h"

/* In ascending order. Always ends in hash_list_done(). */
struct hash_list {
	uint8_t (*items)[REPO_NAME_HASH];
	size_t count, allocated;
};

/*
 * Of every object whose name is @prefix and a hash, nothing else; others are passed over. @prefix begins with a folder
 * ("gc/mark-"), and the whole folder is listed. Blocks. 0 or a negative errno.
 */
int hash_list_load(struct store *s, const char *prefix, struct hash_list *ret, struct err *e);
bool hash_list_has(const struct hash_list *l, const uint8_t hash[REPO_NAME_HASH]);
void hash_list_done(struct hash_list *l);
