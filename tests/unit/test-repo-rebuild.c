// SPDX-License-Identifier: GPL-2.0-or-later
/* The object "format" made anew of what the others say (lib/repo/repo_rebuild): it is the one that was lost, or nothing is done. */
#include <sodium.h>

#include "lib/repo/checked_json.h"
#include "lib/repo/keys.h"
#include "lib/repo/repo_rebuild.h"
#include "tests/unit/repo-check-fixture.h"

static const unsigned int seeds_a[] = { 1, 2, 3, 4 };
static const unsigned int seeds_b[] = { 1, 2, 13, 14 };

/* A scene whose repository has key slots, for a passphrase each. */
struct lost {
	struct scene scene;
	struct repo_format format;
	void *text; /* of "format", as it was */
	size_t len;
};

static struct secret *secret_of(const char *text)
{
	struct secret *s = secret_new(strlen(text), NULL);

	assert_non_null(s);
	memcpy(s->bytes, text, s->len);
	return s;
}

static void add_slot(struct store *s, const struct repo_format *f, const struct crypt *c,
		     const char *passphrase, enum crypt_rights rights)
{
	_cleanup_(secret_freep) struct secret *secret = secret_of(passphrase);
	const struct key_slot_new new = { .rights = rights,
					  .secret = secret,
					  .operations = KEY_WRAP_OPERATIONS_MIN,
					  .memory = KEY_WRAP_MEMORY_MIN };

	assert_int_equal(keys_add(s, f, c, &new, NULL, NULL), 0);
}

/* Two images, then "format" is kept, and deleted. */
static struct lost lost_new(bool encrypted)
{
	struct lost l = { .scene = scene_new(encrypted) };

	capture(&l.scene, seeds_b, 4, SCENE_T0 + 2 * SCENE_HOUR);
	capture(&l.scene, seeds_a, 4, SCENE_T0 + SCENE_HOUR);
	assert_int_equal(repo_format_get(l.scene.memory, &l.format, NULL), 0);
	if (encrypted) {
		add_slot(l.scene.memory, &l.format, l.scene.crypt, "full", CRYPT_RIGHTS_FULL);
		add_slot(l.scene.memory, &l.format, l.scene.crypt, "other", CRYPT_RIGHTS_FULL);
		add_slot(l.scene.memory, &l.format, l.scene.crypt, "write", CRYPT_RIGHTS_WRITE);
	}
	assert_int_equal(store_get_all(l.scene.memory, "format", 4096, &l.text, &l.len, NULL), 0);
	assert_int_equal(store_del(l.scene.memory, "format", NULL), 0);
	return l;
}

static void lost_done(struct lost *l)
{
	scene_done(&l->scene);
	free(l->text);
}
#define _cleanup_lost_ _cleanup_(lost_done)

static struct store *in_front(struct store *s)
{
	return &scene_store_new(s)->store;
}

/* As `ambroctl repo rebuild-format`, on @s, which is taken over. */
static int rebuild_on(struct store *s, const char *passphrase, bool dry_run,
		      struct repo_rebuild_result *ret, struct err *e)
{
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct crypt *c = NULL;
	int n = repo_rebuild_open(s, NULL, &r, ret, e);

	assert_int_equal(n == 0, r != NULL);
	if (!r)
		return n;
	if (passphrase) {
		_cleanup_(secret_freep) struct secret *secret = secret_of(passphrase);

		n = keys_unlock_passphrase(r->store, &r->format, secret, &c, NULL, e);
		if (n == 0)
			n = repo_unlock(r, c, e);
	}
	return n < 0 ? n : repo_rebuild(r, dry_run, NULL, ret, e);
}

static int rebuild(const struct lost *l, struct err *e)
{
	struct repo_rebuild_result result;

	return rebuild_on(in_front(l->scene.memory), l->scene.crypt ? "full" : NULL, false, &result,
			  e);
}

/* Nothing was done, for the reason that @words say. */
static void refused(const struct lost *l, int code, const char *words)
{
	const bool there = store_size(l->scene.memory, "format", &(uint64_t){ 0 }, NULL) == 0;
	struct err e = { 0 };
	int r = rebuild(l, &e);

	if (r != code || !strstr(e.text, words))
		fail_msg("%d, %s: not \"%s\"", r, e.text, words);
	assert_int_equal(store_size(l->scene.memory, "format", &(uint64_t){ 0 }, NULL) == 0, there);
}

/* What was rebuilt is the one that was lost, in the clear but for when it was made. */
static void is_as_before(const struct lost *l)
{
	_cleanup_free_ void *text = NULL;
	struct repo_format f;
	size_t len;

	assert_int_equal(repo_format_get(l->scene.memory, &f, NULL), 0);
	assert_memory_equal(f.id, l->format.id, sizeof(f.id));
	assert_int_equal(f.chunk_shift, l->format.chunk_shift);
	assert_int_equal(f.encrypted, l->format.encrypted);
	assert_int_equal(f.created_ns, f.encrypted ? l->format.created_ns : SCENE_T0 + SCENE_HOUR);
	assert_int_equal(store_get_all(l->scene.memory, "format", 4096, &text, &len, NULL), 0);
	if (f.encrypted) {
		assert_int_equal(len, l->len);
		assert_memory_equal(text, l->text, len);
	}
	assert_int_equal(scene_verify(&l->scene), 2);
}

static void it_is_the_one_that_was_lost(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_lost_ struct lost l = lost_new(encrypted);
		struct repo_rebuild_result result;
		struct err e = { 0 };

		assert_int_equal(rebuild_on(in_front(l.scene.memory), encrypted ? "full" : NULL,
					    true, &result, &e),
				 0);
		assert_int_equal(repo_init_check(l.scene.memory, NULL), -EBADMSG);
		assert_int_equal(result.objects, 6);
		assert_int_equal(result.images, 2);
		assert_int_equal(result.slots, encrypted ? 3 : 0);
		assert_int_equal(result.objects_damaged + result.images_damaged, 0);
		assert_false(result.damaged);
		assert_int_equal(rebuild(&l, &e), 0);
		is_as_before(&l);
		refused(&l, -EEXIST, "whole");
	}
}

/* Every bit of it; and it is nothing, or cannot be read. */
static void a_damaged_one_is_replaced(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_lost_ struct lost l = lost_new(encrypted);
		struct store *s = l.scene.memory;

		for (uint64_t bit = 0; bit < 8 * l.len; bit += 7) {
			struct err e = { 0 };
			int r;

			assert_int_equal(store_put(s, "format", l.text, l.len, NULL), 0);
			store_memory_flip(s, "format", bit / 8, (uint8_t)(1u << bit % 8));
			r = rebuild(&l, &e);
			/* the digit of its version may have become a greater one */
			if (r != -ENOTSUP) {
				assert_int_equal(r, 0);
				is_as_before(&l);
			}
			assert_int_equal(store_del(s, "format", NULL), 0);
		}
		assert_int_equal(store_put(s, "format", "", 0, NULL), 0);
		assert_int_equal(rebuild(&l, NULL), 0);
		is_as_before(&l);
	}
}

static void one_that_cannot_be_read_is_replaced(void **state)
{
	_cleanup_lost_ struct lost l = lost_new(true);
	struct repo_rebuild_result result;
	struct store *faulty = NULL;

	assert_int_equal(store_put(l.scene.memory, "format", l.text, l.len, NULL), 0);
	assert_int_equal(store_fault_new(in_front(l.scene.memory), &faulty), 0);
	store_fault_get_of(faulty, "format", -EIO);
	assert_int_equal(rebuild_on(faulty, "full", false, &result, NULL), 0);
	assert_true(result.damaged);
	is_as_before(&l);
}

/* Each of its two changes fails, or is the last one: afterwards it can be done again. */
static void it_may_end_at_any_step(void **state)
{
	for (enum store_fault fault = STORE_FAULT_FAIL; fault <= STORE_FAULT_DEAD_AFTER; fault++) {
		for (uint64_t at = 0; at < 3; at++) {
			_cleanup_lost_ struct lost l = lost_new(at % 2);
			struct repo_rebuild_result result;
			struct store *faulty = NULL;
			struct err e = { 0 };
			int r;

			assert_int_equal(store_put(l.scene.memory, "format", "x", 1, NULL), 0);
			assert_int_equal(store_fault_new(in_front(l.scene.memory), &faulty), 0);
			store_fault_at(faulty, at, fault, -EIO);
			r = rebuild_on(faulty, l.scene.crypt ? "full" : NULL, false, &result, &e);
			assert_int_equal(r == 0, at == 2);
			r = rebuild(&l, &e);
			assert_true(r == 0 || r == -EEXIST);
			is_as_before(&l);
		}
	}
}

/* Somebody has found a copy, and puts it back while we are at it. */
static void on_change(void *ctx, uint64_t change)
{
	const struct lost *l = ctx;

	if (change == 0)
		assert_int_equal(store_put(l->scene.memory, "format", l->text, l->len, NULL), 0);
}

static void one_that_is_put_back_meanwhile_stays(void **state)
{
	_cleanup_lost_ struct lost l = lost_new(false);
	struct scene_store *front = scene_store_new(l.scene.memory);
	struct repo_rebuild_result result;
	struct repo_format f;

	front->hook = on_change;
	front->ctx = &l;
	assert_int_equal(rebuild_on(&front->store, NULL, false, &result, NULL), -EEXIST);
	assert_int_equal(repo_format_get(l.scene.memory, &f, NULL), 0);
	assert_int_equal(f.created_ns, l.format.created_ns);
}

static void a_newer_one_is_left_alone(void **state)
{
	static const char *const newer[] = {
		"{\"format\": 2",
		"{\"format\": 1, \"require\": [\"x\"]",
	};
	_cleanup_lost_ struct lost l = lost_new(false);

	for (size_t i = 0; i < ARRAY_SIZE(newer); i++) {
		char end[CHECKED_JSON_END + 1], text[256];
		struct store *s = l.scene.memory;

		checked_json_end("format", newer[i], strlen(newer[i]), end);
		snprintf(text, sizeof(text), "%s%s", newer[i], end);
		assert_int_equal(store_put(s, "format", text, strlen(text), NULL), 0);
		if (i == 0)
			refused(&l, -ENOTSUP, "newer tool");
		/* damaged, too */
		store_memory_flip(s, "format", strlen(newer[i]) + 20, 1);
		refused(&l, -ENOTSUP, "newer tool");
		assert_int_equal(store_del(s, "format", NULL), 0);
	}
}

/* ---- what does not agree --------------------------------------------------------------------------- */

/* All objects of @folder in @from into @to. */
struct copying {
	struct store *from, *to;
};

static int copy_one(void *ctx, const char *name, uint64_t size)
{
	struct copying *c = ctx;
	_cleanup_free_ void *bytes = NULL;
	size_t len;
	int r = store_get_all(c->from, name, size, &bytes, &len, NULL);

	return r < 0 ? r : store_put(c->to, name, bytes, len, NULL);
}

static void copy(struct store *from, struct store *to, const char *folder)
{
	assert_int_equal(store_list(from, folder, copy_one, &(struct copying){ from, to }, NULL),
			 0);
}

static void an_object_of_another_repository_ends_it(void **state)
{
	static const char *const folders[] = { "packs/", "index/", "images/" };

	for (int encrypted = 0; encrypted < 2; encrypted++) {
		for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
			_cleanup_lost_ struct lost l = lost_new(encrypted), other = lost_new(true);

			copy(other.scene.memory, l.scene.memory, folders[i]);
			refused(&l, -EBADMSG, "does not belong");
		}
	}
}

/* Of this repository, as it says, but in the clear where the others are not, and the other way round. */
static void objects_in_the_clear_and_encrypted_ones_end_it(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_lost_ struct lost l = lost_new(encrypted), other = lost_new(!encrypted);
		_cleanup_(crypt_session_freep) struct crypt_session *session = NULL;
		uint8_t head[PACK_HEAD_SIZE], hash[REPO_NAME_HASH] = { 0xff, 0xff };
		char name[PACK_NAME_SIZE];

		assert_int_equal(pack_head_make(other.scene.crypt, REPO_PURPOSE_PACK, l.format.id,
						head, &session, NULL),
				 0);
		assert_int_equal(store_put(l.scene.memory, pack_name(hash, name), head,
					   sizeof(head), NULL),
				 0);
		refused(&l, -EBADMSG, "encrypted, and those before are");
	}
}

static void images_with_other_chunks_end_it(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_lost_ struct lost l = lost_new(encrypted);
		_cleanup_(repo_image_freep) struct repo_image *image = NULL;
		const struct objects images = objects_of(&l.scene, "images/");
		_cleanup_(repo_freep) struct repo *r = NULL;
		struct chunk_id root = { 0 };

		assert_int_equal(store_put(l.scene.memory, "format", l.text, l.len, NULL), 0);
		r = scene_open(&l.scene);
		assert_int_equal(store_del(l.scene.memory, "format", NULL), 0);
		/* nor may it be all of them, where key slots say it, too */
		for (size_t i = 0; encrypted && i < images.n; i++)
			store_del(l.scene.memory, images.items[i].name, NULL);
		image = scene_image(4, &root, SCENE_T0);
		image->manifest->chunk_size *= 2;
		image->manifest->regions[0].depth = tree_depth(2);
		assert_int_equal(repo_image_put(r, image, NULL), 0);
		refused(&l, -EBADMSG, "which is right");
	}
}

static void key_slots_that_differ_end_it(void **state)
{
	_cleanup_lost_ struct lost l = lost_new(true), shift = lost_new(true),
				   plain = lost_new(false);
	struct repo_format f = l.format;

	/* another repository's are an init's that did not end */
	f.id[0] ^= 1;
	f.created_ns--;
	add_slot(l.scene.memory, &f, l.scene.crypt, "foreign", CRYPT_RIGHTS_FULL);
	assert_int_equal(rebuild(&l, NULL), 0);
	is_as_before(&l);
	assert_int_equal(store_del(l.scene.memory, "format", NULL), 0);
	f = l.format;
	f.created_ns++;
	add_slot(l.scene.memory, &f, l.scene.crypt, "differs", CRYPT_RIGHTS_FULL);
	refused(&l, -EBADMSG, "another \"format\"");
	f = shift.format;
	f.chunk_shift++;
	add_slot(shift.scene.memory, &f, shift.scene.crypt, "differs", CRYPT_RIGHTS_FULL);
	refused(&shift, -EBADMSG, "another \"format\"");
	/* where nothing is encrypted there are none */
	add_slot(plain.scene.memory, &plain.format, l.scene.crypt, "x", CRYPT_RIGHTS_FULL);
	refused(&plain, -EBADMSG, "nothing is encrypted");
}

/* Who makes slots of his own, and takes away all others, gets nothing made that would be his. */
static void slots_that_lie_do_not_open(void **state)
{
	for (int what = 0; what < 3; what++) {
		_cleanup_lost_ struct lost l = lost_new(true), other = lost_new(true);
		const struct objects slots = objects_of(&l.scene, "keys/");
		struct repo_format f = l.format;
		struct err e = { 0 };

		for (size_t i = 0; i < slots.n; i++) {
			_cleanup_free_ char *text = NULL;
			char end[CHECKED_JSON_END + 1], from[64], *at;
			size_t len;

			if (what == 0)
				break;
			/* a true slot, that is made to say something else */
			assert_int_equal(store_get_all(l.scene.memory, slots.items[i].name, 4096,
						       (void **)&text, &len, NULL),
					 0);
			text[len - CHECKED_JSON_END] = '\0';
			snprintf(from, sizeof(from), what == 1 ? "\"chunk_shift\": 1" : "_ns\": 1");
			at = strstr(text, from);
			assert_non_null(at);
			at += strlen(from);
			*at = *at == '7' ? '8' : '7';
			checked_json_end(slots.items[i].name, text, strlen(text), end);
			memcpy(text + strlen(text), end, CHECKED_JSON_END);
			store_del(l.scene.memory, slots.items[i].name, NULL);
			store_put(l.scene.memory, slots.items[i].name, text, len, NULL);
		}
		if (what == 0) {
			for (size_t i = 0; i < slots.n; i++)
				store_del(l.scene.memory, slots.items[i].name, NULL);
			/* secrets of his own, whose id would be another one */
			add_slot(l.scene.memory, &f, other.scene.crypt, "full", CRYPT_RIGHTS_FULL);
			refused(&l, -EBADMSG, "not of this repository");
			continue;
		}
		assert_int_equal(rebuild(&l, &e), -ENOKEY);
		assert_int_equal(repo_init_check(l.scene.memory, NULL), -EBADMSG);
	}
}

static void it_takes_a_key_that_can_read(void **state)
{
	static const struct {
		const char *passphrase, *words;
		int code;
	} cases[] = {
		{ "write", "full rights", -EACCES },
		{ "wrong", "wrong", -ENOKEY },
		{ NULL, "give its key", -ENOKEY },
	};
	_cleanup_lost_ struct lost l = lost_new(true);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct repo_rebuild_result result;
		struct err e = { 0 };

		assert_int_equal(rebuild_on(in_front(l.scene.memory), cases[i].passphrase, false,
					    &result, &e),
				 cases[i].code);
		assert_non_null(strstr(e.text, cases[i].words));
	}
	assert_int_equal(repo_init_check(l.scene.memory, NULL), -EBADMSG);
}

/* ---- what is damaged besides ------------------------------------------------------------------------ */

static void flip_in_all(const struct lost *l, const char *folder, size_t but, uint64_t at)
{
	const struct objects o = objects_of(&l->scene, folder);

	for (size_t i = but; i < o.n; i++)
		store_memory_flip(l->scene.memory, o.items[i].name, at, 0x10);
}

static void the_rest_may_be_damaged(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_lost_ struct lost l = lost_new(encrypted);
		struct repo_rebuild_result result;
		struct repo_format f;

		/* all heads but one image's, and all key slots but one */
		flip_in_all(&l, "packs/", 0, 70);
		flip_in_all(&l, "index/", 0, 70);
		flip_in_all(&l, "images/", 1, 70);
		flip_in_all(&l, "keys/", 0, 40);
		if (encrypted) {
			add_slot(l.scene.memory, &l.format, l.scene.crypt, "full",
				 CRYPT_RIGHTS_FULL);
		}
		assert_int_equal(rebuild_on(in_front(l.scene.memory), encrypted ? "full" : NULL,
					    false, &result, NULL),
				 0);
		assert_int_equal(result.objects, 1);
		assert_int_equal(result.objects_damaged, 5);
		assert_int_equal(result.images, 1);
		assert_int_equal(result.images_damaged, 1);
		assert_int_equal(repo_format_get(l.scene.memory, &f, NULL), 0);
		assert_memory_equal(f.id, l.format.id, sizeof(f.id));
		assert_int_equal(f.chunk_shift, l.format.chunk_shift);
	}
}

static void too_little_is_left(void **state)
{
	_cleanup_lost_ struct lost l = lost_new(false), images = lost_new(false),
				   slots = lost_new(true), none = lost_new(false);
	const char *const folders[] = { "packs/", "index/", "images/" };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		flip_in_all(&l, folders[i], 0, 70);
	refused(&l, -EBADMSG, "which repository");
	/* their heads are whole, but not what is behind */
	flip_in_all(&images, "images/", 0, 300);
	refused(&images, -EBADMSG, "no image is left");
	flip_in_all(&slots, "keys/", 0, 40);
	refused(&slots, -EBADMSG, "no key slot");
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		const struct objects o = objects_of(&none.scene, folders[i]);

		for (size_t k = 0; k < o.n; k++)
			store_del(none.scene.memory, o.items[k].name, NULL);
	}
	refused(&none, -ENOENT, "no repository");
}

/* A slot of before slots said so. */
static void slots_that_do_not_say_it_are_not_enough(void **state)
{
	_cleanup_lost_ struct lost l = lost_new(true);
	const struct objects slots = objects_of(&l.scene, "keys/");

	for (size_t i = 0; i < slots.n; i++) {
		_cleanup_(json_decrefp) json_t *o = NULL;
		_cleanup_free_ char *text = NULL;
		void *bytes = NULL;
		size_t len;

		assert_int_equal(store_get_all(l.scene.memory, slots.items[i].name, 4096, &bytes,
					       &len, NULL),
				 0);
		o = json_loadb(bytes, len, 0, NULL);
		free(bytes);
		assert_int_equal(json_object_del(o, "check"), 0);
		assert_int_equal(json_object_del(o, "repository_created_ns"), 0);
		text = checked_json_dump(slots.items[i].name, o);
		assert_non_null(text);
		store_del(l.scene.memory, slots.items[i].name, NULL);
		store_put(l.scene.memory, slots.items[i].name, text, strlen(text), NULL);
	}
	refused(&l, -EBADMSG, "no key slot");
	/* they open as ever where "format" is, and one that is made now says it for all */
	assert_int_equal(store_put(l.scene.memory, "format", l.text, l.len, NULL), 0);
	add_slot(l.scene.memory, &l.format, l.scene.crypt, "new", CRYPT_RIGHTS_WRITE);
	assert_int_equal(store_del(l.scene.memory, "format", NULL), 0);
	assert_int_equal(rebuild(&l, NULL), 0);
	is_as_before(&l);
}

static void it_can_be_interrupted(void **state)
{
	_cleanup_lost_ struct lost l = lost_new(false);
	struct repo_rebuild_result result;
	struct repo *r = NULL;
	struct cancel cancel;

	assert_int_equal(cancel_init(&cancel), 0);
	assert_int_equal(repo_rebuild_open(in_front(l.scene.memory), &cancel, &r, &result, NULL),
			 0);
	cancel_raise(&cancel);
	assert_int_equal(repo_rebuild(r, false, &cancel, &result, NULL), -ECANCELED);
	repo_free(r);
	r = NULL;
	assert_int_equal(repo_rebuild_open(in_front(l.scene.memory), &cancel, &r, &result, NULL),
			 -ECANCELED);
	cancel_done(&cancel);
	assert_int_equal(repo_init_check(l.scene.memory, NULL), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_the_one_that_was_lost),
		cmocka_unit_test(a_damaged_one_is_replaced),
		cmocka_unit_test(one_that_cannot_be_read_is_replaced),
		cmocka_unit_test(it_may_end_at_any_step),
		cmocka_unit_test(one_that_is_put_back_meanwhile_stays),
		cmocka_unit_test(a_newer_one_is_left_alone),
		cmocka_unit_test(an_object_of_another_repository_ends_it),
		cmocka_unit_test(objects_in_the_clear_and_encrypted_ones_end_it),
		cmocka_unit_test(images_with_other_chunks_end_it),
		cmocka_unit_test(key_slots_that_differ_end_it),
		cmocka_unit_test(slots_that_lie_do_not_open),
		cmocka_unit_test(it_takes_a_key_that_can_read),
		cmocka_unit_test(the_rest_may_be_damaged),
		cmocka_unit_test(too_little_is_left),
		cmocka_unit_test(slots_that_do_not_say_it_are_not_enough),
		cmocka_unit_test(it_can_be_interrupted),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
