/* SPDX-License-Identifier: GPL-2.0-or-later */
/* keys-fixture - a repository with a key slot, for test-keys and test-keys-lies. Included once by each. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/repo/keys.h"

/* A repository with one passphrase, "old". */
struct fixture {
	struct store *store;
	struct repo_format format;
	struct crypt *crypt;
};

static inline struct secret *secret_of(const char *text)
{
	struct secret *s = secret_new(strlen(text), NULL);

	assert_non_null(s);
	memcpy(s->bytes, text, s->len);
	return s;
}

/* The cheapest slot. */
static inline struct key_slot_new slot_for(const struct secret *s, enum crypt_rights rights)
{
	return (struct key_slot_new){ .rights = rights,
				      .label = "test",
				      .secret = s,
				      .operations = KEY_WRAP_OPERATIONS_MIN,
				      .memory = KEY_WRAP_MEMORY_MIN };
}

static inline struct key_slot_new slot_to(const struct key_pair *k, enum crypt_rights rights)
{
	struct key_slot_new new = { .rights = rights, .label = "client" };

	memcpy(new.public, k->public, KEY_SIZE);
	return new;
}

static inline int setup(void **state)
{
	_cleanup_(secret_freep) struct secret *old = secret_of("old");
	struct key_slot_new new = slot_for(old, CRYPT_RIGHTS_FULL);
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->format.chunk_shift = 18;
	assert_int_equal(store_memory_new(&f->store), 0);
	assert_int_equal(keys_init(f->store, &f->format, &new, 1, &f->crypt, NULL), 0);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	crypt_free(f->crypt);
	store_free(f->store);
	free(f);
	return 0;
}

/* Returns what unlocking does; what opens must be the very secrets. */
static inline int try_passphrase(const struct fixture *f, const char *text, enum crypt_rights *ret,
				 struct err *e)
{
	_cleanup_(secret_freep) struct secret *s = secret_of(text);
	_cleanup_(crypt_freep) struct crypt *c = NULL;
	uint8_t id[REPO_ID_SIZE];
	int r;

	r = keys_unlock_passphrase(f->store, &f->format, s, &c, NULL, e);
	assert_int_equal(r == 0, c != NULL);
	if (r < 0)
		return r;
	crypt_repo_id(c, id);
	assert_memory_equal(id, f->format.id, sizeof(id));
	if (ret)
		*ret = crypt_rights(c);
	return 0;
}

static inline int try_key(const struct fixture *f, const struct key_pair *k, enum crypt_rights *ret,
			  struct err *e)
{
	_cleanup_(crypt_freep) struct crypt *c = NULL;
	int r = keys_unlock_key(f->store, &f->format, k, &c, NULL, e);

	if (r == 0 && ret)
		*ret = crypt_rights(c);
	return r;
}

static inline size_t count_slots(const struct fixture *f, size_t *damaged)
{
	struct keys keys;
	size_t n;

	assert_int_equal(keys_load(f->store, &f->format, &keys, NULL), 0);
	n = keys.count;
	if (damaged) {
		*damaged = keys.damaged;
	} else {
		assert_int_equal(keys.damaged, 0);
	}
	keys_done(&keys);
	return n;
}

static inline void first_id(const struct fixture *f, char ret[KEY_SLOT_ID_MAX])
{
	struct keys keys;

	assert_int_equal(keys_load(f->store, &f->format, &keys, NULL), 0);
	assert_true(keys.count > 0);
	memcpy(ret, keys.slots[0].id, KEY_SLOT_ID_MAX);
	keys_done(&keys);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
