/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo-scale-store - of repo-scale: what chunks and packs are called, and the store in front of the directory, which lists packs
 * that are not there, remembers which of them were deleted, and counts.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lib/base/hex.h"
#include "lib/image/format.h"
#include "lib/repo/pack.h"
#include "lib/repo/store.h"
#include "tests/bench/repo-bench.h"

#define SHIFT	 20
#define CHUNKS	 (UINT64_C(1) << (40 - SHIFT))	      /* of an image */
#define PER_PACK UINT64_C(160)			      /* chunks: 0.4 MiB each, 64 MiB together */
#define PACKS	 ((CHUNKS + PER_PACK - 1) / PER_PACK) /* of an image */
#define FRAME	 (400u << 10)
#define T0_NS	 (UINT64_C(1700000000) * 1000000000)

/* ---- names, as if they were hashes: by a formula --------------------------------------------------- */

struct scale {
	struct store store; /* in front of */
	struct store *below;
	uint64_t tib, chunks, packs;
	uint8_t *deleted; /* of each pack that is only named: a file, as that is to be remembered */
	/* what was done through it; packs are put by a thread of their own */
	_Atomic uint64_t puts, put_bytes, packs_deleted, index_deleted, others_deleted;
};

/* A prime: nothing in common with the number of chunks. */
#define STRIDE UINT64_C(2654435761)

/* The chunk's place among all names, in order. */
static inline uint64_t chunk_rank(const struct scale *s, uint64_t chunk)
{
	return (uint64_t)((unsigned __int128)chunk * STRIDE % s->chunks);
}

static inline void chunk_name(const struct scale *s, uint64_t chunk, struct chunk_id *ret)
{
	const unsigned __int128 rank = chunk_rank(s, chunk);
	const uint64_t width = (uint64_t)((((unsigned __int128)1) << 64) / s->chunks);
	uint64_t first = (uint64_t)((rank << 64) / s->chunks) +
			 bench_mix(chunk) % MAX(width / 2, UINT64_C(1));
	uint64_t rest = bench_mix(chunk);

	for (int i = 7; i >= 0; i--, first >>= 8)
		ret->b[i] = (uint8_t)first;
	for (int i = 8; i < AMBRO_ID_SIZE; i += 8, rest = bench_mix(rest))
		memcpy(ret->b + i, &rest, 8);
}

static inline uint64_t chunk_pack(uint64_t chunk)
{
	return chunk / CHUNKS * PACKS + chunk % CHUNKS / PER_PACK;
}

/* Its number is at the end. */
static inline void pack_hash(uint64_t pack, uint8_t ret[REPO_NAME_HASH])
{
	uint64_t x = bench_mix(pack ^ UINT64_C(0x7061636b) << 32);

	for (int i = 0; i < REPO_NAME_HASH; i += 8, x = bench_mix(x))
		memcpy(ret + i, &x, 8);
	memcpy(ret + REPO_NAME_HASH - 8, &pack, 8);
}

/* Is it a pack that is only named? */
static inline bool pack_number(const struct scale *s, const char *name, uint64_t *ret)
{
	uint8_t hash[REPO_NAME_HASH], same[REPO_NAME_HASH];

	if (strncmp(name, "packs/", 6) != 0 ||
	    hex_decode(strrchr(name, '/') + 1, hash, REPO_NAME_HASH) < 0)
		return false;
	memcpy(ret, hash + REPO_NAME_HASH - 8, 8);
	pack_hash(*ret, same);
	return *ret < s->packs && !memcmp(hash, same, sizeof(hash));
}

/* ---- the store ------------------------------------------------------------------------------------ */

static inline struct store *below(struct store *s)
{
	return ((struct scale *)s)->below;
}
static inline int scale_put(struct store *s, const char *name, const struct iovec *parts, size_t n,
			    struct err *e)
{
	struct scale *x = (struct scale *)s;

	x->puts++;
	for (size_t i = 0; i < n; i++)
		x->put_bytes += parts[i].iov_len;
	return store_putv(x->below, name, parts, n, e);
}
static inline int scale_get(struct store *s, const char *name, uint64_t offset, void *buf,
			    size_t len, struct err *e)
{
	return store_get(below(s), name, offset, buf, len, e);
}
static inline int scale_size(struct store *s, const char *name, uint64_t *ret, struct err *e)
{
	return store_size(below(s), name, ret, e);
}
static inline int scale_del(struct store *s, const char *name, struct err *e)
{
	struct scale *x = (struct scale *)s;
	uint64_t pack;

	if (!strncmp(name, "packs/", 6)) {
		x->packs_deleted++;
	} else if (!strncmp(name, "index/", 6)) {
		x->index_deleted++;
	} else {
		x->others_deleted++;
	}
	if (!pack_number(x, name, &pack))
		return store_del(x->below, name, e);
	x->deleted[pack] = 1;
	return 0;
}
static inline int scale_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx,
			     struct err *e)
{
	const struct scale *x = (struct scale *)s;
	char name[PACK_NAME_SIZE];
	uint8_t hash[REPO_NAME_HASH];
	int r = store_list(x->below, prefix, fn, ctx, e);

	for (uint64_t i = 0; r >= 0 && !strcmp(prefix, "packs/") && i < x->packs; i++) {
		pack_hash(i, hash);
		if (!x->deleted[i])
			r = fn(ctx, pack_name(hash, name), REPO_PACK_SIZE);
	}
	return r;
}
static inline void scale_free(struct store *s)
{
	store_free(below(s));
}
static inline int scale_time(struct store *s, const char *name, uint64_t *ret_ns, struct err *e)
{
	return store_time(below(s), name, ret_ns, e);
}

/* A draft of the directory's, which counts as a put. */
struct scale_draft {
	struct store_draft base;
	struct scale *scale;
	struct store_draft *below;
};
static inline struct scale_draft *scale_draft_of(struct store_draft *d)
{
	return (struct scale_draft *)d;
}
static inline int scale_draft_add(struct store_draft *d, const struct iovec *parts, size_t n,
				  struct err *e)
{
	for (size_t i = 0; i < n; i++)
		scale_draft_of(d)->scale->put_bytes += parts[i].iov_len;
	return store_draft_add(scale_draft_of(d)->below, parts, n, e);
}
static inline int scale_draft_put(struct store_draft *d, const char *name, struct err *e)
{
	scale_draft_of(d)->scale->puts++;
	return store_draft_put(scale_draft_of(d)->below, name, e);
}
static inline void scale_draft_free(struct store_draft *d)
{
	store_draft_free(scale_draft_of(d)->below);
	free(d);
}
static const struct store_draft_ops scale_draft_ops = { .add = scale_draft_add,
							.put = scale_draft_put,
							.free = scale_draft_free };
static inline int scale_draft(struct store *s, const char *folder, struct store_draft **ret,
			      struct err *e)
{
	struct scale_draft *d = calloc(1, sizeof(*d));

	bench_ok("memory", d ? 0 : -ENOMEM, NULL);
	*d = (struct scale_draft){ .base.ops = &scale_draft_ops, .scale = (struct scale *)s };
	*ret = &d->base;
	return store_draft_new(below(s), folder, &d->below, e);
}

static const struct store_ops scale_ops = { .put = scale_put,
					    .get = scale_get,
					    .size = scale_size,
					    .list = scale_list,
					    .del = scale_del,
					    .free = scale_free,
					    .time = scale_time,
					    .draft = scale_draft };
