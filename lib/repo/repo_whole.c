/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_whole.h"

#include <errno.h>

#include "lib/repo/gc_object.h"
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

static int whole_note(void *ctx, const char *name, uint64_t size)
{
	struct gc_object o;
	bool *lossy = ctx;

	(void)size;
	*lossy |= gc_object_parse_name(name, &o) >= 0 && o.kind == GC_LOSSY;
	return 0;
}

int repo_whole_parent(struct repo *r, const struct repo_image *i, struct err *e)
{
	static const struct repo_walk_ops ops = { .page = whole_page, .chunk = whole_chunk };
	bool lossy = false;
	int n;

	n = store_list(r->store, "gc/", whole_note, &lossy, e);
	if (n < 0)
		return n;
	if (!lossy)
		return 1;
	if (r->crypt && crypt_rights(r->crypt) != CRYPT_RIGHTS_FULL)
		return 0;
	n = repo_walk_image(i->manifest, &ops, r, e);
	if (n == -ENOENT || n == -EBADMSG)
		return 0;
	return n < 0 ? n : 1;
}
