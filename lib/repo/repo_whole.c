/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_whole.h"

#include <errno.h>

#include "lib/repo/hash_list.h"
#include "lib/repo/repo_walk.h"

static int whole_page(void *ctx, const struct chunk_id *id, const struct repo_walk_place *at,
		      void **ret_body, size_t *ret_len, struct err *e)
{
	int r = repo_read(ctx, id, REPO_KIND_PAGE, ret_body, ret_len, e);

	(void)at;
	return r < 0 ? r : 1;
}

static int whole_chunk(void *ctx, const struct chunk_id *id, uint32_t region, uint64_t index,
		       struct err *e)
{
	struct repo_place place;

	(void)region, (void)index;
	return repo_find(ctx, id, REPO_KIND_CHUNK, &place, e);
}

int repo_whole_parent(struct repo *r, const struct repo_image *i, struct err *e)
{
	static const struct repo_walk_ops ops = { .page = whole_page, .chunk = whole_chunk };
	_cleanup_(hash_list_done) struct hash_list lossy = { 0 };
	int n;

	n = hash_list_load(r->store, "gc/lossy-", &lossy, e);
	if (n < 0)
		return n;
	if (!lossy.count)
		return 1;
	if (r->crypt && crypt_rights(r->crypt) != CRYPT_RIGHTS_FULL)
		return 0;
	n = repo_walk_image(i->manifest, &ops, r, e);
	if (n == -ENOENT || n == -EBADMSG)
		return 0;
	return n < 0 ? n : 1;
}
