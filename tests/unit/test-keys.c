/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/keys-fixture.h"

static void a_passphrase_opens_and_a_wrong_one_does_not(void **state)
{
	struct fixture *f = *state;
	enum crypt_rights rights = 0;
	struct err e = { 0 };

	assert_int_equal(try_passphrase(f, "old", &rights, NULL), 0);
	assert_int_equal(rights, CRYPT_RIGHTS_FULL);
	assert_int_equal(try_passphrase(f, "Old", NULL, &e), -ENOKEY);
	assert_non_null(strstr(e.text, "wrong"));
	assert_int_equal(try_passphrase(f, "old\n", NULL, NULL), -ENOKEY);
}

static void a_recipient_opens_with_the_rights_it_was_given(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *full = NULL, *write = NULL, *none = NULL;
	struct fixture *f = *state;
	struct key_slot_new a, b;
	enum crypt_rights rights = 0;
	struct err e = { 0 };

	full = key_pair_generate(NULL);
	assert_non_null(full);
	write = key_pair_generate(NULL);
	assert_non_null(write);
	none = key_pair_generate(NULL);
	assert_non_null(none);
	a = slot_to(full, CRYPT_RIGHTS_FULL);
	b = slot_to(write, CRYPT_RIGHTS_WRITE);
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &a, NULL, NULL), 0);
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &b, NULL, NULL), 0);
	assert_int_equal(try_key(f, full, &rights, NULL), 0);
	assert_int_equal(rights, CRYPT_RIGHTS_FULL);
	assert_int_equal(try_key(f, write, &rights, NULL), 0);
	assert_int_equal(rights, CRYPT_RIGHTS_WRITE);
	assert_int_equal(try_key(f, none, NULL, &e), -ENOKEY);
	assert_non_null(strstr(e.text, "no slot for this key"));
	/* the public half is no key */
	write->has_secret = false;
	assert_int_equal(try_key(f, write, NULL, NULL), -EINVAL);
}

static void who_may_only_write_cannot_give_the_right_to_read(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("client");
	_cleanup_(crypt_freep) struct crypt *write = NULL;
	struct fixture *f = *state;
	struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_WRITE);
	enum crypt_rights rights = 0;

	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, NULL, NULL), 0);
	assert_int_equal(keys_unlock_passphrase(f->store, &f->format, s, &write, NULL, NULL), 0);
	new.rights = CRYPT_RIGHTS_FULL;
	assert_int_equal(keys_add(f->store, &f->format, write, &new, NULL, NULL), -EACCES);
	/* what it was given it can pass on */
	new.rights = CRYPT_RIGHTS_WRITE;
	assert_int_equal(keys_add(f->store, &f->format, write, &new, NULL, NULL), 0);
	assert_int_equal(count_slots(f, NULL), 3);
	assert_int_equal(try_passphrase(f, "client", &rights, NULL), 0);
	assert_int_equal(rights, CRYPT_RIGHTS_WRITE);
}

static void a_revoked_key_opens_nothing(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *k = NULL;
	struct fixture *f = *state;
	char id[KEY_SLOT_ID_MAX];
	struct key_slot_new new;

	k = key_pair_generate(NULL);
	assert_non_null(k);
	new = slot_to(k, CRYPT_RIGHTS_FULL);
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, id, NULL), 0);
	assert_int_equal(try_key(f, k, NULL, NULL), 0);
	assert_int_equal(keys_remove(f->store, &f->format, id, false, NULL), 0);
	assert_int_equal(try_key(f, k, NULL, NULL), -ENOKEY);
	assert_int_equal(keys_remove(f->store, &f->format, id, false, NULL), -ENOENT);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
}

static void the_last_full_slot_is_not_removed_unless_forced(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("client");
	struct fixture *f = *state;
	struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_WRITE);
	char id[KEY_SLOT_ID_MAX];
	struct err e = { 0 };

	first_id(f, id);
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, NULL, NULL), 0);
	assert_int_equal(keys_remove(f->store, &f->format, id, false, &e), -EBUSY);
	assert_non_null(strstr(e.text, "last one with full rights"));
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
	assert_int_equal(keys_remove(f->store, &f->format, id, true, NULL), 0);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), -ENOKEY);
	assert_int_equal(try_passphrase(f, "client", NULL, NULL), 0);
}

static void a_changed_passphrase_takes_the_place_of_the_old_one(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("new");
	struct fixture *f = *state;
	struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_FULL);
	char id[KEY_SLOT_ID_MAX];

	first_id(f, id);
	assert_int_equal(keys_change(f->store, &f->format, f->crypt, id, &new, NULL), 0);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), -ENOKEY);
	assert_int_equal(try_passphrase(f, "new", NULL, NULL), 0);
	assert_int_equal(count_slots(f, NULL), 1);
}

/* One more than can be loaded would lock everybody out. */
static void there_are_only_as_many_slots_as_can_be_loaded(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *k = key_pair_generate(NULL);
	struct fixture *f = *state;
	struct key_slot_new new;
	struct err e = { 0 };

	assert_non_null(k);
	new = slot_to(k, CRYPT_RIGHTS_WRITE);
	for (size_t n = 1; n < KEYS_SLOTS_MAX; n++)
		assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, NULL, NULL), 0);
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, NULL, &e), -ENOSPC);
	assert_non_null(strstr(e.text, "remove one"));
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
}

/* Another slot for the same passphrase would still open when that is changed. */
static void a_change_that_is_done_again_adds_no_second_slot(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("second"), *third = secret_of("third");
	struct key_slot_new second = slot_for(s, CRYPT_RIGHTS_FULL);
	struct key_slot_new weaker = slot_for(s, CRYPT_RIGHTS_WRITE);
	struct key_slot_new last = slot_for(third, CRYPT_RIGHTS_FULL);
	struct fixture *f = *state;
	char id[KEY_SLOT_ID_MAX], before[KEY_SLOT_ID_MAX];

	first_id(f, id);
	/* one that merely has the same passphrase, and what a change leaves that is killed before its third step */
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &weaker, NULL, NULL), 0);
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &second, before, NULL), 0);
	assert_int_equal(keys_change(f->store, &f->format, f->crypt, id, &second, NULL), 0);
	assert_string_equal(id, before);
	assert_int_equal(count_slots(f, NULL), 2);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), -ENOKEY);
	assert_int_equal(keys_change(f->store, &f->format, f->crypt, id, &last, NULL), 0);
	assert_int_equal(try_passphrase(f, "third", NULL, NULL), 0);
	assert_int_equal(count_slots(f, NULL), 2);
}

/* K1: @at, @fault during a change; afterwards the old or the new passphrase opens. */
static void change_with_fault(uint64_t at, enum store_fault fault, struct fixture *f)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("new");
	struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_FULL);
	char id[KEY_SLOT_ID_MAX];
	struct store *faulty = NULL;
	bool old_opens, new_opens;
	int r;

	first_id(f, id);
	assert_int_equal(store_fault_new(f->store, &faulty), 0);
	store_fault_at(faulty, at, fault, -EIO);
	r = keys_change(faulty, &f->format, f->crypt, id, &new, NULL);
	f->store = store_fault_release(faulty);
	old_opens = try_passphrase(f, "old", NULL, NULL) == 0;
	new_opens = try_passphrase(f, "new", NULL, NULL) == 0;
	assert_true(old_opens || new_opens);
	/* what was reported as done is done */
	if (r == 0)
		assert_true(new_opens && !old_opens);
	/* nothing that is neither */
	count_slots(f, NULL);
	/* and it can be done again */
	first_id(f, id);
	if (old_opens && !new_opens) {
		assert_int_equal(keys_change(f->store, &f->format, f->crypt, id, &new, NULL), 0);
	}
	assert_int_equal(try_passphrase(f, "new", NULL, NULL), 0);
}

static void no_failure_of_a_change_loses_the_last_key(void **state)
{
	for (enum store_fault fault = STORE_FAULT_FAIL; fault <= STORE_FAULT_DEAD_AFTER; fault++) {
		for (uint64_t at = 0; at < 4; at++) {
			void *own = NULL;

			setup(&own);
			change_with_fault(at, fault, own);
			teardown(&own);
		}
	}
}

static void no_failure_of_adding_or_removing_loses_a_key(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("second");
	struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_FULL);

	for (enum store_fault fault = STORE_FAULT_FAIL; fault <= STORE_FAULT_DEAD_AFTER; fault++) {
		for (uint64_t at = 0; at < 3; at++) {
			char first[KEY_SLOT_ID_MAX], second[KEY_SLOT_ID_MAX] = "";
			struct store *faulty = NULL;
			void *own = NULL;
			struct fixture *f;
			int r;

			setup(&own);
			f = own;
			first_id(f, first);
			assert_int_equal(store_fault_new(f->store, &faulty), 0);
			store_fault_at(faulty, at, fault, -EIO);
			r = keys_add(faulty, &f->format, f->crypt, &new, second, NULL);
			if (r == 0)
				keys_remove(faulty, &f->format, second, false, NULL);
			f->store = store_fault_release(faulty);
			assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
			teardown(&own);
		}
	}
}

/* A sector went bad below one slot: who has another one is not locked out. */
static void a_slot_that_cannot_be_read_hinders_no_other(void **state)
{
	static const int errors[] = { -EIO, -EUCLEAN, -ENODATA, -EACCES, -EPERM };
	_cleanup_(secret_freep) struct secret *s = secret_of("second");
	struct fixture *f = *state;
	struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_FULL);
	char first[KEY_SLOT_ID_MAX], second[KEY_SLOT_ID_MAX], name[32];
	struct store *faulty = NULL;

	first_id(f, first);
	snprintf(name, sizeof(name), "keys/%s", first);
	assert_int_equal(store_fault_new(f->store, &faulty), 0);
	f->store = faulty;
	/* where there is no other one, nobody shall think that his passphrase is wrong */
	store_fault_get_of(faulty, name, -EIO);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), -EIO);
	store_fault_get_of(faulty, NULL, 0);
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, second, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		struct err e = { 0 };
		struct keys keys;

		store_fault_get_of(faulty, name, errors[i]);
		assert_int_equal(try_passphrase(f, "second", NULL, NULL), 0);
		assert_int_equal(try_passphrase(f, "old", NULL, &e), -ENOKEY);
		assert_non_null(strstr(e.text, "1 could not be read"));
		assert_non_null(strstr(e.text, "cannot be read, on purpose"));
		/* it is listed; it does not count as another one; nor can it be taken away by the way */
		assert_int_equal(keys_load(faulty, &f->format, &keys, NULL), 0);
		assert_int_equal(keys.damaged, 1);
		assert_string_equal(keys.bad[0].id, first);
		assert_false(keys.bad[0].foreign);
		assert_true(keys.bad[0].may_be_good);
		keys_done(&keys);
		assert_int_equal(keys_remove(faulty, &f->format, second, false, &e), -EBUSY);
		assert_int_equal(keys_remove(faulty, &f->format, first, false, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "--force"));
	}
	/* what is wrong with us, or with the whole store, is no slot's fault */
	store_fault_get_of(faulty, name, -ENOMEM);
	assert_int_equal(try_passphrase(f, "second", NULL, NULL), -ENOMEM);
	store_fault_get_of(faulty, NULL, 0);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
	store_fault_at(faulty, 0, STORE_FAULT_DEAD, -EIO);
	assert_int_equal(keys_remove(faulty, &f->format, second, false, NULL), -EIO);
	assert_int_equal(try_passphrase(f, "second", NULL, NULL), -EIO);
	f->store = store_fault_release(faulty);
	assert_int_equal(count_slots(f, NULL), 2);
}

/* Before the first step and, as K2 asks for, after the last one. */
static void a_change_loads_the_slots_twice(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("new"), *t = secret_of("client");
	struct fixture *f = *state;
	struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_FULL);
	struct key_slot_new write = slot_for(t, CRYPT_RIGHTS_WRITE);
	struct store *faulty = NULL;
	char id[KEY_SLOT_ID_MAX];

	first_id(f, id);
	assert_int_equal(store_fault_new(f->store, &faulty), 0);
	assert_int_equal(keys_change(faulty, &f->format, f->crypt, id, &new, NULL), 0);
	assert_int_equal(store_fault_counts(faulty).lists, 2);
	f->store = store_fault_release(faulty);
	/* one that can only write is nobody's last */
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &write, id, NULL), 0);
	write.secret = s;
	assert_int_equal(store_fault_new(f->store, &faulty), 0);
	assert_int_equal(keys_change(faulty, &f->format, f->crypt, id, &write, NULL), 0);
	assert_int_equal(store_fault_counts(faulty).lists, 1);
	f->store = store_fault_release(faulty);
	assert_int_equal(count_slots(f, NULL), 2);
	/* what is not there any more is told before one is added */
	memset(id, 'f', sizeof(id) - 1);
	assert_int_equal(keys_change(f->store, &f->format, f->crypt, id, &new, NULL), -ENOENT);
	assert_int_equal(count_slots(f, NULL), 2);
}

/* A store in which somebody else removes a slot at the moment when we remove ours. */
struct racing {
	struct store base;
	struct store *below;
	char other[32];
};

static int racing_put(struct store *s, const char *name, const struct iovec *parts, size_t n,
		      struct err *e)
{
	return store_putv(((struct racing *)s)->below, name, parts, n, e);
}

static int racing_get(struct store *s, const char *name, uint64_t offset, void *buf, size_t len,
		      struct err *e)
{
	return store_get(((struct racing *)s)->below, name, offset, buf, len, e);
}

static int racing_size(struct store *s, const char *name, uint64_t *ret, struct err *e)
{
	return store_size(((struct racing *)s)->below, name, ret, e);
}

static int racing_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx,
		       struct err *e)
{
	return store_list(((struct racing *)s)->below, prefix, fn, ctx, e);
}

static int racing_del(struct store *s, const char *name, struct err *e)
{
	struct racing *r = (struct racing *)s;

	store_del(r->below, r->other, NULL);
	return store_del(r->below, name, e);
}

static const struct store_ops racing_ops = { .put = racing_put,
					     .get = racing_get,
					     .size = racing_size,
					     .list = racing_list,
					     .del = racing_del };

/* A second slot as @new beside the first one of @f. */
static struct racing race_begin(struct fixture *f, const struct key_slot_new *new,
				char first[KEY_SLOT_ID_MAX], char second[KEY_SLOT_ID_MAX])
{
	first_id(f, first);
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, new, second, NULL), 0);
	return (struct racing){ .base = { &racing_ops }, .below = f->store };
}

static void two_who_remove_the_last_two_at_once_leave_one(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("second");
	const struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_FULL);
	char first[KEY_SLOT_ID_MAX], second[KEY_SLOT_ID_MAX];
	struct fixture *f = *state;
	struct racing racing = race_begin(f, &new, first, second);
	struct err e = { 0 };

	snprintf(racing.other, sizeof(racing.other), "keys/%s", first);
	assert_int_equal(keys_remove(&racing.base, &f->format, second, false, &e), -EBUSY);
	assert_int_equal(try_passphrase(f, "second", NULL, NULL), 0);
}

/*
 * The new slot goes in the moment in which the old one does: the old one comes back. It is there already, as a change leaves it
 * that was killed before its third step.
 */
static void a_change_whose_new_slot_is_removed_at_once_leaves_the_old_one(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("new");
	const struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_FULL);
	char first[KEY_SLOT_ID_MAX], second[KEY_SLOT_ID_MAX];
	struct fixture *f = *state;
	struct racing racing = race_begin(f, &new, first, second);
	struct err e = { 0 };

	snprintf(racing.other, sizeof(racing.other), "keys/%s", second);
	assert_int_equal(keys_change(&racing.base, &f->format, f->crypt, first, &new, &e), -EBUSY);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
	assert_int_equal(count_slots(f, NULL), 1);
}

/* What an init left that was killed before it put "format", or that was second. */
static void slots_of_an_init_that_did_not_end_are_swept(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("killed");
	struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_FULL);
	_cleanup_(crypt_freep) struct crypt *c = NULL;
	struct repo_format killed = { .chunk_shift = 18 };
	struct fixture *f = *state;
	struct err e = { 0 };
	struct keys keys;
	size_t damaged;

	/* there is no repository yet, so nothing is anybody's to sweep */
	assert_int_equal(keys_init(f->store, &killed, &new, 1, &c, NULL), 0);
	assert_int_equal(keys_sweep(f->store, NULL), -ENOENT);
	assert_int_equal(keys_load(f->store, &f->format, &keys, NULL), 0);
	assert_int_equal(keys.count, 1);
	assert_int_equal(keys.damaged, 1);
	assert_true(keys.bad[0].foreign);
	assert_non_null(strstr(keys.bad[0].why.text, "another repository's"));
	keys_done(&keys);
	assert_int_equal(repo_init(f->store, &f->format, NULL), 0);
	assert_int_equal(repo_init(f->store, &killed, &e), -EEXIST);
	/* what is damaged is not swept */
	assert_int_equal(store_put(f->store, "keys/0000000000000001", "", 0, NULL), 0);
	assert_int_equal(keys_sweep(f->store, NULL), 0);
	assert_int_equal(count_slots(f, &damaged), 1);
	assert_int_equal(damaged, 1);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
}

static void a_repository_needs_a_key_with_full_rights(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("x"), *empty = secret_of("");
	struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_WRITE);
	_cleanup_(store_freep) struct store *store = NULL;
	struct repo_format format = { .chunk_shift = 18 };
	struct crypt *c = NULL;

	assert_int_equal(store_memory_new(&store), 0);
	assert_int_equal(keys_init(store, &format, &new, 1, &c, NULL), -EINVAL);
	assert_int_equal(keys_init(store, &format, NULL, 0, &c, NULL), -EINVAL);
	new = slot_for(empty, CRYPT_RIGHTS_FULL);
	assert_int_equal(keys_init(store, &format, &new, 1, &c, NULL), -EINVAL);
	assert_null(c);
}

static void slots_are_found_by_the_beginning_of_their_ids(void **state)
{
	struct key_slot slots[2] = { { .id = "0123456789abcdef" }, { .id = "0123ffffffffffff" } };
	const struct keys keys = { .slots = slots, .count = 2 };
	const struct key_slot *found = NULL;

	assert_int_equal(keys_find(&keys, "01234", &found, NULL), 0);
	assert_ptr_equal(found, &slots[0]);
	assert_int_equal(keys_find(&keys, "0123ffffffffffff", &found, NULL), 0);
	assert_ptr_equal(found, &slots[1]);
	assert_int_equal(keys_find(&keys, "0123", &found, NULL), -ENOTUNIQ);
	assert_int_equal(keys_find(&keys, "ab", &found, NULL), -ENOENT);
	assert_int_equal(keys_find(&keys, "", &found, NULL), -ENOENT);
}

static void labels_are_text(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("x");
	struct fixture *f = *state;
	struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_FULL);
	char label[KEY_SLOT_LABEL_MAX + 2];

	memset(label, 'a', sizeof(label));
	label[KEY_SLOT_LABEL_MAX + 1] = '\0';
	new.label = label;
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, NULL, NULL), -EINVAL);
	label[KEY_SLOT_LABEL_MAX] = '\0';
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, NULL, NULL), 0);
	new.label = "a\033[2J";
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, NULL, NULL), -EINVAL);
	new.label = "Größe \"x\"";
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, NULL, NULL), 0);
	assert_int_equal(count_slots(f, NULL), 3);
	assert_int_equal(try_passphrase(f, "x", NULL, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_passphrase_opens_and_a_wrong_one_does_not),
		TEST(a_recipient_opens_with_the_rights_it_was_given),
		TEST(who_may_only_write_cannot_give_the_right_to_read),
		TEST(a_revoked_key_opens_nothing),
		TEST(the_last_full_slot_is_not_removed_unless_forced),
		TEST(a_changed_passphrase_takes_the_place_of_the_old_one),
		TEST(there_are_only_as_many_slots_as_can_be_loaded),
		TEST(a_change_that_is_done_again_adds_no_second_slot),
		cmocka_unit_test(no_failure_of_a_change_loses_the_last_key),
		cmocka_unit_test(no_failure_of_adding_or_removing_loses_a_key),
		TEST(a_slot_that_cannot_be_read_hinders_no_other),
		TEST(a_change_loads_the_slots_twice),
		TEST(two_who_remove_the_last_two_at_once_leave_one),
		TEST(a_change_whose_new_slot_is_removed_at_once_leaves_the_old_one),
		TEST(slots_of_an_init_that_did_not_end_are_swept),
		cmocka_unit_test(a_repository_needs_a_key_with_full_rights),
		cmocka_unit_test(slots_are_found_by_the_beginning_of_their_ids),
		TEST(labels_are_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
