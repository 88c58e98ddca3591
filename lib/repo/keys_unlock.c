/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which of the key slots opens, for a passphrase or a key. */
#include <errno.h>
#include <string.h>

#include "lib/repo/keys.h"

/* What is tried, and how it went. */
struct keys_try {
	const struct repo_format *format;
	enum key_slot_type type;
	const struct secret *passphrase;
	const struct key_pair *key;
	size_t tried;
	uint64_t work; /* passes times bytes */
	struct err bad;
};

/* -ENOKEY: not with this slot. */
static int keys_try_slot(struct keys_try *t, const struct key_slot *slot, struct crypt **ret,
			 struct err *e)
{
	if (t->type == KEY_SLOT_RECIPIENT) {
		if (memcmp(slot->public, t->key->public, KEY_SIZE) != 0)
			return -ENOKEY;
		t->tried++;
		return key_slot_open_key(slot, t->format, t->key, ret, e);
	}
	t->work += slot->cost.operations * slot->cost.memory;
	if (t->work > KEY_WRAP_ALL_WORK_MAX) {
		return err_set(e, -EBADMSG,
			       "the key slots together ask for more work than sound ones do");
	}
	t->tried++;
	return key_slot_open_passphrase(slot, t->format, t->passphrase, ret, e);
}

/* Those with @rights. -ENOKEY: with none of them; what opened and was wrong is noted in @t. */
static int keys_try_rights(struct keys_try *t, const struct keys *keys, enum crypt_rights rights,
			   struct crypt **ret, const struct key_slot **ret_slot, struct err *e)
{
	for (size_t i = 0; i < keys->count; i++) {
		const struct key_slot *slot = &keys->slots[i];
		struct err what = { 0 };
		int r;

		if (slot->type != t->type || slot->rights != rights)
			continue;
		r = keys_try_slot(t, slot, ret, &what);
		if (r == 0) {
			*ret_slot = slot;
			return 0;
		}
		if (r == -EBADMSG && !t->bad.code) {
			t->bad = what;
		} else if (r != -ENOKEY && r != -EBADMSG) {
			return err_set(e, r, "%s", what.text);
		}
	}
	return -ENOKEY;
}

static int keys_nothing_opened(const struct keys_try *t, const struct keys *keys, struct err *e)
{
	if (t->bad.code)
		return err_set(e, t->bad.code, "%s", t->bad.text);
	if (keys->damaged) {
		/* one of our own rather than another repository's, which would not open this one */
		const struct key_bad *bad = keys->bad;

		while (bad->foreign && bad + 1 < keys->bad + keys->damaged)
			bad++;
		/* no passphrase was wrong, and no other one would do */
		return err_set(e, !t->tried && bad->may_be_good ? bad->why.code : -ENOKEY,
			       "no key slot opens, and %zu could not be read (the first: %.200s)",
			       keys->damaged, bad->why.text);
	}
	if (!keys->count)
		return err_set(e, -ENOKEY, "the repository has no key slots any more");
	if (t->type == KEY_SLOT_RECIPIENT) {
		return err_set(e, -ENOKEY,
			       "the repository has no slot for this key: it is another one's, or "
			       "the slot was removed");
	}
	return err_set(e, -ENOKEY,
		       "the passphrase opens none of the repository's %zu passphrase slots: it is "
		       "wrong, its slot was removed, or the object \"format\" was changed",
		       t->tried);
}

static int keys_unlock(struct store *s, struct keys_try *t, struct crypt **ret,
		       struct key_slot *ret_slot, struct err *e)
{
	const struct key_slot *slot = NULL;
	struct keys keys;
	int r;

	if (!t->format->encrypted)
		return err_set(e, -EINVAL, "the repository is not encrypted");
	r = keys_load(s, t->format, &keys, e);
	if (r == 0) {
		r = keys_try_rights(t, &keys, CRYPT_RIGHTS_FULL, ret, &slot, e);
		if (r == -ENOKEY)
			r = keys_try_rights(t, &keys, CRYPT_RIGHTS_WRITE, ret, &slot, e);
		if (r == -ENOKEY)
			r = keys_nothing_opened(t, &keys, e);
	}
	if (slot && ret_slot)
		*ret_slot = *slot;
	keys_done(&keys);
	return r;
}

int keys_unlock_passphrase(struct store *s, const struct repo_format *f,
			   const struct secret *passphrase, struct crypt **ret,
			   struct key_slot *ret_slot, struct err *e)
{
	struct keys_try t = { .format = f, .type = KEY_SLOT_PASSPHRASE, .passphrase = passphrase };

	return keys_unlock(s, &t, ret, ret_slot, e);
}

int keys_unlock_key(struct store *s, const struct repo_format *f, const struct key_pair *key,
		    struct crypt **ret, struct key_slot *ret_slot, struct err *e)
{
	struct keys_try t = { .format = f, .type = KEY_SLOT_RECIPIENT, .key = key };

	if (!key->has_secret)
		return err_set(e, -EINVAL, "this is a public key: only its secret half unlocks");
	if (key->has_repository && memcmp(key->repository, f->id, REPO_ID_SIZE) != 0) {
		return err_set(e, -EPERM,
			       "the key's file says that it is for another repository than this "
			       "one: was it replaced?");
	}
	return keys_unlock(s, &t, ret, ret_slot, e);
}
