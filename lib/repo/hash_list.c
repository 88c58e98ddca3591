/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/hash_list.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/hex.h"

struct hash_scan {
	const char *prefix;
	struct hash_list *list;
};

static int hash_list_add(void *ctx, const char *name, uint64_t size)
{
	const struct hash_scan *s = ctx;
	struct hash_list *l = s->list;
	uint8_t hash[REPO_NAME_HASH];

	(void)size;
	if (strncmp(name, s->prefix, strlen(s->prefix)) != 0 ||
	    hex_decode(name + strlen(s->prefix), hash, sizeof(hash)) < 0)
		return 0;
	if (ARRAY_ROOM(l->items, l->count, l->allocated, 64) < 0)
		return -ENOMEM;
	memcpy(l->items[l->count++], hash, sizeof(hash));
	return 0;
}

static int hash_compare(const void *a, const void *b)
{
	return memcmp(a, b, REPO_NAME_HASH);
}

int hash_list_load(struct store *s, const char *prefix, struct hash_list *ret, struct err *e)
{
	struct hash_scan scan = { .prefix = prefix, .list = ret };
	char folder[STORE_NAME_MAX + 1];
	int r;

	*ret = (struct hash_list){ 0 };
	snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(prefix, '/') + 1 - prefix), prefix);
	r = store_list(s, folder, hash_list_add, &scan, e);
	if (r < 0)
		return r == -ENOMEM ? err_oom(e) : r;
	if (ret->count)
		qsort(ret->items, ret->count, sizeof(*ret->items), hash_compare);
	return 0;
}

bool hash_list_has(const struct hash_list *l, const uint8_t hash[REPO_NAME_HASH])
{
	return l->count && bsearch(hash, l->items, l->count, sizeof(*l->items), hash_compare);
}

void hash_list_done(struct hash_list *l)
{
	free(l->items);
	*l = (struct hash_list){ 0 };
}
