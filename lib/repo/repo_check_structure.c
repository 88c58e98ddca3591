/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The structure of repo_check.h, and the order of it all. */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/hex.h"
#include "lib/image/digest.h"
#include "lib/repo/gc_object.h"
#include "lib/repo/keys.h"
#include "lib/repo/pack.h"
#include "lib/repo/repo_check.h"
#include "lib/repo/repo_check_private.h"

/* An index file or image is read in one go to be hashed; larger ones in pieces of this. */
#define HASH_PIECE ((size_t)4 << 20)

/* ---- reporting ----------------------------------------------------------------------------------- */

void check_report(struct check *c, const struct repo_damage *d)
{
	pthread_mutex_lock(&c->lock);
	c->result->damages++;
	if (c->settings->report)
		c->settings->report(c->settings->ctx, d);
	pthread_mutex_unlock(&c->lock);
}

void check_report_object(struct check *c, const char *object, const char *format, ...)
{
	char what[ERR_TEXT_MAX];
	struct repo_damage d = { .object = object, .what = what };
	va_list ap;

	va_start(ap, format);
	vsnprintf(what, sizeof(what), format, ap);
	va_end(ap);
	check_report(c, &d);
}

bool check_is_bad(const struct check *c, uint64_t ordinal)
{
	return c->bad[ordinal / 64] >> (ordinal % 64) & 1;
}

void check_set_bad(struct check *c, uint64_t ordinal)
{
	c->bad[ordinal / 64] |= UINT64_C(1) << (ordinal % 64);
}

bool check_can_open(const struct check *c)
{
	const struct repo *r = c->repo;

	return !r->format.encrypted || (r->crypt && crypt_rights(r->crypt) == CRYPT_RIGHTS_FULL);
}

/* ---- names --------------------------------------------------------------------------------------- */

struct names {
	char **items;
	size_t n, allocated;
	struct check *check;
};

static void names_done(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->items[i]);
	free(l->items);
}

static int names_add(struct names *l, const char *name)
{
	if (ARRAY_ROOM(l->items, l->n, l->allocated, 64) < 0)
		return -ENOMEM;
	l->items[l->n] = strdup(name);
	return l->items[l->n++] ? 0 : -ENOMEM;
}

static bool name_has_hash(const char *name, const char *folder, uint8_t ret[REPO_NAME_HASH])
{
	return strncmp(name, folder, strlen(folder)) == 0 &&
	       hex_decode(name + strlen(folder), ret, REPO_NAME_HASH) == 0;
}

static int on_hashed(void *ctx, const char *name, uint64_t size)
{
	struct names *l = ctx;

	(void)size;
	l->check->result->objects++;
	return names_add(l, name);
}

static int pack_add_to(struct check *c, const uint8_t hash[REPO_NAME_HASH], uint64_t size,
		       bool stored)
{
	struct check_pack *p;

	/* grows by doubling: the count is a power of two when it is full */
	if (!(c->n_packs & (c->n_packs - 1))) {
		struct check_pack *more =
			reallocarray(c->packs, MAX(c->n_packs * 2, (size_t)1), sizeof(*more));

		if (!more)
			return -ENOMEM;
		c->packs = more;
	}
	p = &c->packs[c->n_packs++];
	memset(p, 0, sizeof(*p));
	memcpy(p->hash, hash, sizeof(p->hash));
	p->size = size;
	p->stored = stored;
	return 0;
}

static int on_pack(void *ctx, const char *name, uint64_t size)
{
	struct check *c = ctx;
	const char *slash = strrchr(name, '/');
	uint8_t hash[REPO_NAME_HASH];
	char want[PACK_NAME_SIZE];

	c->result->objects++;
	if (hex_decode(slash + 1, hash, sizeof(hash)) < 0 ||
	    strcmp(pack_name(hash, want), name) != 0) {
		check_report_object(c, name, "has a name that no pack has");
		return 0;
	}
	c->result->packs++;
	return pack_add_to(c, hash, size, true);
}

static int pack_compare(const void *a, const void *b)
{
	return memcmp(((const struct check_pack *)a)->hash, ((const struct check_pack *)b)->hash,
		      REPO_NAME_HASH);
}

struct check_pack *check_pack_find(const struct check *c, const uint8_t hash[REPO_NAME_HASH])
{
	struct check_pack key;

	memcpy(key.hash, hash, sizeof(key.hash));
	return c->n_packs ? bsearch(&key, c->packs, c->n_packs, sizeof(key), pack_compare) : NULL;
}

static void packs_sort(struct check *c)
{
	if (c->n_packs)
		qsort(c->packs, c->n_packs, sizeof(*c->packs), pack_compare);
}

/* ---- objects that are read whole ----------------------------------------------------------------- */

/* Does the object have the SHA-256 that its name says? 0, -EBADMSG, -ENOENT (deleted meanwhile), or an error. */
static int object_hash(struct check *c, const char *name, const uint8_t hash[REPO_NAME_HASH],
		       struct err *e)
{
	_cleanup_(digest_freep) struct digest *d = digest_new();
	_cleanup_free_ uint8_t *buf = malloc(HASH_PIECE);
	uint8_t is[DIGEST_SIZE];
	uint64_t size;
	int r;

	if (!d || !buf)
		return err_oom(e);
	r = store_size(c->repo->store, name, &size, e);
	for (uint64_t at = 0; r >= 0 && at < size; at += HASH_PIECE) {
		const size_t len = MIN(HASH_PIECE, size - at);

		r = store_get(c->repo->store, name, at, buf, len, e);
		if (r >= 0)
			digest_add(d, buf, len);
	}
	if (r < 0)
		return r;
	digest_end(d, is);
	return memcmp(is, hash, sizeof(is)) == 0
		       ? 0
		       : err_set(e, -EBADMSG, "is damaged: its bytes do not have its name");
}

static int bad_image_add(struct check *c, const uint8_t hash[REPO_NAME_HASH])
{
	if (ARRAY_ROOM(c->bad_images, c->n_bad_images, c->bad_images_allocated, 8) < 0)
		return -ENOMEM;
	memcpy(c->bad_images[c->n_bad_images++], hash, REPO_NAME_HASH);
	return 0;
}

static int check_hashed(struct check *c, const char *folder, uint64_t *ret_n, struct err *e)
{
	_cleanup_(names_done) struct names l = { .check = c };
	int r = store_list(c->repo->store, folder, on_hashed, &l, e);

	for (size_t i = 0; r >= 0 && i < l.n; i++) {
		uint8_t hash[REPO_NAME_HASH];
		struct err why = { 0 };

		if (!name_has_hash(l.items[i], folder, hash)) {
			check_report_object(c, l.items[i], "has a name that no such object has");
			continue;
		}
		if (cancel_raised(c->settings->cancel))
			return err_set(e, -ECANCELED, "interrupted");
		r = object_hash(c, l.items[i], hash, &why);
		*ret_n += r != -ENOENT;
		if (r == -EBADMSG || r == -EIO || r == -ENODATA) {
			check_report_object(c, l.items[i], "%s", why.text);
			r = ret_n == &c->result->images ? bad_image_add(c, hash) : 0;
		} else if (r < 0 && r != -ENOENT) {
			if (e)
				*e = why;
			return r;
		} else {
			r = 0;
		}
	}
	return r == -ENOMEM ? err_oom(e) : r;
}

static int check_note(struct check *c, const char *name, struct err *e)
{
	_cleanup_free_ void *bytes = NULL;
	struct repo *repo = c->repo;
	struct err why = { 0 };
	struct gc_object o;
	size_t len;
	int r;

	if (gc_object_parse_name(name, &o) < 0) {
		check_report_object(c, name, "has a name that no such object has");
		return 0;
	}
	if (repo->format.encrypted &&
	    (!repo->crypt || crypt_rights(repo->crypt) != CRYPT_RIGHTS_FULL)) {
		r = store_get_all(repo->store, name, HASH_PIECE, &bytes, &len, &why);
		if (r >= 0)
			r = gc_object_check(bytes, len, &why);
	} else {
		r = gc_object_get(repo->store, repo->format.id, repo->crypt, &o, &why);
	}
	if (r == -EBADMSG || r == -EFBIG || r == -EIO || r == -ENODATA || r == -ENOTSUP) {
		check_report_object(c, name, "%s", why.text);
		return 0;
	}
	if (r < 0 && r != -ENOENT && e)
		*e = why;
	return r == -ENOENT ? 0 : r;
}

static int check_notes(struct check *c, struct err *e)
{
	_cleanup_(names_done) struct names l = { .check = c };
	int r = store_list(c->repo->store, "gc/", on_hashed, &l, e);

	for (size_t i = 0; r >= 0 && i < l.n; i++)
		r = check_note(c, l.items[i], e);
	return r == -ENOMEM ? err_oom(e) : r;
}

static int check_keys(struct check *c, struct err *e)
{
	char name[sizeof("keys/") + KEYS_ID_MAX];
	struct keys keys = { 0 };
	int r = 0;

	if (c->repo->format.encrypted)
		r = keys_load(c->repo->store, &c->repo->format, &keys, e);
	for (size_t i = 0; r >= 0 && i < keys.damaged; i++) {
		snprintf(name, sizeof(name), "keys/%s", keys.bad[i].id);
		check_report_object(c, name, "%s%s", keys.bad[i].why.text,
				    keys.bad[i].may_be_good
					    ? ""
					    : "; 'ambroctl key remove --force' removes it");
	}
	keys_done(&keys);
	return r;
}

/* ---- the index ----------------------------------------------------------------------------------- */

static int check_load_index(struct check *c, struct err *e)
{
	struct repo *r = c->repo;
	struct err why = { 0 };
	int n;

	if (r->format.encrypted && !r->crypt)
		return 0;
	n = repo_load_whole_index(r, &why);
	if (n == -EBADMSG || n == -EXDEV) {
		check_report_object(c, "index/", "cannot be used, see 'ambroctl repo repair': %s",
				    why.text);
		return 0;
	}
	if (n < 0) {
		if (e)
			*e = why;
		return n;
	}
	c->indexed = true;
	c->bad = calloc(repo_index_entries(r->index) / 64 + 1, sizeof(*c->bad));
	c->seen = calloc(repo_index_entries(r->index) / 64 + 1, sizeof(*c->seen));
	return c->bad && c->seen ? 0 : err_oom(e);
}

/* The packs that the index names beside those that are stored. */
static int check_join_packs(struct check *c, struct err *e)
{
	const size_t n = c->indexed ? repo_index_packs(c->repo->index) : 0;
	const size_t stored = c->n_packs;
	char name[PACK_NAME_SIZE];

	packs_sort(c);
	c->of_index = calloc(n + 1, sizeof(*c->of_index));
	if (!c->of_index)
		return err_oom(e);
	for (size_t i = 0; i < n; i++) {
		const struct repo_index_pack_info *info =
			repo_index_pack(c->repo->index, (uint32_t)i);
		const size_t all = c->n_packs;
		struct check_pack *p;

		c->n_packs = stored;
		p = check_pack_find(c, info->hash);
		c->n_packs = all;
		if (!p && pack_add_to(c, info->hash, info->size, false) < 0)
			return err_oom(e);
		if (p && p->size != info->size) {
			check_report_object(c, pack_name(info->hash, name),
					    "has %" PRIu64 " bytes, the index says %" PRIu32,
					    p->size, info->size);
		}
	}
	packs_sort(c);
	for (size_t i = 0; i < n; i++) {
		const struct repo_index_pack_info *info =
			repo_index_pack(c->repo->index, (uint32_t)i);

		c->of_index[i] = (uint32_t)(check_pack_find(c, info->hash) - c->packs);
	}
	return 0;
}

static int on_entry(void *ctx, uint64_t ordinal, uint32_t pack, const struct repo_entry *entry)
{
	struct check *c = ctx;
	struct check_pack *p = &c->packs[c->of_index[pack]];
	const uint64_t end = (uint64_t)le32_get(entry->offset) + le32_get(entry->frame_len);

	if (p->stored && end <= p->size)
		return 0;
	check_set_bad(c, ordinal);
	atomic_store(&p->damaged, true);
	return 0;
}

static int check_entries(struct check *c, struct err *e)
{
	char name[PACK_NAME_SIZE];
	int r;

	if (!c->indexed)
		return 0;
	r = repo_index_each(c->repo->index, on_entry, c, e);
	if (r == -EBADMSG) {
		check_report_object(c, "index/", "cannot be used, see 'ambroctl repo repair': %s",
				    e ? e->text : "it is damaged");
		c->indexed = false;
		return 0;
	}
	for (size_t i = 0; r >= 0 && i < c->n_packs; i++) {
		uint64_t size;

		if (!atomic_load(&c->packs[i].damaged))
			continue;
		pack_name(c->packs[i].hash, name);
		/* one that came after it was listed, or an index file that names it still though it was pruned */
		if (!c->packs[i].stored && store_size(c->repo->store, name, &size, NULL) == 0)
			continue;
		check_report_object(c, name,
				    c->packs[i].stored ? "is shorter than the index says"
						       : "is missing");
	}
	return r;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static void check_choose(struct check *c)
{
	const struct repo_check_settings *s = c->settings;

	for (size_t i = 0; s->parts && i < c->n_packs; i++) {
		struct check_pack *p = &c->packs[i];
		le32_t first;

		memcpy(&first, p->hash, sizeof(first));
		p->chosen = p->stored && le32_get(first) % s->parts == c->part;
	}
}

static int check_structure(struct check *c, struct err *e)
{
	uint64_t ignored = 0;
	int r;

	/* images first: what is committed later need not be known to the index that is loaded */
	r = check_hashed(c, "images/", &c->result->images, e);
	if (r >= 0)
		r = check_hashed(c, "index/", &ignored, e);
	if (r >= 0)
		r = check_notes(c, e);
	if (r >= 0)
		r = check_keys(c, e);
	if (r >= 0)
		r = check_load_index(c, e);
	if (r >= 0)
		r = store_list(c->repo->store, "packs/", on_pack, c, e);
	if (r >= 0)
		r = check_join_packs(c, e);
	return r < 0 ? r : check_entries(c, e);
}

static void check_done(struct check *c)
{
	free(c->packs);
	free(c->of_index);
	free(c->bad);
	free(c->seen);
	free(c->bad_images);
	close_fd(c->state);
	pthread_mutex_destroy(&c->lock);
}

int repo_check(struct repo *r, const struct repo_check_settings *s, struct repo_check_result *ret,
	       struct err *e)
{
	struct check c = { .repo = r, .settings = s, .result = ret, .state = -EBADF };
	int n;

	*ret = (struct repo_check_result){ 0 };
	pthread_mutex_init(&c.lock, NULL);
	n = check_state_open(&c, e);
	ret->part = c.part;
	if (n >= 0)
		n = check_structure(&c, e);
	if (n >= 0) {
		check_choose(&c);
		n = check_packs(&c, e);
	}
	if (n >= 0)
		n = check_images(&c, e);
	if (n >= 0) {
		n = check_state_end(&c, e);
		/* that is heard before a state that cannot be written */
		if (ret->damages) {
			n = err_set(e, -EBADMSG,
				    "damages: %" PRIu64 "; images that they hurt: %" PRIu64,
				    ret->damages, ret->images_hurt);
		}
	}
	check_done(&c);
	return n;
}
