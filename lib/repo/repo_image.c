/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_image.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hex.h"
#include "lib/image/codec.h"
#include "lib/image/digest.h"
#include "lib/image/manifest_fields.h"
#include "lib/image/record.h"
#include "lib/repo/pack.h"

#define IMAGE_FOLDER   "images/"
#define IMAGE_NAME_MAX 128
#define WORD_CUT_BYTES 4
/* A manifest's limit, and room for what is around it. */
#define IMAGE_OBJECT_MAX ((size_t)MANIFEST_TEXT_MAX + (1u << 20))

static char *image_object_name(const uint8_t hash[REPO_NAME_HASH], char ret[IMAGE_NAME_MAX])
{
	char hex[2 * REPO_NAME_HASH + 1];

	snprintf(ret, IMAGE_NAME_MAX, IMAGE_FOLDER "%s", hex_encode(hash, REPO_NAME_HASH, hex));
	return ret;
}

void repo_image_free(struct repo_image *i)
{
	if (!i)
		return;
	for (char **tag = i->tags; tag && *tag; tag++)
		free(*tag);
	free(i->tags);
	free(i->host);
	free(i->disk);
	manifest_free(i->manifest);
	free(i);
}

/* Two that begin alike must not become one: the end of what is cut off says what it was. */
static void word_cut(char *word)
{
	const size_t len = strlen(word);
	struct chunk_id id;
	char hex[2 * WORD_CUT_BYTES + 1];

	if (len <= REPO_IMAGE_WORD_MAX)
		return;
	chunk_id_of(word, len, &id);
	snprintf(word + (REPO_IMAGE_WORD_MAX - (sizeof(hex) - 1) - 1), sizeof(hex) + 1, "-%s",
		 hex_encode(id.b, WORD_CUT_BYTES, hex));
}

char *repo_image_word(const char *text)
{
	char *word = strdup(text && *text ? text : "unknown");

	if (word)
		word_cut(word);
	for (char *c = word; c && *c; c++) {
		/* a name that begins with a dot or dash is trouble in a shell */
		if (!(isalnum((unsigned char)*c) || *c == '_' ||
		      (c > word && (*c == '.' || *c == '-'))))
			*c = c > word ? '-' : '_';
	}
	return word;
}

char *repo_image_disk_word(const char *path, const char *model)
{
	const char *slash = path ? strrchr(path, '/') : NULL;
	const char *name = slash ? slash + 1 : path;

	if (name && !strncmp(name, "dm-", 3) &&
	    strspn(name + 3, "0123456789") == strlen(name + 3) && model && *model)
		name = model;
	return repo_image_word(name);
}

bool repo_image_word_valid(const char *text)
{
	_cleanup_free_ char *word = repo_image_word(text);

	return word && *text && strlen(text) <= REPO_IMAGE_WORD_MAX && !strcmp(word, text);
}

/* ---- writing ------------------------------------------------------------------------------------ */

/* What a sealed image's seal is bound to. */
struct image_bound {
	uint8_t repo_id[REPO_ID_SIZE];
	struct repo_sealed_head head;
};
static_assert(sizeof(struct image_bound) == REPO_ID_SIZE + sizeof(struct repo_sealed_head),
	      "no padding");

static struct image_bound image_bound(const struct repo *r, const struct repo_image *i, size_t len)
{
	struct image_bound b = { .head = { .kind = REPO_KIND_IMAGE,
					   .plain_len = le32((uint32_t)len),
					   .frame_len = le32((uint32_t)len) } };

	memcpy(b.repo_id, r->format.id, sizeof(b.repo_id));
	memcpy(b.head.name.b, i->manifest->image_id, sizeof(i->manifest->image_id));
	return b;
}

/* The record behind the PACK record: a MANIFEST in the clear, or sealed. @ret is allocated. */
static int image_record(const struct image_bound *bound, const struct crypt_session *session,
			const struct iovec *text, struct iovec *ret, struct err *e)
{
	const size_t room =
		sizeof(struct record_head) + sizeof(bound->head) + text->iov_len + REPO_SEAL_EXTRA;
	uint8_t *bytes = malloc(room), *body;
	struct record_head head;

	if (!bytes)
		return err_oom(e);
	body = bytes + sizeof(head);
	if (session) {
		memcpy(body, &bound->head, sizeof(bound->head));
		crypt_seal(session, bound, sizeof(*bound), text->iov_base, text->iov_len,
			   body + sizeof(bound->head));
	} else {
		memcpy(body, text->iov_base, text->iov_len);
	}
	*ret = (struct iovec){ bytes, session ? room : sizeof(head) + text->iov_len };
	record_make(session ? (enum ambro_record_type)REPO_RECORD_SEALED : AMBRO_RECORD_MANIFEST,
		    body, ret->iov_len - sizeof(head), &head);
	memcpy(bytes, &head, sizeof(head));
	return 0;
}

int repo_image_put(struct repo *r, struct repo_image *i, struct err *e)
{
	_cleanup_(crypt_session_freep) struct crypt_session *session = NULL;
	_cleanup_free_ char *text = NULL;
	uint8_t head[PACK_HEAD_SIZE];
	struct iovec parts[2] = { { head, sizeof(head) } }, body;
	char name[IMAGE_NAME_MAX];
	struct image_bound bound;
	int n;

	n = repo_image_to_json(i, &text, &body.iov_len, e);
	if (n < 0)
		return n;
	body.iov_base = text;
	n = pack_head_make(r->crypt, REPO_PURPOSE_IMAGE, r->format.id, head, &session, e);
	if (n < 0)
		return n;
	bound = image_bound(r, i, body.iov_len);
	n = image_record(&bound, session, &body, &parts[1], e);
	if (n < 0)
		return n;
	digest_of(parts, ARRAY_SIZE(parts), i->hash);
	n = store_putv(r->store, image_object_name(i->hash, name), parts, ARRAY_SIZE(parts), e);
	free(parts[1].iov_base);
	return n == -EEXIST ? 0 : n;
}

/* ---- reading ------------------------------------------------------------------------------------ */

/* @body is a SEALED record's; @ret is allocated. */
static int image_unseal(struct repo *r, const struct repo_pack_head *head, const uint8_t *body,
			size_t len, struct iovec *ret, struct err *e)
{
	_cleanup_(crypt_session_freep) struct crypt_session *session = NULL;
	_cleanup_free_ void *text = NULL;
	struct image_bound bound = { 0 };
	int n;

	if (!r->crypt)
		return err_set(e, -ENOKEY, "the repository is encrypted: give its key");
	if (len < sizeof(bound.head) + REPO_SEAL_EXTRA)
		return err_set(e, -EBADMSG, "the image is too short");
	n = crypt_session_open(r->crypt, head->session, &session, e);
	if (n < 0)
		return n;
	memcpy(bound.repo_id, r->format.id, sizeof(bound.repo_id));
	memcpy(&bound.head, body, sizeof(bound.head));
	ret->iov_len = len - sizeof(bound.head) - REPO_SEAL_EXTRA;
	text = malloc(ret->iov_len + 1);
	if (!text)
		return err_oom(e);
	n = crypt_open(session, &bound, sizeof(bound), body + sizeof(bound.head),
		       len - sizeof(bound.head), text);
	if (n < 0 || bound.head.kind != REPO_KIND_IMAGE)
		return err_set(e, -EBADMSG, "the image does not decrypt: it was altered");
	ret->iov_base = TAKE_PTR(text);
	return 0;
}

static int image_parse(struct repo *r, const uint8_t *bytes, size_t len, struct repo_image **ret,
		       struct err *e)
{
	const struct record_head *record = (const void *)(bytes + PACK_HEAD_SIZE);
	enum ambro_record_type type = r->format.encrypted
					      ? (enum ambro_record_type)REPO_RECORD_SEALED
					      : AMBRO_RECORD_MANIFEST;
	const uint8_t *body = bytes + PACK_HEAD_SIZE + sizeof(*record);
	_cleanup_free_ void *text = NULL;
	struct repo_pack_head head;
	struct iovec plain = { 0 };
	int n;

	n = pack_head_check(bytes, len, REPO_PURPOSE_IMAGE, r->format.id, &head, e);
	if (n < 0)
		return n;
	n = record_head_check(record, type, len - PACK_HEAD_SIZE, "MANIFEST", e);
	if (n >= 0)
		n = record_body_check(record, body, "MANIFEST", e);
	if (n < 0)
		return n;
	if (!r->format.encrypted)
		return repo_image_from_json((const char *)body, record_body_len(record), ret, e);
	n = image_unseal(r, &head, body, record_body_len(record), &plain, e);
	if (n < 0)
		return n;
	text = plain.iov_base;
	return repo_image_from_json(text, plain.iov_len, ret, e);
}

int repo_image_stored(struct repo *r, const uint8_t hash[REPO_NAME_HASH], struct iovec *ret,
		      struct err *e)
{
	_cleanup_free_ void *bytes = NULL;
	uint8_t found[REPO_NAME_HASH];
	char name[IMAGE_NAME_MAX];
	size_t len;
	int n;

	image_object_name(hash, name);
	n = store_get_all(r->store, name, IMAGE_OBJECT_MAX, &bytes, &len, e);
	if (n == -EFBIG)
		return err_set(e, -EBADMSG, "%s is larger than an image can be", name);
	if (n < 0)
		return n;
	digest_of(&(struct iovec){ bytes, len }, 1, found);
	if (memcmp(found, hash, sizeof(found)) != 0)
		return err_set(e, -EBADMSG, "%s is damaged: its bytes do not have its name", name);
	*ret = (struct iovec){ TAKE_PTR(bytes), len };
	return 0;
}

int repo_image_parse(struct repo *r, const uint8_t hash[REPO_NAME_HASH], const struct iovec *bytes,
		     struct repo_image **ret, struct err *e)
{
	char name[IMAGE_NAME_MAX];
	int n = image_parse(r, bytes->iov_base, bytes->iov_len, ret, e);

	if (n < 0)
		return err_prefix(e, "%s", image_object_name(hash, name)), n;
	memcpy((*ret)->hash, hash, REPO_NAME_HASH);
	return 0;
}

int repo_image_get(struct repo *r, const uint8_t hash[REPO_NAME_HASH], struct repo_image **ret,
		   struct err *e)
{
	struct iovec bytes = { 0 };
	int n = repo_image_stored(r, hash, &bytes, e);

	if (n < 0 || !bytes.iov_base)
		return n;
	n = repo_image_parse(r, hash, &bytes, ret, e);
	free(bytes.iov_base);
	return n;
}
