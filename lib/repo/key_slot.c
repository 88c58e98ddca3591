/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/key_slot.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <sodium.h>

#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/base/text.h"

const char *key_slot_type_name(enum key_slot_type t)
{
	return t == KEY_SLOT_PASSPHRASE ? "passphrase" : "recipient";
}

const char *key_slot_rights_name(enum crypt_rights r)
{
	return r == CRYPT_RIGHTS_FULL ? "full" : "write";
}

static void slot_bound(const struct key_slot *s, const struct repo_format *f,
		       uint8_t ret[KEY_WRAP_BOUND])
{
	struct key_slot_bound b = {
		.magic = "AMBRSLOT",
		.chunk_shift = le32(f->chunk_shift),
		.encrypted = f->encrypted,
		.type = (uint8_t)s->type,
		.rights = (uint8_t)s->rights,
		.repo_created_ns = le64(f->created_ns),
		.created_ns = le64(s->created_ns),
		.operations = le64(s->cost.operations),
		.memory = le64(s->cost.memory),
	};

	memcpy(b.repo_id, f->id, sizeof(b.repo_id));
	memcpy(b.salt, s->cost.salt, sizeof(b.salt));
	memcpy(b.public, s->public, sizeof(b.public));
	memcpy(b.id, s->id, sizeof(b.id));
	memcpy(b.label, s->label, strlen(s->label));
	crypto_generichash(ret, KEY_WRAP_BOUND, (const uint8_t *)&b, sizeof(b), NULL, 0);
}

/* ---- making ------------------------------------------------------------------------------------- */

static int slot_seal(struct key_slot *s, const struct repo_format *f,
		     const struct secret *passphrase, const struct secret *secrets, struct err *e)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	uint8_t bound[KEY_WRAP_BOUND];

	slot_bound(s, f, bound);
	if (!passphrase) {
		s->sealed_len = KEY_WRAP_RECIPIENT_EXTRA + secrets->len;
		return key_wrap_seal_to(s->public, bound, secrets->bytes, secrets->len, s->sealed,
					e);
	}
	key = key_wrap_derive(&s->cost, passphrase, e);
	if (!key)
		return -ENOMEM;
	s->sealed_len = KEY_WRAP_PASSPHRASE_EXTRA + secrets->len;
	key_wrap_seal(key, bound, secrets->bytes, secrets->len, s->sealed);
	return 0;
}

static int slot_describe(const struct key_slot_new *new, struct key_slot *s, struct err *e)
{
	const char *label = new->label ? new->label : "";
	uint8_t id[(KEY_SLOT_ID_MAX - 1) / 2];
	char clean[KEY_SLOT_LABEL_MAX + 1];

	if (strlen(label) > KEY_SLOT_LABEL_MAX ||
	    strcmp(text_clean(label, true, clean, sizeof(clean)), label) != 0) {
		return err_set(e, -EINVAL,
			       "a label is at most %d bytes of text, without control characters",
			       KEY_SLOT_LABEL_MAX);
	}
	if (new->secret && !new->secret->len)
		return err_set(e, -EINVAL, "the passphrase is empty");
	randombytes_buf(id, sizeof(id));
	hex_encode(id, sizeof(id), s->id);
	memcpy(s->label, label, strlen(label));
	s->type = new->secret ? KEY_SLOT_PASSPHRASE : KEY_SLOT_RECIPIENT;
	s->rights = new->rights;
	s->created_ns = io_realtime_ns();
	if (new->secret) {
		s->cost.operations = new->operations ? new->operations : KEY_WRAP_OPERATIONS;
		s->cost.memory = new->memory ? new->memory : KEY_WRAP_MEMORY;
		randombytes_buf(s->cost.salt, sizeof(s->cost.salt));
	} else {
		memcpy(s->public, new->public, sizeof(s->public));
	}
	return 0;
}

int key_slot_make(const struct repo_format *f, const struct crypt *c,
		  const struct key_slot_new *new, struct key_slot *ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *secrets = NULL;
	struct key_slot s = { 0 };
	int r;

	if (new->rights > crypt_rights(c)) {
		return err_set(e, -EACCES,
			       "this key may add images only, so it cannot give the right to read");
	}
	r = slot_describe(new, &s, e);
	if (r < 0)
		return r;
	secrets = secret_new(CRYPT_SECRETS_SIZE, e);
	if (!secrets)
		return -ENOMEM;
	crypt_export(c, new->rights, secrets->bytes);
	r = slot_seal(&s, f, new->secret, secrets, e);
	if (r == 0)
		*ret = s;
	return r;
}

/* ---- opening ------------------------------------------------------------------------------------ */

static int slot_changed(const struct key_slot *s, struct err *e)
{
	return err_set(e, -EBADMSG,
		       "key slot %s opens, but is not of this repository, or it or the object "
		       "\"format\" was changed",
		       s->id);
}

/* The @secrets are the repository's, and no more than the slot says. */
static int slot_take(const struct key_slot *s, const struct repo_format *f,
		     const struct secret *secrets, struct crypt **ret, struct err *e)
{
	_cleanup_(crypt_freep) struct crypt *c = NULL;
	uint8_t id[REPO_ID_SIZE];
	int r;

	r = crypt_import(secrets->bytes, &c, e);
	if (r == -EBADMSG)
		return slot_changed(s, e);
	if (r < 0)
		return r;
	crypt_repo_id(c, id);
	if (memcmp(id, f->id, sizeof(id)) != 0 || crypt_rights(c) != s->rights)
		return slot_changed(s, e);
	*ret = TAKE_PTR(c);
	return 0;
}

int key_slot_open_passphrase(const struct key_slot *s, const struct repo_format *f,
			     const struct secret *passphrase, struct crypt **ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *key = key_wrap_derive(&s->cost, passphrase, e);
	_cleanup_(secret_freep) struct secret *secrets = NULL;
	uint8_t bound[KEY_WRAP_BOUND];

	if (!key)
		return -ENOMEM;
	secrets = secret_new(CRYPT_SECRETS_SIZE, e);
	if (!secrets)
		return -ENOMEM;
	slot_bound(s, f, bound);
	if (key_wrap_open(key, bound, s->sealed, secrets->bytes, secrets->len) < 0)
		return err_set(e, -ENOKEY, "the passphrase does not open key slot %s", s->id);
	return slot_take(s, f, secrets, ret, e);
}

int key_slot_open_key(const struct key_slot *s, const struct repo_format *f,
		      const struct key_pair *key, struct crypt **ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *secrets = secret_new(CRYPT_SECRETS_SIZE, e);
	uint8_t bound[KEY_WRAP_BOUND];
	int r;

	if (!secrets)
		return -ENOMEM;
	slot_bound(s, f, bound);
	r = key_wrap_open_to(key, bound, s->sealed, secrets->bytes, secrets->len, e);
	if (r == -ENOKEY)
		return err_set(e, r, "the key does not open key slot %s", s->id);
	if (r == -EBADMSG)
		return slot_changed(s, e);
	return r < 0 ? r : slot_take(s, f, secrets, ret, e);
}
