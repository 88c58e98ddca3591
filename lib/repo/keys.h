/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keys - the key slots of an encrypted repository (key_slot.h), objects "keys/<16 hexadecimal digits>".
 *
 * Removing a slot keeps its key from opening the repository. It does not take back what its owner has read, nor the
 * secrets, if they were kept: only a new repository does.
 *
 * Invariants:
 *  K1. What opened a repository before an operation that failed or was killed, opens it afterwards, but for the slot
 *	that was asked to be removed.
 *  K2. A slot with full rights is removed only while another is there, unless it is forced. (Two people who remove
 *	one each at the same moment: both see it, and both put theirs back.) A damaged one is never removed instead of
	another: what an id begins with must mean one object only.
 *
 * Blocks on the store; thread-safe. Hostile slots are safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/crypt.h"
#include "lib/repo/key_slot.h"
#include "lib/repo/key_text.h"
#include "lib/repo/key_wrap.h"
#include "lib/repo/repo.h"
#include "lib/repo/secret.h"
#include "lib/repo/store.h"

/* objects in keys/; and bytes of what stands behind "keys/" in their names, with the end */
#define KEYS_SLOTS_MAX 256
#define KEYS_ID_MAX    (STORE_NAME_MAX + 1)

/* What lies in keys/ and is no slot of the repository. */
struct key_bad {
	char id[KEYS_ID_MAX];
	bool foreign; /* a whole one, of another repository: a "repo init" that was killed leaves such */
	bool may_be_good; /* it cannot be read, now or by us, or understood by a newer tool only: nobody should remove it */
	struct err why;
};
/* The slots of one repository, oldest first. */
struct keys {
	struct key_slot *slots;
	size_t count;
	/* that are damaged, could not be read or understood, or are another repository's; left out above; by name */
	struct key_bad *bad;
	size_t damaged;
};
/* Filled also on failure; always ends in keys_done(). */
int keys_load(struct store *s, const struct repo_format *f, struct keys *ret, struct err *e);
void keys_done(struct keys *k);
/* The one whose id begins with @text. -ENOENT; -ENOTUNIQ; -EBADMSG: it is one of @k->bad. */
int keys_find(const struct keys *k, const char *text, const struct key_slot **ret, struct err *e);

/*
 * Make the secrets of a new repository and put its first slots (@n, one of them with full rights). Sets @f->id and
 * @f->encrypted, and created_ns where it is 0; chunk_shift must be set. The caller then makes the repository of that @f by
 * repo_init(): until then there is none, and what is left behind by a crash before is never taken for anything.
 */
int keys_init(struct store *s, struct repo_format *f, const struct key_slot_new *slots, size_t n,
	      struct crypt **ret, struct err *e);
/*
 * Add a slot. Steps, each of which a crash may follow:
 *	1. it is put
 *	2. it is read back, and found to be what was put
 * -ENOSPC: there are KEYS_SLOTS_MAX. @c: unlocked; -EACCES when it has fewer rights than the slot shall give. @ret_id may be NULL.
 */
int keys_add(struct store *s, const struct repo_format *f, const struct crypt *c,
	     const struct key_slot_new *new, char ret_id[KEY_SLOT_ID_MAX], struct err *e);
/*
 * Make the end of an init: delete the slots that are whole, and of another repository than the one that is in the store. They
 * are what inits left that were killed, or came second. Called when "format" is there: who has not put it by then will
 * find that there is a repository, so no slot goes that could come to be of use.
 */
int keys_sweep(struct store *s, struct err *e);
/*
 * -ENOENT; -EBUSY: it is the last one with full rights, and not @force. What is damaged goes with @force only (-EBADMSG),
 * and not while there is no slot with full rights that is whole (-EBUSY). Needs no key, as a thief would not.
 */
int keys_remove(struct store *s, const struct repo_format *f, const char *id, bool force,
		struct err *e);
/*
 * @new takes the place of the slot @id, which becomes the new one's: steps 1 and 2 of keys_add(), then
 *	3. the old one is deleted
 * Whatever fails, the old or the new one opens the repository. One that was interrupted may have done 1 and 2: when there is a
 * slot of these rights that the new passphrase opens already, it takes the place. Otherwise each try would leave one more, and
 * who changes that passphrase later would change one of them only.
 *
 * The slots are loaded once before 1, and when the old one had full rights once more after 3: what K2 asks for at 3 is the new
 * one, which was just read; when somebody removed that since, it is seen after 3, and the old one is put back.
 */
int keys_change(struct store *s, const struct repo_format *f, const struct crypt *c,
		char id[KEY_SLOT_ID_MAX], const struct key_slot_new *new, struct err *e);

/*
 * All slots of the type are tried, those with full rights first. -ENOKEY: none opens (wrong, or removed: nobody can tell
 * which); -EBADMSG: one opens, but it or the object "format" was changed. @ret_slot (may be NULL): the one that
 * opened. Slots that cannot be read are passed over, and spoken of when no other one opens. keys_unlock.c.
 */
int keys_unlock_passphrase(struct store *s, const struct repo_format *f,
			   const struct secret *passphrase, struct crypt **ret,
			   struct key_slot *ret_slot, struct err *e);
/* -EPERM when the key's file names another repository. */
int keys_unlock_key(struct store *s, const struct repo_format *f, const struct key_pair *key,
		    struct crypt **ret, struct key_slot *ret_slot, struct err *e);
