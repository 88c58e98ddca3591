/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/gc_object.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "lib/base/array.h"
#include "lib/base/hex.h"
#include "lib/image/record.h"

#define GC_FORMAT	1
#define GC_OBJECT_LIMIT 4096u /* bytes: far more than any has */
#define HASH_DIGITS	((size_t)2 * REPO_NAME_HASH)

static const char *const gc_kinds[] = {
	[GC_FORGET] = "forget", [GC_MARK] = "mark",   [GC_STRAY] = "stray",   [GC_GONE] = "gone",
	[GC_LOSSY] = "lossy",	[GC_PRUNE] = "prune", [GC_REPAIR] = "repair",
};

static const char *const gc_reasons[] = {
	[GC_REASON_NONE] = "none",
	[GC_REASON_DEAD] = "dead",
	[GC_REASON_REPACKED] = "repacked",
};

char *gc_object_name(enum gc_kind kind, const uint8_t hash[REPO_NAME_HASH],
		     char ret[GC_OBJECT_NAME_SIZE])
{
	char hex[HASH_DIGITS + 1];

	snprintf(ret, GC_OBJECT_NAME_SIZE, "gc/%s-%s", gc_kinds[kind],
		 hex_encode(hash, REPO_NAME_HASH, hex));
	return ret;
}

int gc_object_parse_name(const char *name, struct gc_object *ret)
{
	for (size_t k = 0; k < ARRAY_SIZE(gc_kinds); k++) {
		char want[GC_OBJECT_NAME_SIZE];
		struct gc_object o = { .kind = (enum gc_kind)k };
		const char *dash = strrchr(name, '-');

		if (!dash || hex_decode(dash + 1, o.hash, sizeof(o.hash)) < 0)
			return -EINVAL;
		if (strcmp(gc_object_name(o.kind, o.hash, want), name) == 0) {
			*ret = o;
			return 0;
		}
	}
	return -EINVAL;
}

/* What seals a note: the repository and the note's own name. */
struct gc_bound {
	uint8_t repo_id[REPO_ID_SIZE];
	char name[GC_OBJECT_NAME_SIZE];
};

static struct gc_bound gc_bound_make(const uint8_t repo_id[REPO_ID_SIZE], const struct gc_object *o)
{
	struct gc_bound b = { 0 };

	memcpy(b.repo_id, repo_id, sizeof(b.repo_id));
	gc_object_name(o->kind, o->hash, b.name);
	return b;
}

static bool gc_object_has_boot(const struct gc_object *o)
{
	static const uint8_t none[GC_BOOT_SIZE];

	return memcmp(o->boot, none, sizeof(none)) != 0;
}

static char *gc_object_to_json(const struct gc_bound *b, const struct gc_object *o)
{
	char id[2 * REPO_ID_SIZE + 1], boot[2 * GC_BOOT_SIZE + 1];
	json_t *j = json_pack("{s:i, s:s, s:s, s:I}", "format", GC_FORMAT, "object", b->name,
			      "repository", hex_encode(b->repo_id, REPO_ID_SIZE, id), "time_ns",
			      (json_int_t)o->time_ns);
	char *text;

	if (j && o->kind == GC_MARK)
		json_object_set_new(j, "reason", json_string(gc_reasons[o->reason]));
	if (j && gc_object_has_boot(o)) {
		hex_encode(o->boot, sizeof(o->boot), boot);
		json_object_set_new(j, "boot", json_string(boot));
		json_object_set_new(j, "boot_ns", json_integer((json_int_t)o->boot_ns));
	}
	text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	return text;
}

static int gc_object_seal(const struct crypt *crypt, const struct gc_bound *b, const char *text,
			  uint8_t body[GC_OBJECT_LIMIT], size_t *ret_len, struct err *e)
{
	_cleanup_(crypt_session_freep) struct crypt_session *session = NULL;
	const size_t len = strlen(text);
	int r;

	*ret_len = len;
	if (!crypt) {
		/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): a record's body is no string */
		memcpy(body, text, len);
		return 0;
	}
	r = crypt_session_notes(crypt, &session, e);
	if (r < 0)
		return r;
	crypt_seal(session, b, sizeof(*b), text, len, body);
	*ret_len = len + REPO_SEAL_EXTRA;
	return 0;
}

int gc_object_put(struct store *s, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
		  const struct gc_object *o, struct err *e)
{
	const struct gc_bound b = gc_bound_make(repo_id, o);
	_cleanup_free_ char *text = gc_object_to_json(&b, o);
	uint8_t body[GC_OBJECT_LIMIT];
	struct record_head head;
	struct iovec parts[2] = { { &head, sizeof(head) }, { body, 0 } };
	int r;

	if (!text)
		return err_oom(e);
	r = gc_object_seal(crypt, &b, text, body, &parts[1].iov_len, e);
	if (r < 0)
		return r;
	record_make((enum ambro_record_type)REPO_RECORD_GC, body, parts[1].iov_len, &head);
	r = store_putv(s, b.name, parts, ARRAY_SIZE(parts), e);
	return r == -EEXIST ? 0 : r;
}

int gc_object_check(const void *bytes, size_t len, struct err *e)
{
	struct record_head head;
	int r;

	if (len < sizeof(head))
		return err_set(e, -EBADMSG, "it is too short");
	memcpy(&head, bytes, sizeof(head));
	r = record_head_check(&head, (enum ambro_record_type)REPO_RECORD_GC, len, "GC", e);
	if (r < 0)
		return r;
	if (record_frame_len(record_body_len(&head)) != len)
		return err_set(e, -EBADMSG, "it is longer than its record");
	return record_body_check(&head, (const uint8_t *)bytes + sizeof(head), "GC", e);
}

/* Which boot it says, if it does: notes of older versions do not. */
static int gc_object_boot_from_json(json_t *j, struct gc_object *o)
{
	const char *boot = NULL;
	json_int_t boot_ns = -1;

	if (json_unpack(j, "{s?s, s?I}", "boot", &boot, "boot_ns", &boot_ns) < 0)
		return -EBADMSG;
	if (!boot)
		return 0;
	if (boot_ns < 0 || hex_decode(boot, o->boot, sizeof(o->boot)) < 0)
		return -EBADMSG;
	o->boot_ns = (uint64_t)boot_ns;
	return 0;
}

static int gc_object_from_json(const char *text, size_t len, const struct gc_bound *b,
			       struct gc_object *o)
{
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	char id[2 * REPO_ID_SIZE + 1];
	const char *name, *repository, *reason = gc_reasons[GC_REASON_NONE];
	json_int_t time;
	int format, r = -EBADMSG;

	hex_encode(b->repo_id, REPO_ID_SIZE, id);
	if (j &&
	    json_unpack(j, "{s:i, s:s, s:s, s:I, s?s}", "format", &format, "object", &name,
			"repository", &repository, "time_ns", &time, "reason", &reason) == 0 &&
	    format == GC_FORMAT && strcmp(name, b->name) == 0 && strcmp(repository, id) == 0 &&
	    time >= 0 && gc_object_boot_from_json(j, o) == 0) {
		o->time_ns = (uint64_t)time;
		for (size_t i = 0; i < ARRAY_SIZE(gc_reasons); i++) {
			if (strcmp(reason, gc_reasons[i]) == 0 &&
			    (i != GC_REASON_NONE) == (o->kind == GC_MARK)) {
				o->reason = (enum gc_reason)i;
				r = 0;
			}
		}
	}
	json_decref(j);
	return r;
}

static int gc_object_open(const void *bytes, size_t len, const struct gc_bound *b,
			  const struct crypt *crypt, struct gc_object *o, struct err *e)
{
	_cleanup_(crypt_session_freep) struct crypt_session *session = NULL;
	const uint8_t *body = (const uint8_t *)bytes + sizeof(struct record_head);
	char text[GC_OBJECT_LIMIT];
	int r = gc_object_check(bytes, len, e);

	if (r < 0)
		return err_prefix(e, "%s is damaged", b->name), r;
	len -= sizeof(struct record_head);
	if (crypt) {
		r = crypt_session_notes(crypt, &session, e);
		if (r < 0)
			return r;
		if (len < REPO_SEAL_EXTRA ||
		    crypt_open(session, b, sizeof(*b), body, len, text) < 0) {
			return err_set(e, -EBADMSG, "%s was not made with this repository's keys",
				       b->name);
		}
		len -= REPO_SEAL_EXTRA;
	} else {
		memcpy(text, body, len);
	}
	if (gc_object_from_json(text, len, b, o) < 0)
		return err_set(e, -EBADMSG, "%s does not say what it should", b->name);
	return 0;
}

int gc_object_get(struct store *s, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
		  struct gc_object *o, struct err *e)
{
	const struct gc_bound b = gc_bound_make(repo_id, o);
	_cleanup_free_ void *bytes = NULL;
	size_t len;
	int r = store_get_all(s, b.name, GC_OBJECT_LIMIT, &bytes, &len, e);

	if (r == -EFBIG)
		return err_set(e, -EBADMSG, "%s is damaged: it is too long", b.name);
	return r < 0 ? r : gc_object_open(bytes, len, &b, crypt, o, e);
}

int gc_object_del(struct store *s, enum gc_kind kind, const uint8_t hash[REPO_NAME_HASH],
		  struct err *e)
{
	char name[GC_OBJECT_NAME_SIZE];

	return store_del(s, gc_object_name(kind, hash, name), e);
}

/* ---- all of them ------------------------------------------------------------------------------- */

struct gc_listing {
	struct gc_objects *list;
	size_t allocated;
};

static int gc_listing_add(void *ctx, const char *name, uint64_t size)
{
	struct gc_listing *l = ctx;
	struct gc_object o;

	(void)size;
	if (gc_object_parse_name(name, &o) < 0)
		return 0;
	if (ARRAY_ROOM(l->list->items, l->list->count, l->allocated, 64) < 0)
		return -ENOMEM;
	l->list->items[l->list->count++] = o;
	return 0;
}

static int gc_object_compare(const void *a, const void *b)
{
	const struct gc_object *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return memcmp(x->hash, y->hash, sizeof(x->hash));
}

int gc_objects_load(struct store *s, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
		    struct gc_objects *ret, struct err *e)
{
	struct gc_objects l = { 0 };
	struct gc_listing listing = { .list = &l };
	size_t kept = 0;
	int r = store_list(s, "gc/", gc_listing_add, &listing, e);

	if (r == -ENOMEM)
		err_oom(e);
	for (size_t i = 0; r >= 0 && i < l.count; i++) {
		struct gc_object o = l.items[i];

		r = gc_object_get(s, repo_id, crypt, &o, e);
		if (r == -ENOENT) {
			r = 0;
			continue;
		}
		if (r == -EBADMSG || r == -ENOTSUP) {
			o.damaged = true;
			r = 0;
		}
		l.items[kept++] = o;
	}
	if (r < 0) {
		gc_objects_done(&l);
		return r;
	}
	l.count = kept;
	if (kept)
		qsort(l.items, kept, sizeof(*l.items), gc_object_compare);
	*ret = l;
	return 0;
}

void gc_objects_done(struct gc_objects *l)
{
	free(l->items);
	*l = (struct gc_objects){ 0 };
}

const struct gc_object *gc_objects_find(const struct gc_objects *l, enum gc_kind kind,
					const uint8_t hash[REPO_NAME_HASH])
{
	struct gc_object key = { .kind = kind };

	if (!l->count)
		return NULL;
	memcpy(key.hash, hash, sizeof(key.hash));
	return bsearch(&key, l->items, l->count, sizeof(*l->items), gc_object_compare);
}
