/* SPDX-License-Identifier: GPL-2.0-or-later */
/* key_slot as JSON, and back. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "lib/base/hex.h"
#include "lib/base/text.h"
#include "lib/repo/checked_json.h"
#include "lib/repo/key_slot.h"

#define SLOT_FORMAT	       1
#define SLOT_NAME_MAX	       (5 + KEY_SLOT_ID_MAX)
#define SLOT_ALGORITHM	       "argon2id13"
#define SLOT_SEALED_PASSPHRASE (KEY_WRAP_PASSPHRASE_EXTRA + CRYPT_SECRETS_SIZE)

/* The object's name, which its "check" is over, too. */
static char *slot_name(const char *id, char ret[SLOT_NAME_MAX])
{
	snprintf(ret, SLOT_NAME_MAX, "keys/%.*s", KEY_SLOT_ID_MAX - 1, id);
	return ret;
}

static json_t *slot_hex(const uint8_t *bytes, size_t len)
{
	char text[2 * KEY_SLOT_SEALED_MAX + 1];

	return json_string(hex_encode(bytes, len, text));
}

char *key_slot_to_json(const struct key_slot *s, const struct repo_format *f)
{
	_cleanup_(json_decrefp) json_t *o = NULL;
	char name[SLOT_NAME_MAX];
	int r;

	o = json_pack("{s:i, s:o, s:i, s:I, s:s, s:s, s:s, s:I}", "format", SLOT_FORMAT,
		      "repository", slot_hex(f->id, sizeof(f->id)), "chunk_shift",
		      (int)f->chunk_shift, "repository_created_ns", (json_int_t)f->created_ns,
		      "type", key_slot_type_name(s->type), "rights",
		      key_slot_rights_name(s->rights), "label", s->label, "created_ns",
		      (json_int_t)s->created_ns);
	if (!o)
		return NULL;
	if (s->type == KEY_SLOT_PASSPHRASE) {
		r = json_object_set_new(o, "kdf",
					json_pack("{s:s, s:I, s:I, s:o}", "algorithm",
						  SLOT_ALGORITHM, "operations",
						  (json_int_t)s->cost.operations, "memory",
						  (json_int_t)s->cost.memory, "salt",
						  slot_hex(s->cost.salt, sizeof(s->cost.salt))));
	} else {
		r = json_object_set_new(o, "public", slot_hex(s->public, sizeof(s->public)));
	}
	if (r < 0 || json_object_set_new(o, "sealed", slot_hex(s->sealed, s->sealed_len)) < 0)
		return NULL;
	return checked_json_dump(slot_name(s->id, name), o);
}

static int slot_damaged(const char *id, struct err *e)
{
	return err_set(e, -EBADMSG, "key slot %s is damaged", id);
}

/* "operations" and "memory" as the store has them are believed by whoever derives a key, so they are checked here. */
static int slot_parse_passphrase(json_t *o, struct key_slot *s, struct err *e)
{
	const char *algorithm, *salt;
	json_int_t operations, memory;

	if (json_unpack(o, "{s:{s:s, s:I, s:I, s:s}}", "kdf", "algorithm", &algorithm, "operations",
			&operations, "memory", &memory, "salt", &salt) < 0 ||
	    hex_decode(salt, s->cost.salt, sizeof(s->cost.salt)) < 0)
		return slot_damaged(s->id, e);
	if (strcmp(algorithm, SLOT_ALGORITHM) != 0) {
		return err_set(e, -ENOTSUP,
			       "key slot %s needs a way to derive keys that this tool does not "
			       "know: a newer tool is needed",
			       s->id);
	}
	if (operations < 0 || memory < 0 ||
	    !key_wrap_cost_ok((uint64_t)operations, (uint64_t)memory)) {
		return err_set(e, -EBADMSG,
			       "key slot %s asks for %" PRIi64 " passes over %" PRIi64
			       " bytes, which no sound slot does",
			       s->id, (int64_t)operations, (int64_t)memory);
	}
	s->cost.operations = (uint64_t)operations;
	s->cost.memory = (uint64_t)memory;
	s->type = KEY_SLOT_PASSPHRASE;
	s->sealed_len = SLOT_SEALED_PASSPHRASE;
	return 0;
}

static int slot_parse_recipient(json_t *o, struct key_slot *s, struct err *e)
{
	const char *public;

	if (json_unpack(o, "{s:s}", "public", &public) < 0 ||
	    hex_decode(public, s->public, sizeof(s->public)) < 0)
		return slot_damaged(s->id, e);
	s->type = KEY_SLOT_RECIPIENT;
	s->sealed_len = KEY_SLOT_SEALED_MAX;
	return 0;
}

static int slot_parse(json_t *o, const struct repo_format *f, struct key_slot *s, struct err *e)
{
	const char *repository, *type, *rights, *label, *sealed;
	char clean[KEY_SLOT_LABEL_MAX + 1];
	uint8_t id[REPO_ID_SIZE];
	json_int_t created;
	int r;

	if (json_unpack(o, "{s:s, s:s, s:s, s:s, s:I, s:s}", "repository", &repository, "type",
			&type, "rights", &rights, "label", &label, "created_ns", &created, "sealed",
			&sealed) < 0 ||
	    hex_decode(repository, id, sizeof(id)) < 0 || created < 0 ||
	    strlen(label) > KEY_SLOT_LABEL_MAX ||
	    strcmp(text_clean(label, true, clean, sizeof(clean)), label) != 0 ||
	    (strcmp(rights, "full") != 0 && strcmp(rights, "write") != 0))
		return slot_damaged(s->id, e);
	if (memcmp(id, f->id, sizeof(id)) != 0)
		return err_set(e, -EXDEV, "key slot %s is another repository's", s->id);
	s->created_ns = (uint64_t)created;
	s->rights = !strcmp(rights, "full") ? CRYPT_RIGHTS_FULL : CRYPT_RIGHTS_WRITE;
	memcpy(s->label, label, strlen(label));
	if (!strcmp(type, "passphrase")) {
		r = slot_parse_passphrase(o, s, e);
	} else if (!strcmp(type, "recipient")) {
		r = slot_parse_recipient(o, s, e);
	} else {
		r = slot_damaged(s->id, e);
	}
	if (r < 0)
		return r;
	return hex_decode(sealed, s->sealed, s->sealed_len) < 0 ? slot_damaged(s->id, e) : 0;
}

/* The object as JSON, whose format is known. */
static int slot_load(const char *id, const char *text, size_t len, json_t **ret, struct err *e)
{
	_cleanup_(json_decrefp) json_t *o = NULL;
	uint8_t bytes[(KEY_SLOT_ID_MAX - 1) / 2];
	char name[SLOT_NAME_MAX];
	int format;

	if (strlen(id) != KEY_SLOT_ID_MAX - 1 || hex_decode(id, bytes, sizeof(bytes)) < 0)
		return err_set(e, -EBADMSG, "keys/%s is not a key slot's name", id);
	o = checked_json_load(slot_name(id, name), text, len);
	if (!o || json_unpack(o, "{s:i}", "format", &format) < 0 || format < 1)
		return slot_damaged(id, e);
	if (format > SLOT_FORMAT)
		return err_set(e, -ENOTSUP, "key slot %s needs a newer tool", id);
	*ret = TAKE_PTR(o);
	return 0;
}

int key_slot_from_json(const char *id, const char *text, size_t len, const struct repo_format *f,
		       struct key_slot *ret, struct err *e)
{
	_cleanup_(json_decrefp) json_t *o = NULL;
	struct key_slot s = { 0 };
	int r;

	r = slot_load(id, text, len, &o, e);
	if (r < 0)
		return r;
	/* as it is written: what is bound to it is the name */
	memcpy(s.id, id, sizeof(s.id));
	r = slot_parse(o, f, &s, e);
	if (r == 0)
		*ret = s;
	return r;
}

int key_slot_says_format(const char *id, const char *text, size_t len, struct repo_format *ret,
			 struct err *e)
{
	_cleanup_(json_decrefp) json_t *o = NULL;
	struct repo_format f = { .encrypted = true };
	json_int_t created = -1;
	const char *repository;
	int shift = 0, r;

	r = slot_load(id, text, len, &o, e);
	if (r < 0)
		return r;
	if (json_unpack(o, "{s:s, s?i, s?I}", "repository", &repository, "chunk_shift", &shift,
			"repository_created_ns", &created) < 0 ||
	    hex_decode(repository, f.id, sizeof(f.id)) < 0)
		return slot_damaged(id, e);
	*ret = f;
	if (shift < AMBRO_CHUNK_SHIFT_MIN || shift > AMBRO_CHUNK_SHIFT_MAX || created < 0) {
		return err_set(e, -ENODATA, "key slot %s does not say what stood in \"format\"",
			       id);
	}
	ret->chunk_shift = (unsigned int)shift;
	ret->created_ns = (uint64_t)created;
	return 0;
}
