/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The steps and invariants are in last_image.h. An image/ is JSON: { "format": 1, "repository": hex, "hash": hex (of the
 * object in the repository), "pages": bool, "image": as repo_image.h }.
 */
#include "lib/repo/last_image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "lib/base/array.h"
#include "lib/base/hex.h"
#include "lib/image/codec.h"
#include "lib/image/digest.h"
#include "lib/image/manifest_fields.h"
#include "lib/repo/gc_object.h"
#include "lib/repo/repo_walk.h"

#define LAST_FORMAT   1
#define IMAGE_PREFIX  "image/"
#define PAGE_PREFIX   "pages/"
#define NUMBER_DIGITS ((size_t)16)
#define HASH_DIGITS   ((size_t)2 * DIGEST_SIZE)
/* An image's own limit, and room for what is around it. */
#define LAST_BYTES_MAX ((size_t)MANIFEST_TEXT_MAX + (2u << 20))

#define LAST_NAME_SIZE (sizeof(IMAGE_PREFIX) + NUMBER_DIGITS + 1 + HASH_DIGITS)
#define PAGE_NAME_SIZE (sizeof(PAGE_PREFIX) + (size_t)2 * AMBRO_ID_SIZE)

static char *page_name(const struct chunk_id *id, char ret[PAGE_NAME_SIZE])
{
	char hex[2 * AMBRO_ID_SIZE + 1];

	snprintf(ret, PAGE_NAME_SIZE, PAGE_PREFIX "%s", hex_encode(id->b, sizeof(id->b), hex));
	return ret;
}

static char *last_name(uint64_t number, const uint8_t hash[DIGEST_SIZE], char ret[LAST_NAME_SIZE])
{
	char hex[HASH_DIGITS + 1];

	snprintf(ret, LAST_NAME_SIZE, IMAGE_PREFIX "%016" PRIx64 "-%s", number,
		 hex_encode(hash, DIGEST_SIZE, hex));
	return ret;
}

static int last_name_parse(const char *name, uint64_t *ret_number, uint8_t ret_hash[DIGEST_SIZE])
{
	const char *digits = name + strlen(IMAGE_PREFIX);
	char number[NUMBER_DIGITS + 1] = "";
	uint8_t bytes[NUMBER_DIGITS / 2];

	if (strlen(digits) != NUMBER_DIGITS + 1 + HASH_DIGITS || digits[NUMBER_DIGITS] != '-')
		return -EINVAL;
	memcpy(number, digits, NUMBER_DIGITS);
	if (hex_decode(number, bytes, sizeof(bytes)) < 0 ||
	    hex_decode(digits + NUMBER_DIGITS + 1, ret_hash, DIGEST_SIZE) < 0)
		return -EINVAL;
	*ret_number = strtoull(number, NULL, 16);
	return 0;
}

/* ---- a set of pages ------------------------------------------------------------------------------ */

struct page_set {
	struct last_image *last;
	struct chunk_id *ids;
	size_t count, allocated;
};

static void page_set_done(struct page_set *s)
{
	free(s->ids);
}

static int page_set_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct chunk_id));
}

static int page_set_add(struct page_set *s, const struct chunk_id *id)
{
	if (ARRAY_ROOM(s->ids, s->count, s->allocated, 64) < 0)
		return -ENOMEM;
	s->ids[s->count++] = *id;
	return 0;
}

static int page_read(void *ctx, const struct chunk_id *id, void **ret, size_t *ret_len,
		     struct err *e)
{
	const struct last_image *l = ctx;
	char name[PAGE_NAME_SIZE];
	int r = store_get_all(l->store, page_name(id, name), AMBRO_PAGE_MAX, ret, ret_len, e);

	return r == -EFBIG ? err_set(e, -EBADMSG, "%s is larger than a page can be", name) : r;
}

static int walk_page(void *ctx, const struct chunk_id *id, const struct repo_walk_place *at,
		     void **ret_body, size_t *ret_len, struct err *e)
{
	struct page_set *s = ctx;
	int r = page_read(s->last, id, ret_body, ret_len, e);

	(void)at;
	if (r >= 0 && page_set_add(s, id) < 0) {
		free(TAKE_PTR(*ret_body));
		return err_oom(e);
	}
	return r < 0 ? r : 1;
}

static int walk_chunk(void *ctx, const struct chunk_id *id, uint32_t region, uint64_t index,
		      struct err *e)
{
	(void)ctx, (void)id, (void)region, (void)index, (void)e;
	return 0;
}

/* All pages of @m, sorted, each of them whole. */
static int page_set_of(struct last_image *l, const struct manifest *m, struct page_set *ret,
		       struct err *e)
{
	static const struct repo_walk_ops ops = { .page = walk_page, .chunk = walk_chunk };
	int r;

	ret->last = l;
	r = repo_walk_image(m, &ops, ret, e);
	if (r >= 0 && ret->count)
		qsort(ret->ids, ret->count, sizeof(*ret->ids), page_set_compare);
	return r;
}

/* ---- loading -------------------------------------------------------------------------------------- */

struct newest {
	bool found;
	uint64_t number;
	char name[LAST_NAME_SIZE];
	uint8_t hash[DIGEST_SIZE];
};

static int newest_add(void *ctx, const char *name, uint64_t size)
{
	struct newest *n = ctx;
	uint8_t hash[DIGEST_SIZE];
	uint64_t number;

	(void)size;
	if (last_name_parse(name, &number, hash) < 0 || (n->found && number <= n->number))
		return 0;
	n->found = true;
	n->number = number;
	memcpy(n->hash, hash, sizeof(hash));
	snprintf(n->name, sizeof(n->name), "%s", name);
	return 0;
}

/* Is the image of this disk, as it would be captured now? -EBADMSG. */
static int last_check(const struct last_image *l, const struct repo_format *f, const char *host,
		      const char *disk, struct err *e)
{
	const struct repo_image *i = l->image;

	if (strcmp(i->host, host) != 0 || strcmp(i->disk, disk) != 0)
		return err_set(e, -EBADMSG, "it is of %s/%s", i->host, i->disk);
	if (i->manifest->chunk_size != UINT64_C(1) << f->chunk_shift)
		return err_set(e, -EBADMSG, "its chunks have another size");
	return 0;
}

static int last_parse(struct last_image *l, const char *text, size_t len, struct err *e)
{
	_cleanup_(json_decrefp) json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	_cleanup_free_ char *image = NULL;
	uint8_t id[REPO_ID_SIZE], hash[REPO_NAME_HASH];
	const char *id_text, *hash_text;
	int format, pages, r;
	json_t *body;

	if (!o || json_unpack(o, "{s:i}", "format", &format) < 0 || format < 1)
		return err_set(e, -EBADMSG, "it is damaged");
	if (format > LAST_FORMAT)
		return err_set(e, -ENOTSUP, "it has format %d: a newer tool wrote it", format);
	if (json_unpack(o, "{s:s, s:s, s:b, s:o}", "repository", &id_text, "hash", &hash_text,
			"pages", &pages, "image", &body) < 0 ||
	    hex_decode(id_text, id, sizeof(id)) < 0 ||
	    hex_decode(hash_text, hash, sizeof(hash)) < 0)
		return err_set(e, -EBADMSG, "it is damaged");
	if (memcmp(id, l->repo_id, sizeof(id)) != 0)
		return err_set(e, -EBADMSG, "it is of another repository");
	image = json_dumps(body, JSON_COMPACT);
	if (!image)
		return err_oom(e);
	r = repo_image_from_json(image, strlen(image), &l->image, e);
	if (r < 0)
		return r;
	memcpy(l->image->hash, hash, sizeof(hash));
	l->has_pages = pages;
	return 0;
}

static int last_load(struct last_image *l, const struct repo_format *f, const char *host,
		     const char *disk, struct err *e)
{
	_cleanup_free_ void *text = NULL;
	uint8_t found[DIGEST_SIZE];
	struct newest newest = { 0 };
	size_t len;
	int r;

	r = store_list(l->store, IMAGE_PREFIX, newest_add, &newest, e);
	if (r < 0 || !newest.found)
		return r;
	l->number = newest.number;
	r = store_get_all(l->store, newest.name, LAST_BYTES_MAX, &text, &len, e);
	if (r < 0)
		return r;
	digest_of(&(struct iovec){ text, len }, 1, found);
	if (memcmp(found, newest.hash, sizeof(found)) != 0)
		return err_set(e, -EBADMSG, "it is damaged: its bytes do not have its name");
	r = last_parse(l, text, len, e);
	if (r >= 0 && l->image)
		r = last_check(l, f, host, disk, e);
	if (r < 0)
		repo_image_free(TAKE_PTR(l->image));
	return r;
}

int last_image_open(struct store *s, const struct repo_format *f, const char *host,
		    const char *disk, struct last_image **ret, struct err *note)
{
	_cleanup_(last_image_freep) struct last_image *l = calloc(1, sizeof(*l));
	_cleanup_(page_set_done) struct page_set pages = { 0 };
	int r;

	*note = (struct err){ 0 };
	if (!l) {
		store_free(s);
		return err_oom(note);
	}
	l->store = s;
	l->pages = (struct page_source){ .read = page_read, .ctx = l };
	memcpy(l->repo_id, f->id, sizeof(l->repo_id));
	r = last_load(l, f, host, disk, note);
	if (r >= 0 && l->has_pages)
		r = page_set_of(l, l->image->manifest, &pages, note);
	if (r < 0)
		l->has_pages = false;
	if (r == -ENOMEM)
		return r;
	*ret = TAKE_PTR(l);
	return 0;
}

void last_image_free(struct last_image *l)
{
	if (!l)
		return;
	repo_image_free(l->image);
	store_free(l->store);
	free(l);
}

/* Its bytes are those that were put: that they cannot be read says nothing of the store. */
static int find_parse(struct repo *r, const struct repo_image *known, const struct iovec *bytes,
		      struct repo_image **ret, struct err *e)
{
	struct err why = { 0 };

	return repo_image_parse(r, known->hash, bytes, ret, &why) == -ENOMEM ? err_oom(e) : 0;
}

int last_image_find(const struct last_image *l, struct repo *r, enum last_image_fate *ret,
		    struct repo_image **ret_image, struct err *e)
{
	char name[GC_OBJECT_NAME_SIZE];
	struct iovec bytes = { 0 };
	struct err why = { 0 };
	uint64_t size;
	int n;

	*ret_image = NULL;
	*ret = LAST_IMAGE_FORGOTTEN;
	/* the tombstone first: prune takes it away behind the image, so who then sees the image was not forgotten before */
	n = store_size(r->store, gc_object_name(GC_FORGET, l->image->hash, name), &size, &why);
	if (n >= 0)
		return 0;
	if (n == -ENOENT)
		n = repo_image_stored(r, l->image->hash, &bytes, &why);
	*ret = n == -ENOENT ? LAST_IMAGE_GONE : n < 0 ? LAST_IMAGE_DAMAGED : LAST_IMAGE_THERE;
	if (n >= 0) {
		n = find_parse(r, l->image, &bytes, ret_image, e);
		free(bytes.iov_base);
		return n;
	}
	if (n == -ENOENT || n == -EBADMSG)
		return 0;
	if (e)
		*e = why;
	return n;
}

/* ---- keeping -------------------------------------------------------------------------------------- */

/* There is something of that name: is it the page? If not, it rotted. */
static int page_replace(struct last_image *l, const char *name, const void *page, size_t len,
			const struct chunk_id *id)
{
	_cleanup_free_ void *found = NULL;
	size_t found_len;
	int r = page_read(l, id, &found, &found_len, &l->failed);

	if (r >= 0 && found_len == len && !memcmp(found, page, len))
		return 0;
	r = store_del(l->store, name, &l->failed);
	return r < 0 ? r : store_put(l->store, name, page, len, &l->failed);
}

void last_image_on_page(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	char name[PAGE_NAME_SIZE];
	struct last_image *l = ctx;
	int r;

	if (l->failed.code)
		return;
	r = store_put(l->store, page_name(id, name), page, len, &l->failed);
	if (r == -EEXIST)
		r = page_replace(l, name, page, len, id);
	if (r >= 0) {
		l->failed = (struct err){ 0 };
	} else {
		l->failed.code = r;
	}
}

static int keep_image(struct last_image *l, const struct repo_image *i, bool pages,
		      char ret_name[LAST_NAME_SIZE], struct err *e)
{
	char id[2 * REPO_ID_SIZE + 1], hash[2 * REPO_NAME_HASH + 1];
	_cleanup_(json_decrefp) json_t *o = NULL;
	_cleanup_free_ char *image = NULL, *text = NULL;
	uint8_t digest[DIGEST_SIZE];
	size_t len;
	int r;

	r = repo_image_to_json(i, &image, &len, e);
	if (r < 0)
		return r;
	o = json_pack("{s:i, s:s, s:s, s:b, s:o}", "format", LAST_FORMAT, "repository",
		      hex_encode(l->repo_id, sizeof(l->repo_id), id), "hash",
		      hex_encode(i->hash, sizeof(i->hash), hash), "pages", (int)pages, "image",
		      json_loadb(image, len, 0, NULL));
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	if (!text)
		return err_oom(e);
	len = strlen(text);
	digest_of(&(struct iovec){ text, len }, 1, digest);
	last_name(++l->number, digest, ret_name);
	r = store_put(l->store, ret_name, text, len, e);
	return r == -EEXIST ? 0 : r;
}

struct sweep {
	struct last_image *last;
	const char *image;	      /* to be left */
	const struct page_set *pages; /* likewise */
	struct err *e;
};

static int sweep_image(void *ctx, const char *name, uint64_t size)
{
	const struct sweep *s = ctx;

	(void)size;
	return strcmp(name, s->image) ? store_del(s->last->store, name, s->e) : 0;
}

static int sweep_page(void *ctx, const char *name, uint64_t size)
{
	const struct sweep *s = ctx;
	struct chunk_id id;

	(void)size;
	if (hex_decode(name + strlen(PAGE_PREFIX), id.b, sizeof(id.b)) == 0 && s->pages->count &&
	    bsearch(&id, s->pages->ids, s->pages->count, sizeof(id), page_set_compare))
		return 0;
	return store_del(s->last->store, name, s->e);
}

int last_image_keep(struct last_image *l, const struct repo_image *i, bool pages, struct err *e)
{
	_cleanup_(page_set_done) struct page_set needed = { 0 };
	struct sweep s = { .last = l, .pages = &needed, .e = e };
	char name[LAST_NAME_SIZE];
	struct err failed = { 0 };
	int r;

	if (pages) {
		failed = l->failed;
		if (!failed.code)
			failed.code = page_set_of(l, i->manifest, &needed, &failed);
		if (failed.code)
			needed.count = 0;
	}
	r = keep_image(l, i, pages && !failed.code, name, e);
	s.image = name;
	if (r >= 0)
		r = store_list(l->store, IMAGE_PREFIX, sweep_image, &s, e);
	if (r >= 0)
		r = store_list(l->store, PAGE_PREFIX, sweep_page, &s, e);
	store_dir_clean(l->store, 0, NULL);
	if (r >= 0 && failed.code) {
		*e = failed;
		r = failed.code;
	}
	return r;
}
