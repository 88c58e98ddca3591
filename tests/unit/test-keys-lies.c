/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Key slots that were changed, exchanged or made by somebody else. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "lib/repo/checked_json.h"
#include "tests/unit/keys-fixture.h"

static void a_changed_format_opens_nothing(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *k = NULL;
	struct fixture *f = *state;
	const struct repo_format was = f->format;
	struct key_slot_new new;
	struct err e = { 0 };

	k = key_pair_generate(NULL);
	assert_non_null(k);
	new = slot_to(k, CRYPT_RIGHTS_FULL);
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, NULL, NULL), 0);
	f->format.chunk_shift++;
	assert_int_equal(try_passphrase(f, "old", NULL, &e), -ENOKEY);
	assert_non_null(strstr(e.text, "\"format\" was changed"));
	assert_int_equal(try_key(f, k, NULL, NULL), -EBADMSG);
	f->format = was;
	f->format.created_ns++;
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), -ENOKEY);
	assert_int_equal(try_key(f, k, NULL, NULL), -EBADMSG);
	f->format = was;
	f->format.id[0] ^= 1;
	assert_int_equal(try_passphrase(f, "old", NULL, &e), -ENOKEY);
	assert_non_null(strstr(e.text, "another repository's"));
	f->format = was;
	f->format.encrypted = false;
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), -EINVAL);
	assert_int_equal(try_key(f, k, NULL, NULL), -EINVAL);
	f->format = was;
	assert_int_equal(try_key(f, k, NULL, NULL), 0);
}

static void the_store_s_own_secrets_are_not_taken(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *k = NULL;
	_cleanup_(crypt_freep) struct crypt *evil = NULL;
	struct fixture *f = *state;
	struct key_slot_new new;
	struct repo_format other;
	struct err e = { 0 };

	/* everybody can seal secrets to a public key */
	k = key_pair_generate(NULL);
	assert_non_null(k);
	assert_int_equal(crypt_new(&evil, NULL), 0);
	new = slot_to(k, CRYPT_RIGHTS_FULL);
	assert_int_equal(keys_add(f->store, &f->format, evil, &new, NULL, NULL), 0);
	assert_int_equal(try_key(f, k, NULL, &e), -EBADMSG);
	/* and make a whole repository of its own: only the line in the key's file finds that */
	other = f->format;
	crypt_repo_id(evil, other.id);
	assert_int_equal(keys_add(f->store, &other, evil, &new, NULL, NULL), 0);
	memcpy(k->repository, f->format.id, REPO_ID_SIZE);
	k->has_repository = true;
	f->format = other;
	assert_int_equal(try_key(f, k, NULL, NULL), -EPERM);
}

/* Every bit, of blanks and of the case of a digit, too; and nobody needs a key to see it. */
static void every_flipped_bit_of_a_slot_is_refused(void **state)
{
	struct fixture *f = *state;
	char id[KEY_SLOT_ID_MAX], name[32];
	uint64_t size;

	first_id(f, id);
	snprintf(name, sizeof(name), "keys/%s", id);
	assert_int_equal(store_size(f->store, name, &size, NULL), 0);
	for (uint64_t bit = 0; bit < 8 * size; bit++) {
		const uint8_t mask = (uint8_t)(1u << bit % 8);
		struct keys keys;

		store_memory_flip(f->store, name, bit / 8, mask);
		assert_int_equal(keys_load(f->store, &f->format, &keys, NULL), 0);
		assert_int_equal(keys.count, 0);
		assert_int_equal(keys.damaged, 1);
		assert_string_equal(keys.bad[0].id, id);
		assert_false(keys.bad[0].foreign);
		keys_done(&keys);
		assert_int_equal(try_passphrase(f, "old", NULL, NULL), -ENOKEY);
		store_memory_flip(f->store, name, bit / 8, mask);
	}
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
}

static void put_two(struct store *s, const char *name, const char *a, const char *b)
{
	const struct iovec parts[] = { { (void *)a, strlen(a) }, { (void *)b, strlen(b) } };

	assert_int_equal(store_putv(s, name, parts, ARRAY_SIZE(parts), NULL), 0);
}

/* The first slot's text with @from replaced by @to, and a check that is right. */
static void forge(const struct fixture *f, const char *from, const char *to, const char *name)
{
	_cleanup_free_ char *text = NULL, *forged = NULL;
	char id[KEY_SLOT_ID_MAX], first[32], end[CHECKED_JSON_END + 1], *at;
	void *bytes;
	size_t len;

	first_id(f, id);
	snprintf(first, sizeof(first), "keys/%s", id);
	assert_int_equal(store_get_all(f->store, first, 4096, &bytes, &len, NULL), 0);
	text = malloc(len + 1);
	assert_non_null(text);
	memcpy(text, bytes, len);
	text[len - CHECKED_JSON_END] = '\0';
	free(bytes);
	at = strstr(text, from);
	assert_non_null(at);
	*at = '\0';
	assert_true(asprintf(&forged, "%s%s%s", text, to, at + strlen(from)) > 0);
	checked_json_end(name, forged, strlen(forged), end);
	put_two(f->store, name, forged, end);
}

static void a_slot_under_another_name_is_refused(void **state)
{
	_cleanup_free_ void *text = NULL;
	struct fixture *f = *state;
	char id[KEY_SLOT_ID_MAX], name[32];
	size_t len, damaged;

	first_id(f, id);
	snprintf(name, sizeof(name), "keys/%s", id);
	assert_int_equal(store_get_all(f->store, name, 4096, &text, &len, NULL), 0);
	assert_int_equal(store_put(f->store, "keys/00000000000000aa", text, len, NULL), 0);
	/* with another check: what is sealed is bound to the name, too */
	forge(f, "test", "test", "keys/00000000000000bb");
	assert_int_equal(store_del(f->store, name, NULL), 0);
	assert_int_equal(count_slots(f, &damaged), 1);
	assert_int_equal(damaged, 1);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), -ENOKEY);
}

static void a_hostile_slot_cannot_ask_for_much(void **state)
{
	static const char *const lies[][2] = {
		{ "\"memory\": 8192", "\"memory\": 1073741825" },
		{ "\"memory\": 8192", "\"memory\": 9223372036854775807" },
		{ "\"memory\": 8192", "\"memory\": 8191" },
		{ "\"memory\": 8192", "\"memory\": 0" },
		{ "\"memory\": 8192", "\"memory\": -8192" },
		{ "\"operations\": 1", "\"operations\": 0" },
		{ "\"operations\": 1", "\"operations\": 524289" },
		{ "\"operations\": 1", "\"operations\": 9223372036854775807" },
		{ "\"operations\": 1", "\"operations\": -1" },
	};
	struct fixture *f = *state;
	size_t damaged;

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		char name[32];

		snprintf(name, sizeof(name), "keys/00000000000000%02zx", i);
		forge(f, lies[i][0], lies[i][1], name);
	}
	assert_int_equal(count_slots(f, &damaged), 1);
	assert_int_equal(damaged, ARRAY_SIZE(lies));
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
}

static void rubbish_among_the_slots_does_no_harm(void **state)
{
	_cleanup_free_ char *large = malloc(100000);
	struct fixture *f = *state;
	struct err e = { 0 };
	size_t damaged;

	assert_non_null(large);
	memset(large, '[', 100000);
	assert_int_equal(store_put(f->store, "keys/short", "x", 1, NULL), 0);
	assert_int_equal(store_put(f->store, "keys/00000000000000zz", "x", 1, NULL), 0);
	assert_int_equal(store_put(f->store, "keys/0000000000000001", "", 0, NULL), 0);
	assert_int_equal(store_put(f->store, "keys/0000000000000002", "{}", 2, NULL), 0);
	assert_int_equal(store_put(f->store, "keys/0000000000000003", large, 100000, NULL), 0);
	assert_int_equal(store_put(f->store, "keys/0000000000000004", large, 4000, NULL), 0);
	forge(f, "\"format\": 1", "\"format\": 2", "keys/0000000000000005");
	forge(f, "\"full\"", "\"more\"", "keys/0000000000000006");
	forge(f, "\"test\"", "\"\\u001b[2J\"", "keys/0000000000000007");
	forge(f, "\"argon2id13\"", "\"md5\"", "keys/0000000000000008");
	assert_int_equal(count_slots(f, &damaged), 1);
	assert_int_equal(damaged, 10);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
	assert_int_equal(try_passphrase(f, "wrong", NULL, &e), -ENOKEY);
	assert_non_null(strstr(e.text, "10 could not be read"));
}

static void what_is_damaged_is_removed_by_force_only(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_of("second");
	struct fixture *f = *state;
	struct key_slot_new new = slot_for(s, CRYPT_RIGHTS_FULL);
	char first[KEY_SLOT_ID_MAX], second[KEY_SLOT_ID_MAX], name[32];
	struct err e = { 0 };
	size_t damaged;

	first_id(f, first);
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, second, NULL), 0);
	snprintf(name, sizeof(name), "keys/%s", second);
	store_memory_flip(f->store, name, 200, 1);
	assert_int_equal(keys_remove(f->store, &f->format, second, false, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "--force"));
	/* it does not count as another one */
	assert_int_equal(keys_remove(f->store, &f->format, first, false, NULL), -EBUSY);
	assert_int_equal(keys_remove(f->store, &f->format, second, true, NULL), 0);
	assert_int_equal(count_slots(f, NULL), 1);
	/* the last one that there is, whole or not, stays: it might be mended */
	snprintf(name, sizeof(name), "keys/%s", first);
	store_memory_flip(f->store, name, 200, 1);
	assert_int_equal(keys_remove(f->store, &f->format, first, true, &e), -EBUSY);
	store_memory_flip(f->store, name, 200, 1);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
	/* what is no slot at all goes by its name */
	assert_int_equal(store_put(f->store, "keys/short", "x", 1, NULL), 0);
	assert_int_equal(store_put(f->store, "keys/shorter", "x", 1, NULL), 0);
	assert_int_equal(keys_remove(f->store, &f->format, "shor", true, NULL), -ENOTUNIQ);
	assert_int_equal(keys_remove(f->store, &f->format, "short", true, NULL), 0);
	assert_int_equal(keys_remove(f->store, &f->format, "shorter", true, NULL), 0);
	assert_int_equal(count_slots(f, &damaged), 1);
	assert_int_equal(damaged, 0);
}

static void a_beginning_that_a_damaged_slot_has_too_removes_none(void **state)
{
	struct fixture *f = *state;
	char first[KEY_SLOT_ID_MAX], name[32];
	struct err e = { 0 };

	first_id(f, first);
	snprintf(name, sizeof(name), "keys/%.15s%c", first, first[15] == '0' ? '1' : '0');
	assert_int_equal(store_put(f->store, name, "x", 1, NULL), 0);
	first[15] = '\0';
	assert_int_equal(keys_remove(f->store, &f->format, first, true, &e), -ENOTUNIQ);
	assert_int_equal(try_passphrase(f, "old", NULL, NULL), 0);
}

static void rights_that_a_slot_only_claims_are_not_believed(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *k = NULL;
	struct fixture *f = *state;
	struct key_slot_new new;
	char id[KEY_SLOT_ID_MAX];

	k = key_pair_generate(NULL);
	assert_non_null(k);
	new = slot_to(k, CRYPT_RIGHTS_WRITE);
	/* the only slot, so that forge() takes it */
	first_id(f, id);
	assert_int_equal(keys_add(f->store, &f->format, f->crypt, &new, NULL, NULL), 0);
	assert_int_equal(keys_remove(f->store, &f->format, id, true, NULL), 0);
	first_id(f, id);
	forge(f, "\"write\"", "\"full\"", "keys/0000000000000001");
	assert_int_equal(keys_remove(f->store, &f->format, id, true, NULL), 0);
	assert_int_equal(try_key(f, k, NULL, NULL), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_changed_format_opens_nothing),
		TEST(the_store_s_own_secrets_are_not_taken),
		TEST(every_flipped_bit_of_a_slot_is_refused),
		TEST(a_slot_under_another_name_is_refused),
		TEST(a_hostile_slot_cannot_ask_for_much),
		TEST(rubbish_among_the_slots_does_no_harm),
		TEST(what_is_damaged_is_removed_by_force_only),
		TEST(a_beginning_that_a_damaged_slot_has_too_removes_none),
		TEST(rights_that_a_slot_only_claims_are_not_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
