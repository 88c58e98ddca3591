/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/io.h"

#define KEYS_PREFIX   "keys/"
#define KEYS_NAME_MAX (sizeof(KEYS_PREFIX) + KEYS_ID_MAX)

/* @id: of a slot, or what else stands behind the folder. */
static char *keys_name(const char *id, char ret[KEYS_NAME_MAX])
{
	snprintf(ret, KEYS_NAME_MAX, KEYS_PREFIX "%.*s", KEYS_ID_MAX - 1, id);
	return ret;
}

/* ---- loading ------------------------------------------------------------------------------------ */

struct keys_names {
	char ids[KEYS_SLOTS_MAX][KEYS_ID_MAX];
	size_t count;
};

static int keys_list_one(void *ctx, const char *name, uint64_t size)
{
	struct keys_names *n = ctx;

	(void)size;
	if (n->count == KEYS_SLOTS_MAX)
		return -E2BIG;
	snprintf(n->ids[n->count++], KEYS_ID_MAX, "%s", name + strlen(KEYS_PREFIX));
	return 0;
}

/* -ENOENT: it was removed meanwhile. Otherwise as key_slot_from_json(). */
static int keys_get(struct store *s, const struct repo_format *f, const char *id,
		    struct key_slot *ret, struct err *e)
{
	_cleanup_free_ void *text = NULL;
	char name[KEYS_NAME_MAX];
	size_t len;
	int r;

	r = store_get_all(s, keys_name(id, name), KEY_SLOT_JSON_MAX, &text, &len, e);
	if (r == -EFBIG)
		return err_set(e, -EBADMSG, "key slot %s is damaged", id);
	return r < 0 ? r : key_slot_from_json(id, text, len, f, ret, e);
}

static int keys_compare(const void *a, const void *b)
{
	const struct key_slot *x = a, *y = b;

	if (x->created_ns != y->created_ns)
		return x->created_ns < y->created_ns ? -1 : 1;
	return strcmp(x->id, y->id);
}

static int keys_compare_bad(const void *a, const void *b)
{
	return strcmp(((const struct key_bad *)a)->id, ((const struct key_bad *)b)->id);
}

static int keys_load_named(struct store *s, const struct repo_format *f,
			   const struct keys_names *names, struct keys *ret, struct err *e)
{
	for (size_t i = 0; i < names->count; i++) {
		struct key_bad *bad = &ret->bad[ret->damaged];
		struct err what = { 0 };
		int r = keys_get(s, f, names->ids[i], &ret->slots[ret->count], &what);

		if (r == 0) {
			ret->count++;
		} else if (r == -EBADMSG || r == -EXDEV || r == -ENOTSUP) {
			*bad = (struct key_bad){ .foreign = r == -EXDEV, .why = what };
			memcpy(bad->id, names->ids[i], sizeof(bad->id));
			ret->damaged++;
		} else if (r != -ENOENT) {
			return err_set(e, r, "%s", what.text);
		}
	}
	return 0;
}

int keys_load(struct store *s, const struct repo_format *f, struct keys *ret, struct err *e)
{
	_cleanup_free_ struct keys_names *names = calloc(1, sizeof(*names));
	int r;

	*ret = (struct keys){ 0 };
	if (!names)
		return err_oom(e);
	r = store_list(s, KEYS_PREFIX, keys_list_one, names, e);
	if (r == -E2BIG) {
		return err_set(e, r,
			       "there are more than %d key slots, which no sound "
			       "repository has",
			       KEYS_SLOTS_MAX);
	}
	if (r < 0)
		return r;
	ret->slots = calloc(MAX(names->count, (size_t)1), sizeof(*ret->slots));
	ret->bad = calloc(MAX(names->count, (size_t)1), sizeof(*ret->bad));
	if (!ret->slots || !ret->bad)
		return err_oom(e);
	r = keys_load_named(s, f, names, ret, e);
	if (r < 0)
		return r;
	qsort(ret->slots, ret->count, sizeof(*ret->slots), keys_compare);
	qsort(ret->bad, ret->damaged, sizeof(*ret->bad), keys_compare_bad);
	return 0;
}

void keys_done(struct keys *k)
{
	free(k->slots);
	free(k->bad);
	*k = (struct keys){ 0 };
}

/*
 * The one whose id begins with @text; what is called exactly so comes before those that only begin so (in @k->bad, which is
 * sorted, also in place). One of both is set when it returns 0, and none otherwise.
 */
static int keys_find_any(const struct keys *k, const char *text, const struct key_slot **ret,
			 const struct key_bad **ret_bad, struct err *e)
{
	const char *found = NULL;
	size_t at = 0;

	*ret = NULL;
	*ret_bad = NULL;
	for (size_t i = 0; i < k->count + k->damaged; i++) {
		const char *id = i < k->count ? k->slots[i].id : k->bad[i - k->count].id;

		if (!*text || strncmp(id, text, strlen(text)) != 0 ||
		    (found && !strcmp(found, text)))
			continue;
		if (found && strcmp(id, text) != 0) {
			return err_set(e, -ENOTUNIQ, "%s may be key slot %s or %s", text, found,
				       id);
		}
		found = id;
		at = i;
	}
	if (!found)
		return err_set(e, -ENOENT, "there is no key slot %s", text);
	if (at < k->count) {
		*ret = &k->slots[at];
	} else {
		*ret_bad = &k->bad[at - k->count];
	}
	return 0;
}

int keys_find(const struct keys *k, const char *text, const struct key_slot **ret, struct err *e)
{
	const struct key_slot *slot;
	const struct key_bad *bad;
	int r = keys_find_any(k, text, &slot, &bad, e);

	if (r < 0)
		return r;
	if (bad)
		return err_set(e, -EBADMSG, "%s", bad->why.text);
	*ret = slot;
	return 0;
}

/* ---- adding and removing ------------------------------------------------------------------------ */

static int keys_put(struct store *s, const struct repo_format *f, const struct key_slot *slot,
		    struct err *e)
{
	_cleanup_free_ char *text = key_slot_to_json(slot, f);
	char name[KEYS_NAME_MAX];

	if (!text)
		return err_oom(e);
	return store_put(s, keys_name(slot->id, name), text, strlen(text), e);
}

/* Who is about to trust a slot with the repository wants to have seen it there. */
static int keys_check(struct store *s, const struct repo_format *f, const struct key_slot *slot,
		      struct err *e)
{
	_cleanup_free_ char *text = key_slot_to_json(slot, f), *again = NULL;
	struct key_slot back;
	int r;

	r = keys_get(s, f, slot->id, &back, e);
	if (r < 0)
		return r;
	again = key_slot_to_json(&back, f);
	if (!text || !again)
		return err_oom(e);
	if (strcmp(text, again) != 0) {
		return err_set(e, -EBADMSG,
			       "the store gives key slot %s back other than it was put", slot->id);
	}
	return 0;
}

/* One more than KEYS_SLOTS_MAX, and nobody could load any. */
static int keys_have_room(struct store *s, const struct repo_format *f, struct err *e)
{
	struct keys keys;
	int r = keys_load(s, f, &keys, e);

	if (r == 0 && keys.count + keys.damaged >= KEYS_SLOTS_MAX) {
		r = err_set(e, -ENOSPC, "there are %d already, as many as may be: remove one first",
			    KEYS_SLOTS_MAX);
	}
	keys_done(&keys);
	return r;
}

int keys_add(struct store *s, const struct repo_format *f, const struct crypt *c,
	     const struct key_slot_new *new, char ret_id[KEY_SLOT_ID_MAX], struct err *e)
{
	struct key_slot slot;
	int r;

	r = keys_have_room(s, f, e);
	if (r == 0)
		r = key_slot_make(f, c, new, &slot, e);
	if (r == 0)
		r = keys_put(s, f, &slot, e);
	if (r == 0)
		r = keys_check(s, f, &slot, e);
	if (r == 0 && ret_id)
		memcpy(ret_id, slot.id, KEY_SLOT_ID_MAX);
	if (r < 0)
		err_prefix(e, "cannot add a key slot");
	return r;
}

static bool keys_has_full(const struct keys *k, const char *but)
{
	for (size_t i = 0; i < k->count; i++) {
		if (k->slots[i].rights == CRYPT_RIGHTS_FULL && strcmp(k->slots[i].id, but) != 0)
			return true;
	}
	return false;
}

/* Another one may have removed the other slot at the same moment. */
static int keys_remove_checked(struct store *s, const struct repo_format *f,
			       const struct key_slot *slot, struct err *e)
{
	char name[KEYS_NAME_MAX];
	struct keys now;
	bool last;
	int r;

	r = store_del(s, keys_name(slot->id, name), e);
	if (r < 0)
		return r;
	r = keys_load(s, f, &now, e);
	last = r == 0 && !keys_has_full(&now, slot->id);
	keys_done(&now);
	if (!last)
		return r;
	r = keys_put(s, f, slot, e);
	if (r < 0 && r != -EEXIST) {
		err_prefix(e, "key slot %s was the last one, and cannot be put back", slot->id);
		return r;
	}
	return err_set(e, -EBUSY,
		       "key slot %s is the last one with full rights: the other was "
		       "removed meanwhile",
		       slot->id);
}

/*
 * What is only damaged, or newer than this tool, may still be somebody's key: it goes when it is asked for expressly, and
 * never while there is nothing else that could be read. Another repository's opens nothing here.
 */
static int keys_remove_bad(struct store *s, const struct keys *k, const struct key_bad *bad,
			   bool force, struct err *e)
{
	char name[KEYS_NAME_MAX];

	if (!force) {
		return err_set(e, -EBADMSG, "%.300s; to remove it for good: --force",
			       bad->why.text);
	}
	if (!bad->foreign && !keys_has_full(k, "")) {
		return err_set(e, -EBUSY,
			       "%.300s, but no other one with full rights is left: this one may be "
			       "all that the repository can be opened with once it is mended",
			       bad->why.text);
	}
	return store_del(s, keys_name(bad->id, name), e);
}

int keys_remove(struct store *s, const struct repo_format *f, const char *id, bool force,
		struct err *e)
{
	const struct key_slot *slot = NULL;
	const struct key_bad *bad = NULL;
	char name[KEYS_NAME_MAX];
	struct keys keys;
	int r;

	r = keys_load(s, f, &keys, e);
	if (r == 0)
		r = keys_find_any(&keys, id, &slot, &bad, e);
	if (bad)
		r = keys_remove_bad(s, &keys, bad, force, e);
	if (!slot)
		goto out;
	if (force || slot->rights != CRYPT_RIGHTS_FULL) {
		r = store_del(s, keys_name(slot->id, name), e);
	} else if (keys_has_full(&keys, slot->id)) {
		r = keys_remove_checked(s, f, slot, e);
	} else {
		r = err_set(e, -EBUSY,
			    "key slot %s is the last one with full rights: without it nobody can "
			    "read the repository ever again",
			    slot->id);
	}
out:
	keys_done(&keys);
	return r;
}

/* What a change that was interrupted may have left: a slot as @new, but @old. 1: @ret is it; 0: there is none. */
static int keys_find_changed(struct store *s, const struct repo_format *f,
			     const struct key_slot_new *new, const char *old,
			     char ret[KEY_SLOT_ID_MAX], struct err *e)
{
	struct keys keys;
	int r = keys_load(s, f, &keys, e);

	for (size_t i = 0; r == 0 && new->secret &&i < keys.count; i++) {
		_cleanup_(crypt_freep) struct crypt *c = NULL;
		const struct key_slot *slot = &keys.slots[i];

		if (slot->type != KEY_SLOT_PASSPHRASE || slot->rights != new->rights ||
		    !strcmp(slot->id, old) ||
		    key_slot_open_passphrase(slot, f, new->secret, &c, NULL) < 0)
			continue;
		memcpy(ret, slot->id, KEY_SLOT_ID_MAX);
		r = 1;
	}
	keys_done(&keys);
	return r;
}

int keys_change(struct store *s, const struct repo_format *f, const struct crypt *c,
		char id[KEY_SLOT_ID_MAX], const struct key_slot_new *new, struct err *e)
{
	char old[KEY_SLOT_ID_MAX];
	int r;

	memcpy(old, id, sizeof(old));
	r = keys_find_changed(s, f, new, old, id, e);
	if (r == 0)
		r = keys_add(s, f, c, new, id, e);
	if (r < 0)
		return r;
	r = keys_remove(s, f, old, false, e);
	if (r < 0) {
		err_prefix(e, "key slot %s was added, but the old one cannot be removed", id);
		return r;
	}
	return 0;
}

int keys_sweep(struct store *s, struct err *e)
{
	struct repo_format there;
	char name[KEYS_NAME_MAX];
	struct keys keys;
	int r;

	r = repo_format_get(s, &there, e);
	if (r < 0)
		return r;
	r = keys_load(s, &there, &keys, e);
	for (size_t i = 0; i < keys.damaged && r == 0; i++) {
		if (keys.bad[i].foreign)
			r = store_del(s, keys_name(keys.bad[i].id, name), e);
	}
	keys_done(&keys);
	return r;
}

int keys_init(struct store *s, struct repo_format *f, const struct key_slot_new *slots, size_t n,
	      struct crypt **ret, struct err *e)
{
	_cleanup_(crypt_freep) struct crypt *c = NULL;
	bool full = false;
	int r;

	for (size_t i = 0; i < n; i++)
		full = full || slots[i].rights == CRYPT_RIGHTS_FULL;
	if (!full) {
		return err_set(e, -EINVAL,
			       "a repository needs a key with full rights: else nobody could ever "
			       "read it");
	}
	r = crypt_new(&c, e);
	if (r < 0)
		return r;
	crypt_repo_id(c, f->id);
	f->encrypted = true;
	if (!f->created_ns)
		f->created_ns = io_realtime_ns();
	for (size_t i = 0; i < n; i++) {
		r = keys_add(s, f, c, &slots[i], NULL, e);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(c);
	return 0;
}

/* ---- unlocking ---------------------------------------------------------------------------------- */

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
		return err_set(e, -ENOKEY,
			       "no key slot opens, and %zu could not be read (the first: %.200s)",
			       keys->damaged, keys->bad[0].why.text);
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
		       char ret_id[KEY_SLOT_ID_MAX], struct err *e)
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
	if (slot && ret_id)
		memcpy(ret_id, slot->id, KEY_SLOT_ID_MAX);
	keys_done(&keys);
	return r;
}

int keys_unlock_passphrase(struct store *s, const struct repo_format *f,
			   const struct secret *passphrase, struct crypt **ret,
			   char ret_id[KEY_SLOT_ID_MAX], struct err *e)
{
	struct keys_try t = { .format = f, .type = KEY_SLOT_PASSPHRASE, .passphrase = passphrase };

	return keys_unlock(s, &t, ret, ret_id, e);
}

int keys_unlock_key(struct store *s, const struct repo_format *f, const struct key_pair *key,
		    struct crypt **ret, char ret_id[KEY_SLOT_ID_MAX], struct err *e)
{
	struct keys_try t = { .format = f, .type = KEY_SLOT_RECIPIENT, .key = key };

	if (!key->has_secret)
		return err_set(e, -EINVAL, "this is a public key: only its secret half unlocks");
	if (key->has_repository && memcmp(key->repository, f->id, REPO_ID_SIZE) != 0) {
		return err_set(e, -EPERM,
			       "the key's file says that it is for another repository than this "
			       "one: was it replaced?");
	}
	return keys_unlock(s, &t, ret, ret_id, e);
}
