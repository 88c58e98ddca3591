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

/*
 * Is it only this object that @r speaks of? A sector that cannot be read, or a file that is somebody else's, must lock nobody
 * out whose own slot is whole. When the store itself is gone, it cannot be listed either.
 */
static bool keys_is_bad(int r)
{
	return r == -EBADMSG || r == -EXDEV || r == -ENOTSUP || r == -EIO || r == -EUCLEAN ||
	       r == -ENODATA || r == -EACCES || r == -EPERM;
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
		} else if (keys_is_bad(r)) {
			*bad = (struct key_bad){ .foreign = r == -EXDEV,
						 .may_be_good = r != -EXDEV && r != -EBADMSG,
						 .why = what };
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
static int keys_check(struct store *s, const char *name, const char *text, struct err *e)
{
	_cleanup_free_ void *back = NULL;
	size_t len;
	int r;

	r = store_get_all(s, name, KEY_SLOT_JSON_MAX, &back, &len, e);
	if (r < 0 && r != -EFBIG)
		return r;
	if (r < 0 || len != strlen(text) || memcmp(back, text, len) != 0)
		return err_set(e, -EBADMSG, "the store gives %s back other than it was put", name);
	return 0;
}

/* Steps 1 and 2 of keys_add(). */
static int keys_make(struct store *s, const struct repo_format *f, const struct crypt *c,
		     const struct key_slot_new *new, struct key_slot *ret, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	char name[KEYS_NAME_MAX];
	int r;

	r = key_slot_make(f, c, new, ret, e);
	if (r < 0)
		return r;
	text = key_slot_to_json(ret, f);
	if (!text)
		return err_oom(e);
	r = store_put(s, keys_name(ret->id, name), text, strlen(text), e);
	return r < 0 ? r : keys_check(s, name, text, e);
}

/* One more than KEYS_SLOTS_MAX, and nobody could load any. */
static int keys_have_room(const struct keys *keys, struct err *e)
{
	if (keys->count + keys->damaged < KEYS_SLOTS_MAX)
		return 0;
	return err_set(e, -ENOSPC, "there are %d already, as many as may be: remove one first",
		       KEYS_SLOTS_MAX);
}

int keys_add(struct store *s, const struct repo_format *f, const struct crypt *c,
	     const struct key_slot_new *new, char ret_id[KEY_SLOT_ID_MAX], struct err *e)
{
	struct key_slot slot;
	struct keys keys;
	int r;

	r = keys_load(s, f, &keys, e);
	if (r == 0)
		r = keys_have_room(&keys, e);
	keys_done(&keys);
	if (r == 0)
		r = keys_make(s, f, c, new, &slot, e);
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
		       "removed meanwhile, or cannot be read any more",
		       slot->id);
}

/* @other: there is another one with full rights. */
static int keys_remove_slot(struct store *s, const struct repo_format *f,
			    const struct key_slot *slot, bool other, struct err *e)
{
	char name[KEYS_NAME_MAX];

	if (slot->rights != CRYPT_RIGHTS_FULL)
		return store_del(s, keys_name(slot->id, name), e);
	if (other)
		return keys_remove_checked(s, f, slot, e);
	return err_set(e, -EBUSY,
		       "key slot %s is the last one with full rights: without it nobody can "
		       "read the repository ever again",
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
	if (slot && force) {
		r = store_del(s, keys_name(slot->id, name), e);
	} else if (slot) {
		r = keys_remove_slot(s, f, slot, keys_has_full(&keys, slot->id), e);
	}
	keys_done(&keys);
	return r;
}

/* What a change that was interrupted may have left: a slot as @new, but @old. NULL: there is none. */
static const struct key_slot *keys_find_changed(const struct keys *keys,
						const struct repo_format *f,
						const struct key_slot_new *new,
						const struct key_slot *old)
{
	for (size_t i = 0; new->secret &&i < keys->count; i++) {
		_cleanup_(crypt_freep) struct crypt *c = NULL;
		const struct key_slot *slot = &keys->slots[i];

		if (slot->type == KEY_SLOT_PASSPHRASE &&
		    slot->rights == new->rights &&slot !=
			    old &&key_slot_open_passphrase(slot, f, new->secret, &c, NULL) == 0)
			return slot;
	}
	return NULL;
}

/* A change while it goes on. */
struct keys_changing {
	struct store *store;
	const struct repo_format *format;
	const struct crypt *crypt;
	const struct key_slot_new *new;
	struct keys keys; /* before it */
};

/* Steps 1 and 2, where they are not done yet; then @ret_id takes the place of @old. */
static int keys_change_slot(const struct keys_changing *k, const struct key_slot *old,
			    char ret_id[KEY_SLOT_ID_MAX], struct err *e)
{
	const struct key_slot *there = keys_find_changed(&k->keys, k->format, k->new, old);
	struct key_slot made = { 0 };
	bool other;
	int r = 0;

	if (!there) {
		r = keys_have_room(&k->keys, e);
		if (r == 0)
			r = keys_make(k->store, k->format, k->crypt, k->new, &made, e);
		if (r < 0) {
			err_prefix(e, "cannot add a key slot");
			return r;
		}
		there = &made;
	}
	memcpy(ret_id, there->id, KEY_SLOT_ID_MAX);
	other = there->rights == CRYPT_RIGHTS_FULL || keys_has_full(&k->keys, old->id);
	r = keys_remove_slot(k->store, k->format, old, other, e);
	if (r < 0)
		err_prefix(e, "key slot %s was added, but the old one cannot be removed", ret_id);
	return r;
}

int keys_change(struct store *s, const struct repo_format *f, const struct crypt *c,
		char id[KEY_SLOT_ID_MAX], const struct key_slot_new *new, struct err *e)
{
	struct keys_changing k = { .store = s, .format = f, .crypt = c, .new = new };
	const struct key_slot *old = NULL;
	int r;

	r = keys_load(s, f, &k.keys, e);
	if (r == 0)
		r = keys_find(&k.keys, id, &old, e);
	if (old)
		r = keys_change_slot(&k, old, id, e);
	keys_done(&k.keys);
	return r;
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
