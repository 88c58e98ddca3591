/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_rebuild.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "lib/base/hex.h"
#include "lib/repo/key_slot.h"
#include "lib/repo/pack.h"
#include "lib/repo/repo_image.h"

#define FORMAT_NAME "format"
#define FORMAT_MAX  (64u << 10)

/* What was found so far. */
struct rebuild {
	struct store *store;
	const struct cancel *cancel;
	struct repo_format format;
	bool found, slots_found; /* the id and whether it is encrypted; the rest of it */
	enum repo_purpose purpose;
	struct repo_rebuild_result *result;
	struct err *e;
};

/* It speaks of one object only, which says nothing then. */
static bool rebuild_is_damage(int r)
{
	return r == -EBADMSG || r == -EIO || r == -EUCLEAN || r == -ENODATA || r == -EFBIG;
}

static int rebuild_cancelled(const struct cancel *cancel, struct err *e)
{
	return cancel && cancel_raised(cancel) ? err_set(e, -ECANCELED, "interrupted") : 0;
}

/* ---- is it lost? --------------------------------------------------------------------------------- */

/* A damaged one may still say that it is a newer tool's. */
static int rebuild_is_newer(struct store *s, struct err *e)
{
	_cleanup_(json_decrefp) json_t *o = NULL;
	_cleanup_free_ void *text = NULL;
	json_t *require = NULL;
	int version = 1;
	size_t len;

	if (store_get_all(s, FORMAT_NAME, FORMAT_MAX, &text, &len, NULL) < 0)
		return 0;
	o = json_loadb(text, len, 0, NULL);
	json_unpack(o, "{s?i, s?o}", "format", &version, "require", &require);
	if (version <= 1 && !json_array_size(require))
		return 0;
	return err_set(e, -ENOTSUP,
		       "the object \"format\" is damaged, and what can be read of it says that a "
		       "newer tool is needed; if that is its damage, move it out of the repository "
		       "first");
}

/* 0: it is missing, or *ret_damaged. */
static int rebuild_is_lost(struct store *s, bool *ret_damaged, struct err *e)
{
	struct repo_format f;
	uint64_t size;
	int r = repo_format_get(s, &f, e);

	*ret_damaged = false;
	if (r == 0) {
		return err_set(e, -EEXIST,
			       "the object \"format\" is there, and whole: there is nothing to do");
	}
	if (!rebuild_is_damage(r))
		return r;
	r = store_size(s, FORMAT_NAME, &size, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	*ret_damaged = true;
	return rebuild_is_newer(s, e);
}

/* ---- packs, index files, images: their first record ------------------------------------------------ */

static int rebuild_differs(struct rebuild *b, const char *name, const char *how)
{
	return err_set(b->e, -EBADMSG,
		       "%s is %s: nobody can tell which of both is this repository, so take away "
		       "what does not belong to it",
		       name, how);
}

/* Its id is taken for right while it is looked at, and compared with that of the others then. */
static int rebuild_head(struct rebuild *b, const char *name,
			const uint8_t bytes[static PACK_HEAD_SIZE])
{
	const uint8_t *id = bytes + PACK_HEAD_SIZE - sizeof(struct repo_pack_head) +
			    offsetof(struct repo_pack_head, repo_id);
	struct repo_pack_head head;
	struct err why = { 0 };
	bool encrypted;
	int r;

	r = pack_head_check(bytes, PACK_HEAD_SIZE, b->purpose, id, &head, &why);
	if (r == -EBADMSG) {
		b->result->objects_damaged++;
		return 0;
	}
	if (r < 0)
		return err_set(b->e, r, "%s: %s", name, why.text);
	encrypted = le64_get(head.require_features) & REPO_REQUIRE_SEALED;
	if (!b->found) {
		memcpy(b->format.id, head.repo_id, sizeof(b->format.id));
		b->format.encrypted = encrypted;
		b->found = true;
	} else if (memcmp(b->format.id, head.repo_id, sizeof(b->format.id)) != 0) {
		return rebuild_differs(b, name, "of another repository than those before");
	} else if (b->format.encrypted != encrypted) {
		return rebuild_differs(b, name,
				       encrypted ? "encrypted, and those before are not"
						 : "not encrypted, and those before are");
	}
	b->result->objects++;
	return 0;
}

static bool rebuild_has_hash(const char *name, uint8_t ret[REPO_NAME_HASH])
{
	const char *slash = strrchr(name, '/');

	return slash && hex_decode(slash + 1, ret, REPO_NAME_HASH) == 0;
}

static int rebuild_on_object(void *ctx, const char *name, uint64_t size)
{
	uint8_t bytes[PACK_HEAD_SIZE], hash[REPO_NAME_HASH];
	struct rebuild *b = ctx;
	struct err why = { 0 };
	int r = rebuild_cancelled(b->cancel, b->e);

	if (r < 0 || !rebuild_has_hash(name, hash))
		return r;
	r = size < sizeof(bytes) ? -ENODATA
				 : store_get(b->store, name, 0, bytes, sizeof(bytes), &why);
	if (r == 0)
		return rebuild_head(b, name, bytes);
	if (r == -ENOENT)
		return 0;
	if (!rebuild_is_damage(r))
		return err_set(b->e, r, "%s", why.text);
	b->result->objects_damaged++;
	return 0;
}

static int rebuild_heads(struct rebuild *b)
{
	static const struct {
		const char *folder;
		enum repo_purpose purpose;
	} whats[] = {
		{ "images/", REPO_PURPOSE_IMAGE },
		{ "index/", REPO_PURPOSE_INDEX },
		{ "packs/", REPO_PURPOSE_PACK },
	};

	for (size_t i = 0; i < ARRAY_SIZE(whats); i++) {
		int r;

		b->purpose = whats[i].purpose;
		r = store_list(b->store, whats[i].folder, rebuild_on_object, b, b->e);
		if (r < 0)
			return r;
	}
	if (b->found)
		return 0;
	return err_set(
		b->e, -EBADMSG,
		"no pack, index file or image is left whose beginning is whole, so nobody can "
		"tell which repository this is");
}

/* ---- key slots ------------------------------------------------------------------------------------- */

static int rebuild_on_slot(void *ctx, const char *name, uint64_t size)
{
	const char *id = name + strlen("keys/");
	_cleanup_free_ void *text = NULL;
	struct rebuild *b = ctx;
	struct err why = { 0 };
	struct repo_format f = { 0 };
	size_t len;
	int r;

	(void)size;
	r = store_get_all(b->store, name, KEY_SLOT_JSON_MAX, &text, &len, &why);
	if (r == 0)
		r = key_slot_says_format(id, text, len, &f, &why);
	if (r == -ENOENT || r == -ENODATA || rebuild_is_damage(r))
		return 0;
	if (r < 0)
		return err_set(b->e, r, "%s", why.text);
	/* what an init left that was killed, or came second */
	if (memcmp(f.id, b->format.id, sizeof(f.id)) != 0)
		return 0;
	if (!b->format.encrypted) {
		return rebuild_differs(b, name,
				       "a key slot of this repository, and nothing is encrypted");
	}
	if (!b->slots_found) {
		b->format.chunk_shift = f.chunk_shift;
		b->format.created_ns = f.created_ns;
		b->slots_found = true;
	} else if (f.chunk_shift != b->format.chunk_shift || f.created_ns != b->format.created_ns) {
		return rebuild_differs(b, name, "of another \"format\" than the key slots before");
	}
	b->result->slots++;
	return 0;
}

static int rebuild_slots(struct rebuild *b)
{
	int r = store_list(b->store, "keys/", rebuild_on_slot, b, b->e);

	if (r < 0 || !b->format.encrypted || b->slots_found)
		return r;
	return err_set(
		b->e, -EBADMSG,
		"the repository is encrypted, and no key slot that is whole says what stood in "
		"\"format\": put \"format\", or a key slot, back from a copy "
		"(docs/REPOSITORY.md, \"When format is lost\")");
}

int repo_rebuild_open(struct store *s, const struct cancel *cancel, struct repo **ret,
		      struct repo_rebuild_result *result, struct err *e)
{
	_cleanup_(repo_freep) struct repo *repo = calloc(1, sizeof(*repo));
	struct rebuild b = { .store = s, .cancel = cancel, .result = result, .e = e };
	int r;

	*result = (struct repo_rebuild_result){ 0 };
	if (!repo) {
		store_free(s);
		return err_oom(e);
	}
	repo->store = s;
	r = rebuild_is_lost(s, &result->damaged, e);
	if (r >= 0)
		r = rebuild_heads(&b);
	if (r >= 0)
		r = rebuild_slots(&b);
	if (r < 0)
		return r;
	repo->format = b.format;
	*ret = TAKE_PTR(repo);
	return 0;
}

/* ---- images ---------------------------------------------------------------------------------------- */

struct rebuild_images {
	struct repo *repo;
	const struct cancel *cancel;
	struct repo_rebuild_result *result;
	uint64_t chunk_size; /* 0: not known yet */
	uint64_t oldest_ns;
	struct err *e;
};

static int rebuild_image(struct rebuild_images *l, const char *name, const struct repo_image *i)
{
	const uint64_t size = i->manifest->chunk_size;

	if (!l->chunk_size)
		l->chunk_size = size;
	if (size != l->chunk_size) {
		return err_set(l->e, -EBADMSG,
			       "%s has chunks of %" PRIu64 " bytes, and %s of %" PRIu64
			       ": nobody can tell which is right",
			       name, size,
			       l->repo->format.encrypted ? "the key slots speak"
							 : "those before have some",
			       l->chunk_size);
	}
	if (!l->result->images++ || i->time_ns < l->oldest_ns)
		l->oldest_ns = i->time_ns;
	return 0;
}

static int rebuild_on_image(void *ctx, const char *name, uint64_t size)
{
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	struct rebuild_images *l = ctx;
	uint8_t hash[REPO_NAME_HASH];
	struct err why = { 0 };
	int r = rebuild_cancelled(l->cancel, l->e);

	(void)size;
	if (r < 0 || !rebuild_has_hash(name, hash))
		return r;
	r = repo_image_get(l->repo, hash, &image, &why);
	if (r >= 0)
		return rebuild_image(l, name, image);
	if (r == -ENOENT)
		return 0;
	if (!rebuild_is_damage(r))
		return err_set(l->e, r, "%s", why.text);
	l->result->images_damaged++;
	return 0;
}

static int rebuild_images(struct rebuild_images *l)
{
	struct repo_format *f = &l->repo->format;
	int r = store_list(l->repo->store, "images/", rebuild_on_image, l, l->e);

	if (r < 0)
		return r;
	if (!l->result->images) {
		return err_set(l->e, -EBADMSG,
			       "no image is left that is whole: there is nothing that could be "
			       "restored, so make a new repository elsewhere");
	}
	if (!f->encrypted) {
		f->chunk_shift = (unsigned int)__builtin_ctzll(l->chunk_size);
		f->created_ns = l->oldest_ns;
	}
	return 0;
}

/* ---- writing it ------------------------------------------------------------------------------------ */

/* Steps 2 and 3. */
static int rebuild_put(struct repo *r, struct err *e)
{
	bool damaged;
	int n = rebuild_is_lost(r->store, &damaged, e);

	if (n >= 0 && damaged)
		n = store_del(r->store, FORMAT_NAME, e);
	return n < 0 ? n : repo_format_put(r->store, &r->format, e);
}

int repo_rebuild(struct repo *r, bool dry_run, const struct cancel *cancel,
		 struct repo_rebuild_result *result, struct err *e)
{
	struct rebuild_images l = { .repo = r, .cancel = cancel, .result = result, .e = e };
	int n;

	if (r->format.encrypted && !r->crypt)
		return err_set(e, -ENOKEY, "the repository is encrypted: give its key");
	if (r->crypt && crypt_rights(r->crypt) != CRYPT_RIGHTS_FULL) {
		return err_set(e, -EACCES,
			       "this takes a key with full rights: with this one no image can be "
			       "read, and images have to agree");
	}
	if (r->format.encrypted)
		l.chunk_size = UINT64_C(1) << r->format.chunk_shift;
	n = rebuild_images(&l);
	if (n >= 0)
		n = rebuild_cancelled(cancel, e);
	return n < 0 || dry_run ? n : rebuild_put(r, e);
}
