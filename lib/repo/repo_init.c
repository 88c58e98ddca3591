/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The object "format": JSON, because a person may want to read it in twenty years. Whether it rotted is found out by its
 * "check" (checked_json.h), whether it was changed on purpose by the key slots, which are bound to what it says (keys.h).
 *
 * No repository is made where another one's objects are: with a new id none of them could be read again, and the first
 * prune would find them in its way. Key slots alone say nothing: they come before "format", so an init that was
 * killed leaves some. (Who deletes those: keys_sweep().)
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "lib/base/hex.h"
#include "lib/repo/checked_json.h"
#include "lib/repo/repo.h"

#define FORMAT_NAME	"format"
#define FORMAT_VERSION	1
#define FORMAT_MAX	(64u << 10)
#define FORMAT_HASH	"sha256-tree8k"
#define FORMAT_SEALED	"xchacha20poly1305-blake2b"
#define FORMAT_IN_CLEAR "none"

/* ---- what is there ------------------------------------------------------------------------------ */

static int format_met_one(void *ctx, const char *name, uint64_t size)
{
	(void)ctx;
	(void)name;
	(void)size;
	/* one is enough */
	return -ECANCELED;
}

/* Are there objects that only a repository has? 1, 0, or an error. */
static int format_is_missing(struct store *s, struct err *e)
{
	static const char *const folders[] = { "images/", "index/", "packs/", "gc/" };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		int r = store_list(s, folders[i], format_met_one, NULL, e);

		if (r == -ECANCELED)
			return 1;
		if (r < 0)
			return r;
	}
	return 0;
}

static int format_missing(struct err *e)
{
	return err_set(e, -EBADMSG,
		       "the object \"format\" is missing, but other objects of a repository are "
		       "here: put \"format\" back from a copy, or make it anew by 'ambroctl repo "
		       "rebuild-format', and make no repository in their place "
		       "(docs/REPOSITORY.md, \"When format is lost\")");
}

static int format_damaged(struct err *e)
{
	return err_set(
		e, -EBADMSG,
		"the object \"format\" is damaged: put it back from a copy, or make it anew by "
		"'ambroctl repo rebuild-format' (docs/REPOSITORY.md, \"When format is lost\")");
}

int repo_init_check(struct store *s, struct err *e)
{
	uint64_t size;
	int r = store_size(s, FORMAT_NAME, &size, e);

	if (r == 0)
		return err_set(e, -EEXIST, "there is a repository already");
	if (r != -ENOENT)
		return r;
	r = format_is_missing(s, e);
	return r > 0 ? format_missing(e) : r;
}

/* ---- writing and reading it --------------------------------------------------------------------- */

int repo_format_put(struct store *s, const struct repo_format *f, struct err *e)
{
	char id[2 * REPO_ID_SIZE + 1];
	_cleanup_(json_decrefp) json_t *o = NULL;
	_cleanup_free_ char *text = NULL;
	int r;

	if (f->chunk_shift < AMBRO_CHUNK_SHIFT_MIN || f->chunk_shift > AMBRO_CHUNK_SHIFT_MAX) {
		return err_set(e, -EINVAL, "chunks of 2^%u bytes are not within 2^%d … 2^%d",
			       f->chunk_shift, AMBRO_CHUNK_SHIFT_MIN, AMBRO_CHUNK_SHIFT_MAX);
	}
	o = json_pack("{s:i, s:s, s:s, s:i, s:s, s:s, s:[], s:I}", "format", FORMAT_VERSION, "what",
		      "a repository of ambrotype: see docs/REPOSITORY.md", "repository",
		      hex_encode(f->id, sizeof(f->id), id), "chunk_shift", (int)f->chunk_shift,
		      "chunk_hash", FORMAT_HASH, "encryption",
		      f->encrypted ? FORMAT_SEALED : FORMAT_IN_CLEAR, "require", "created_ns",
		      (json_int_t)f->created_ns);
	text = o ? checked_json_dump(FORMAT_NAME, o) : NULL;
	if (!text)
		return err_oom(e);
	r = store_put(s, FORMAT_NAME, text, strlen(text), e);
	return r == -EEXIST ? err_set(e, r, "there is a repository already") : r;
}

int repo_init(struct store *s, const struct repo_format *f, struct err *e)
{
	int r = repo_init_check(s, e);

	return r < 0 ? r : repo_format_put(s, f, e);
}

static int repo_format_parse(const char *text, size_t len, struct repo_format *ret, struct err *e)
{
	_cleanup_(json_decrefp) json_t *o = checked_json_load(FORMAT_NAME, text, len);
	const char *id, *hash, *encryption;
	json_int_t created;
	json_t *require;
	int version, shift;

	if (!o || json_unpack(o, "{s:i}", "format", &version) < 0)
		return format_damaged(e);
	if (version > FORMAT_VERSION) {
		return err_set(
			e, -ENOTSUP,
			"the repository has format %d, this tool knows up to %d: a newer tool "
			"is needed",
			version, FORMAT_VERSION);
	}
	if (json_unpack(o, "{s:s, s:i, s:s, s:s, s:o, s:I}", "repository", &id, "chunk_shift",
			&shift, "chunk_hash", &hash, "encryption", &encryption, "require", &require,
			"created_ns", &created) < 0 ||
	    hex_decode(id, ret->id, sizeof(ret->id)) < 0 || shift < AMBRO_CHUNK_SHIFT_MIN ||
	    shift > AMBRO_CHUNK_SHIFT_MAX || !json_is_array(require) || version < 1 || created < 0)
		return format_damaged(e);
	ret->encrypted = strcmp(encryption, FORMAT_SEALED) == 0;
	if (json_array_size(require) || strcmp(hash, FORMAT_HASH) != 0 ||
	    (!ret->encrypted && strcmp(encryption, FORMAT_IN_CLEAR) != 0)) {
		return err_set(
			e, -ENOTSUP,
			"the repository needs features that this tool does not know: a newer "
			"tool is needed");
	}
	ret->chunk_shift = (unsigned int)shift;
	ret->created_ns = (uint64_t)created;
	return 0;
}

int repo_format_get(struct store *s, struct repo_format *ret, struct err *e)
{
	_cleanup_free_ void *text = NULL;
	size_t len;
	int r;

	*ret = (struct repo_format){ 0 };
	r = store_get_all(s, FORMAT_NAME, FORMAT_MAX, &text, &len, e);
	if (r == -ENOENT) {
		r = format_is_missing(s, e);
		if (r > 0)
			return format_missing(e);
		return r < 0 ? r
			     : err_set(e, -ENOENT,
				       "there is no repository here: 'ambroctl repo init' makes one");
	}
	if (r == -EFBIG)
		return format_damaged(e);
	return r < 0 ? r : repo_format_parse(text, len, ret, e);
}
