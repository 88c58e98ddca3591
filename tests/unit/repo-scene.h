/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo-scene - repositories with small images, several at the same store, for the tests of what keeps them. An image is a
 * list of seeds, one for each of its chunks. Setting up asserts; nothing leaks.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/base/hex.h"
#include "lib/image/codec.h"
#include "lib/image/tree.h"
#include "lib/image/verify.h"
#include "lib/repo/pack.h"
#include "lib/repo/repo.h"
#include "lib/repo/repo_image.h"
#include "lib/repo/repo_source.h"
#include "lib/repo/store.h"

#define SCENE_CHUNK  ((uint32_t)1 << AMBRO_CHUNK_SHIFT_MIN)
#define SCENE_CHUNKS 64
#define SCENE_HOUR   (UINT64_C(3600) * 1000000000)
#define SCENE_T0     (UINT64_C(1700000000) * 1000000000)

/* ---- a store in front of another that it does not own, with a hook before each change ---------------- */

struct scene_store {
	struct store store;
	struct store *below;
	void (*hook)(void *ctx, uint64_t change);
	void *ctx;
	uint64_t changes;
	uint64_t store_clock_ns; /* what it says the time is; 0: as below */
};

static inline struct store *scene_change(struct store *s)
{
	struct scene_store *x = (void *)s;
	const uint64_t n = x->changes++;

	if (x->hook)
		x->hook(x->ctx, n);
	return x->below;
}

static inline int scene_put(struct store *s, const char *name, const struct iovec *parts, size_t n,
			    struct err *e)
{
	return store_putv(scene_change(s), name, parts, n, e);
}

static inline int scene_get(struct store *s, const char *name, uint64_t offset, void *buf,
			    size_t len, struct err *e)
{
	return store_get(((struct scene_store *)s)->below, name, offset, buf, len, e);
}

static inline int scene_size(struct store *s, const char *name, uint64_t *ret, struct err *e)
{
	return store_size(((struct scene_store *)s)->below, name, ret, e);
}

static inline int scene_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx,
			     struct err *e)
{
	return store_list(((struct scene_store *)s)->below, prefix, fn, ctx, e);
}

static inline int scene_del(struct store *s, const char *name, struct err *e)
{
	return store_del(scene_change(s), name, e);
}

static inline int scene_time(struct store *s, const char *name, uint64_t *ret_ns, struct err *e)
{
	struct scene_store *x = (void *)s;

	if (!x->store_clock_ns)
		return store_time(x->below, name, ret_ns, e);
	*ret_ns = x->store_clock_ns;
	return 0;
}

static inline void scene_free(struct store *s)
{
	free(s);
}

static inline struct scene_store *scene_store_new(struct store *below)
{
	static const struct store_ops ops = { .put = scene_put,
					      .get = scene_get,
					      .size = scene_size,
					      .list = scene_list,
					      .del = scene_del,
					      .free = scene_free,
					      .time = scene_time };
	struct scene_store *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	x->store.ops = &ops;
	x->below = below;
	return x;
}

/* ---- repositories ------------------------------------------------------------------------------------ */

struct scene {
	struct store *memory; /* where it all is */
	struct crypt *crypt;  /* NULL: not encrypted */
};

static inline struct scene scene_new(bool encrypted)
{
	struct repo_format f = { .id = "repository-test",
				 .chunk_shift = AMBRO_CHUNK_SHIFT_MIN,
				 .encrypted = encrypted,
				 .created_ns = SCENE_T0 };
	struct scene s = { 0 };
	struct err e = { 0 };

	assert_int_equal(store_memory_new(&s.memory), 0);
	if (encrypted) {
		assert_int_equal(crypt_new(&s.crypt, &e), 0);
		crypt_repo_id(s.crypt, f.id);
	}
	assert_int_equal(repo_init(s.memory, &f, &e), 0);
	return s;
}

static inline void scene_done(struct scene *s)
{
	store_free(s->memory);
	crypt_free(s->crypt);
	*s = (struct scene){ 0 };
}
#define _cleanup_scene_ _cleanup_(scene_done)

/* A repository on @store, which is taken over. */
static inline struct repo *scene_open_on(const struct scene *s, struct store *store)
{
	uint8_t secrets[CRYPT_SECRETS_SIZE];
	struct crypt *c = NULL;
	struct repo *r = NULL;
	struct err e = { 0 };

	assert_int_equal(repo_open(store, &r, &e), 0);
	if (s->crypt) {
		crypt_export(s->crypt, CRYPT_RIGHTS_FULL, secrets);
		assert_int_equal(crypt_import(secrets, &c, &e), 0);
		assert_int_equal(repo_unlock(r, c, &e), 0);
	}
	return r;
}

static inline struct repo *scene_open(const struct scene *s)
{
	return scene_open_on(s, &scene_store_new(s->memory)->store);
}

/* ---- captures ---------------------------------------------------------------------------------------- */

/* Bytes of a chunk that do not compress, so that packs have a size; a test that needs large ones says so before. */
#ifndef SCENE_NOISE
#define SCENE_NOISE 512
#endif

static inline void scene_plain(unsigned int seed, uint8_t plain[SCENE_CHUNK])
{
	for (uint32_t i = 0; i < SCENE_CHUNK; i += sizeof(seed))
		memcpy(plain + i, &seed, sizeof(seed));
	for (uint32_t i = 0, x = seed * 2654435761u + 1; i < SCENE_NOISE;
	     i++, x = x * 1664525u + 1013904223u)
		plain[i] = (uint8_t)(x >> 24);
}

struct scene_pack {
	struct repo *repo;
	struct pack *pack;
};

static inline int scene_pack_add(struct scene_pack *p, enum repo_kind kind,
				 const struct chunk_id *id, uint32_t plain_len, const void *frame,
				 size_t len)
{
	struct repo_place place;
	struct err e = { 0 };
	int r = repo_find(p->repo, id, kind, &place, &e);

	if (r != -ENOENT)
		return r;
	return pack_add(p->pack, kind, id, plain_len, frame, (uint32_t)len, &e);
}

static inline int scene_on_page(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	return scene_pack_add(ctx, REPO_KIND_PAGE, id, (uint32_t)len, page, len);
}

static inline int scene_fill(struct scene_pack *p, const unsigned int *seeds, size_t n,
			     struct chunk_id *ret_root)
{
	_cleanup_(codec_freep) struct codec *codec = NULL;
	_cleanup_(tree_freep) struct tree *t = NULL;
	_cleanup_free_ uint8_t *plain = malloc(SCENE_CHUNK),
			       *frame = malloc(codec_bound(SCENE_CHUNK));

	assert_non_null(plain);
	assert_non_null(frame);
	assert_int_equal(codec_new(1, &codec), 0);
	assert_int_equal(tree_new(n, &t), 0);
	for (size_t i = 0; i < n; i++) {
		struct chunk_id id;
		ssize_t len;
		int r;

		scene_plain(seeds[i], plain);
		chunk_id_of(plain, SCENE_CHUNK, &id);
		len = codec_compress(codec, plain, SCENE_CHUNK, frame, codec_bound(SCENE_CHUNK));
		assert_true(len > 0);
		r = scene_pack_add(p, REPO_KIND_CHUNK, &id, SCENE_CHUNK, frame, (size_t)len);
		if (r < 0)
			return r;
		assert_int_equal(tree_set(t, i, CHUNK_DATA, &id), 0);
	}
	return tree_emit(t, scene_on_page, p, ret_root);
}

static inline struct repo_image *scene_image(size_t n, const struct chunk_id *root,
					     uint64_t time_ns)
{
	struct repo_image *i = calloc(1, sizeof(*i));
	struct manifest *m;

	assert_non_null(i);
	i->host = strdup("host");
	i->disk = strdup("disk");
	i->time_ns = time_ns;
	assert_int_equal(manifest_new(1, &i->manifest), 0);
	m = i->manifest;
	m->chunk_size = SCENE_CHUNK;
	m->logical_sector = 512;
	m->created_ns = m->instant_ns = time_ns;
	memcpy(m->image_id, &time_ns, sizeof(time_ns));
	m->disk_size = n * (uint64_t)SCENE_CHUNK;
	m->regions[0].kind = REGION_WHOLE;
	m->regions[0].length = m->disk_size;
	m->regions[0].depth = tree_depth(n);
	m->regions[0].root = *root;
	return i;
}

/* A pack that only a killed writer would leave alone: put, no index file. */
static inline int scene_put_pack(struct scene_pack *p, bool index, struct err *e)
{
	_cleanup_(repo_index_builder_freep) struct repo_index_builder *b = NULL;
	struct repo *repo = p->repo;
	uint8_t hash[REPO_NAME_HASH];
	int r;

	if (!pack_entries(p->pack))
		return 0;
	assert_int_equal(pack_seal(p->pack, hash, e), 0);
	r = pack_put(p->pack, e);
	if (r < 0 || !index)
		return r;
	assert_int_equal(repo_index_builder_new(repo->format.id, repo->crypt, &b, e), 0);
	assert_int_equal(repo_index_builder_pack(b, hash, (uint32_t)pack_bytes(p->pack),
						 pack_entry(p->pack, 0), pack_entries(p->pack), e),
			 0);
	return repo_index_builder_put(b, repo->store, hash, e);
}

/*
 * A capture of a disk with these chunks, by a writer whose index was loaded before. @ret_hash (may be NULL): the image.
 */
static inline int scene_capture(struct repo *r, const unsigned int *seeds, size_t n,
				uint64_t time_ns, uint8_t *ret_hash)
{
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(pack_freep) struct pack *pack = NULL;
	struct scene_pack p = { .repo = r };
	struct chunk_id root;
	struct err e = { 0 };
	int k;

	assert_int_equal(pack_new(r->store, r->format.id, r->crypt, &pack, &e), 0);
	p.pack = pack;
	k = scene_fill(&p, seeds, n, &root);
	if (k >= 0)
		k = scene_put_pack(&p, true, &e);
	if (k < 0)
		return k;
	image = scene_image(n, &root, time_ns);
	k = repo_image_put(r, image, &e);
	if (k >= 0 && ret_hash)
		memcpy(ret_hash, image->hash, REPO_NAME_HASH);
	return k;
}

/* ---- looking ------------------------------------------------------------------------------------------ */

static inline int scene_count_one(void *ctx, const char *name, uint64_t size)
{
	++*(size_t *)ctx;
	return 0;
}

/* Objects below @folder. */
static inline size_t scene_count(const struct scene *s, const char *folder)
{
	size_t n = 0;

	assert_int_equal(store_list(s->memory, folder, scene_count_one, &n, NULL), 0);
	return n;
}

/* Read every chunk of every image, forgotten ones too; returns how many images there are. */
static inline size_t scene_verify(const struct scene *s)
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	_cleanup_(repo_images_done) struct repo_images l = { 0 };
	struct err e = { 0 };

	if (repo_load_index(r, &e) < 0 || repo_images_load(r, true, &l, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(l.damaged, 0);
	for (size_t i = 0; i < l.count; i++) {
		_cleanup_(image_reader_freep) struct image_reader *reader = NULL;
		struct verify_result v = { 0 };

		if (repo_source_open(r, l.items[i], &reader, &e) < 0 ||
		    image_verify(reader, 1, NULL, NULL, NULL, &v, &e) < 0)
			fail_msg("image %zu: %s", i, e.text);
		assert_int_equal(v.data_chunks, v.chunks);
	}
	return l.count;
}
