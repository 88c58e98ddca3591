/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <sodium.h>

#include "lib/base/hex.h"
#include "lib/repo/crypt.h"
#include "lib/repo/secret.h"

/* box secret 00 … 1f, write secret 40 … 5f; what follows from them was computed by Python's hashlib and by hand */
static const char known_public[] =
	"8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f";
static const char known_repo_id[] = "8589f88d57ee664294ab65550a467abb";
static const char known_name[] =
	"8582d53c76bbc48ed2435a37371759b2c806750e1e870b29d1b03de69f96d1b5"; /* of the id 80 … 9f */
static const char known_index_key[] =
	"f70f8c750932c306a4a3be88d4ad0bbffae9901cafd33ec248d956ecb0f11fa1";
static const char known_session_key[] =
	"ace38d39b808f1cf243cd84ce7a47224d08bb1a7b1866f2828e332fa6acb2b31"; /* of the session key a0 … bf */

static void fill(uint8_t *p, size_t n, unsigned int from)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(from + i);
}

/* As crypt_export() lays it out: version, rights, two zeros, public, secret, write secret. */
static void known_secrets(uint8_t ret[CRYPT_SECRETS_SIZE], enum crypt_rights rights)
{
	memset(ret, 0, CRYPT_SECRETS_SIZE);
	ret[0] = 1;
	ret[1] = (uint8_t)rights;
	assert_int_equal(hex_decode(known_public, ret + 4, 32), 0);
	if (rights == CRYPT_RIGHTS_FULL)
		fill(ret + 36, 32, 0);
	fill(ret + 68, 32, 0x40);
}

static struct crypt *known_crypt(enum crypt_rights rights)
{
	uint8_t secrets[CRYPT_SECRETS_SIZE];
	struct crypt *c = NULL;

	known_secrets(secrets, rights);
	assert_int_equal(crypt_import(secrets, &c, NULL), 0);
	assert_int_equal(crypt_rights(c), rights);
	return c;
}

static void assert_hex(const uint8_t *bytes, size_t len, const char *hex)
{
	char text[128];

	assert_string_equal(hex_encode(bytes, len, text), hex);
}

static void names_are_keyed_blake2b(void **state)
{
	_cleanup_(crypt_freep) struct crypt *c = known_crypt(CRYPT_RIGHTS_FULL);
	_cleanup_(crypt_freep) struct crypt *w = known_crypt(CRYPT_RIGHTS_WRITE);
	struct chunk_id id, name;

	fill(id.b, sizeof(id.b), 0x80);
	crypt_name(c, &id, &name);
	assert_hex(name.b, sizeof(name.b), known_name);
	memset(&name, 0, sizeof(name));
	crypt_name(w, &id, &name);
	assert_hex(name.b, sizeof(name.b), known_name);
	crypt_name(NULL, &id, &name);
	assert_memory_equal(&name, &id, sizeof(id));
}

static void a_repository_s_id_follows_from_its_secrets(void **state)
{
	_cleanup_(crypt_freep) struct crypt *c = known_crypt(CRYPT_RIGHTS_FULL);
	_cleanup_(crypt_freep) struct crypt *w = known_crypt(CRYPT_RIGHTS_WRITE);
	uint8_t id[REPO_ID_SIZE];

	crypt_repo_id(c, id);
	assert_hex(id, sizeof(id), known_repo_id);
	memset(id, 0, sizeof(id));
	crypt_repo_id(w, id);
	assert_hex(id, sizeof(id), known_repo_id);
}

/* What another implementation sealed under @key is what @s opens. */
static void assert_session_key(const struct crypt_session *s, const char *key_hex)
{
	uint8_t key[32], sealed[5 + REPO_SEAL_EXTRA], plain[5] = { 0 };

	assert_int_equal(hex_decode(key_hex, key, sizeof(key)), 0);
	fill(sealed, REPO_SEAL_NONCE, 7);
	crypto_aead_xchacha20poly1305_ietf_encrypt(sealed + REPO_SEAL_NONCE, NULL,
						   (const uint8_t *)"hello", 5,
						   (const uint8_t *)"bound", 5, NULL, sealed, key);
	assert_int_equal(crypt_open(s, "bound", 5, sealed, sizeof(sealed), plain), 0);
	assert_memory_equal(plain, "hello", 5);
}

static void keys_of_sessions_are_derived_as_documented(void **state)
{
	_cleanup_(crypt_freep) struct crypt *c = known_crypt(CRYPT_RIGHTS_FULL);
	_cleanup_(crypt_session_freep) struct crypt_session *index = NULL, *s = NULL;
	uint8_t public[32], session[32], sealed[REPO_SESSION_SEAL_SIZE];

	assert_int_equal(crypt_session_index(c, &index, NULL), 0);
	assert_session_key(index, known_index_key);
	assert_int_equal(hex_decode(known_public, public, sizeof(public)), 0);
	fill(session, sizeof(session), 0xa0);
	crypto_box_seal(sealed, session, sizeof(session), public);
	assert_int_equal(crypt_session_open(c, sealed, &s, NULL), 0);
	assert_session_key(s, known_session_key);
}

/* draft-irtf-cfrg-xchacha-03, appendix A.3.1 */
static void the_cipher_is_the_draft_s(void **state)
{
	static const char plain[] =
		"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for "
		"the future, sunscreen would be it.";
	static const char tag[] = "c0875924c1c7987947deafd8780acf49";
	uint8_t key[32], nonce[24], bound[12], out[sizeof(plain) + 16];

	fill(key, sizeof(key), 0x80);
	fill(nonce, sizeof(nonce), 0x40);
	assert_int_equal(hex_decode("50515253c0c1c2c3c4c5c6c7", bound, sizeof(bound)), 0);
	crypto_aead_xchacha20poly1305_ietf_encrypt(out, NULL, (const uint8_t *)plain,
						   sizeof(plain) - 1, bound, sizeof(bound), NULL,
						   nonce, key);
	assert_hex(out + sizeof(plain) - 1, 16, tag);
}

static void who_may_write_seals_and_who_may_read_opens(void **state)
{
	_cleanup_(crypt_freep) struct crypt *c = known_crypt(CRYPT_RIGHTS_FULL);
	_cleanup_(crypt_freep) struct crypt *w = known_crypt(CRYPT_RIGHTS_WRITE);
	_cleanup_(crypt_session_freep) struct crypt_session *in = NULL, *out = NULL, *no = NULL;
	uint8_t seal[REPO_SESSION_SEAL_SIZE], sealed[3 + REPO_SEAL_EXTRA], plain[3];
	struct err e = { 0 };

	assert_int_equal(crypt_session_new(w, seal, &in, NULL), 0);
	crypt_seal(in, NULL, 0, "abc", 3, sealed);
	assert_int_equal(crypt_session_open(w, seal, &no, &e), -EACCES);
	assert_non_null(strstr(e.text, "not read"));
	assert_null(no);
	assert_int_equal(crypt_session_open(c, seal, &out, NULL), 0);
	assert_int_equal(crypt_open(out, NULL, 0, sealed, sizeof(sealed), plain), 0);
	assert_memory_equal(plain, "abc", 3);
}

static void index_files_are_read_by_all_who_may_write(void **state)
{
	_cleanup_(crypt_freep) struct crypt *c = known_crypt(CRYPT_RIGHTS_FULL);
	_cleanup_(crypt_freep) struct crypt *w = known_crypt(CRYPT_RIGHTS_WRITE);
	_cleanup_(crypt_session_freep) struct crypt_session *a = NULL, *b = NULL;
	uint8_t sealed[3 + REPO_SEAL_EXTRA], plain[3];

	assert_int_equal(crypt_session_index(c, &a, NULL), 0);
	assert_int_equal(crypt_session_index(w, &b, NULL), 0);
	crypt_seal(a, "x", 1, "abc", 3, sealed);
	assert_int_equal(crypt_open(b, "x", 1, sealed, sizeof(sealed), plain), 0);
}

static void every_flipped_bit_is_refused(void **state)
{
	_cleanup_(crypt_freep) struct crypt *c = known_crypt(CRYPT_RIGHTS_FULL);
	_cleanup_(crypt_session_freep) struct crypt_session *s = NULL;
	uint8_t sealed[40 + REPO_SEAL_EXTRA], bound[64], plain[40], back[40];

	fill(bound, sizeof(bound), 3);
	fill(plain, sizeof(plain), 5);
	assert_int_equal(crypt_session_index(c, &s, NULL), 0);
	crypt_seal(s, bound, sizeof(bound), plain, sizeof(plain), sealed);
	assert_int_equal(crypt_open(s, bound, sizeof(bound), sealed, sizeof(sealed), back), 0);
	assert_memory_equal(plain, back, sizeof(plain));
	for (size_t bit = 0; bit < 8 * sizeof(sealed); bit++) {
		sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(crypt_open(s, bound, sizeof(bound), sealed, sizeof(sealed), back),
				 -EBADMSG);
		sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * sizeof(bound); bit++) {
		bound[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(crypt_open(s, bound, sizeof(bound), sealed, sizeof(sealed), back),
				 -EBADMSG);
		bound[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t len = 0; len < sizeof(sealed); len++)
		assert_int_equal(crypt_open(s, bound, sizeof(bound), sealed, len, back), -EBADMSG);
	assert_int_equal(crypt_open(s, bound, sizeof(bound) - 1, sealed, sizeof(sealed), back),
			 -EBADMSG);
	assert_int_equal(crypt_open(s, bound, sizeof(bound), sealed, sizeof(sealed), back), 0);
}

static void a_flipped_bit_in_a_session_s_seal_is_refused(void **state)
{
	_cleanup_(crypt_freep) struct crypt *c = known_crypt(CRYPT_RIGHTS_FULL);
	_cleanup_(crypt_session_freep) struct crypt_session *s = NULL;
	uint8_t seal[REPO_SESSION_SEAL_SIZE];

	assert_int_equal(crypt_session_new(c, seal, &s, NULL), 0);
	for (size_t bit = 0; bit < 8 * sizeof(seal); bit++) {
		struct crypt_session *no = NULL;

		/* the highest bit of an X25519 point means nothing, but is part of what the box's nonce is made of */
		seal[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(crypt_session_open(c, seal, &no, NULL), -EBADMSG);
		seal[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void another_repository_opens_nothing(void **state)
{
	_cleanup_(crypt_freep) struct crypt *a = NULL, *b = NULL;
	_cleanup_(crypt_session_freep) struct crypt_session *s = NULL, *t = NULL;
	uint8_t seal[REPO_SESSION_SEAL_SIZE], sealed[3 + REPO_SEAL_EXTRA], plain[3];
	struct chunk_id id = { { 1 } }, x, y;

	assert_int_equal(crypt_new(&a, NULL), 0);
	assert_int_equal(crypt_new(&b, NULL), 0);
	assert_int_equal(crypt_session_new(a, seal, &s, NULL), 0);
	assert_int_equal(crypt_session_open(b, seal, &t, NULL), -EBADMSG);
	assert_null(t);
	crypt_session_free(TAKE_PTR(s));
	assert_int_equal(crypt_session_index(a, &s, NULL), 0);
	assert_int_equal(crypt_session_index(b, &t, NULL), 0);
	crypt_seal(s, NULL, 0, "abc", 3, sealed);
	assert_int_equal(crypt_open(t, NULL, 0, sealed, sizeof(sealed), plain), -EBADMSG);
	crypt_name(a, &id, &x);
	crypt_name(b, &id, &y);
	assert_memory_not_equal(&x, &y, sizeof(x));
}

/* Who has the box alone, and makes a session of it, is not believed: the write secret is missing. */
static void the_public_key_alone_cannot_write(void **state)
{
	_cleanup_(crypt_freep) struct crypt *c = known_crypt(CRYPT_RIGHTS_FULL);
	_cleanup_(crypt_session_freep) struct crypt_session *s = NULL;
	uint8_t public[32], key[32] = { 9 }, seal[REPO_SESSION_SEAL_SIZE];
	uint8_t sealed[3 + REPO_SEAL_EXTRA] = { 0 }, plain[3];

	assert_int_equal(hex_decode(known_public, public, sizeof(public)), 0);
	crypto_box_seal(seal, key, sizeof(key), public);
	crypto_aead_xchacha20poly1305_ietf_encrypt(sealed + REPO_SEAL_NONCE, NULL,
						   (const uint8_t *)"abc", 3, NULL, 0, NULL, sealed,
						   key);
	assert_int_equal(crypt_session_open(c, seal, &s, NULL), 0);
	assert_int_equal(crypt_open(s, NULL, 0, sealed, sizeof(sealed), plain), -EBADMSG);
}

static void no_two_seals_are_the_same(void **state)
{
	_cleanup_(crypt_freep) struct crypt *c = known_crypt(CRYPT_RIGHTS_FULL);
	_cleanup_(crypt_session_freep) struct crypt_session *s = NULL;
	uint8_t a[3 + REPO_SEAL_EXTRA], b[3 + REPO_SEAL_EXTRA];

	assert_int_equal(crypt_session_index(c, &s, NULL), 0);
	crypt_seal(s, NULL, 0, "abc", 3, a);
	crypt_seal(s, NULL, 0, "abc", 3, b);
	assert_memory_not_equal(a, b, REPO_SEAL_NONCE);
	assert_memory_not_equal(a + REPO_SEAL_NONCE, b + REPO_SEAL_NONCE, 3 + REPO_SEAL_TAG);
}

static void secrets_go_out_and_come_back(void **state)
{
	_cleanup_(crypt_freep) struct crypt *c = known_crypt(CRYPT_RIGHTS_FULL), *w = NULL;
	uint8_t known[CRYPT_SECRETS_SIZE], out[CRYPT_SECRETS_SIZE];

	known_secrets(known, CRYPT_RIGHTS_FULL);
	crypt_export(c, CRYPT_RIGHTS_FULL, out);
	assert_memory_equal(known, out, sizeof(out));
	known_secrets(known, CRYPT_RIGHTS_WRITE);
	crypt_export(c, CRYPT_RIGHTS_WRITE, out);
	assert_memory_equal(known, out, sizeof(out));
	/* and who has not the rights, cannot give them */
	assert_int_equal(crypt_import(out, &w, NULL), 0);
	crypt_export(w, CRYPT_RIGHTS_FULL, out);
	assert_memory_equal(known, out, sizeof(out));
}

static void what_are_no_secrets_is_refused(void **state)
{
	uint8_t secrets[CRYPT_SECRETS_SIZE];
	struct crypt *c = NULL;

	/* version, rights, reserved, both halves of the box; any write secret is one */
	for (size_t byte = 0; byte < 68; byte++) {
		known_secrets(secrets, CRYPT_RIGHTS_FULL);
		/* X25519 ignores the three lowest bits of the first byte, and two of the last */
		secrets[byte] ^= 8;
		assert_int_equal(crypt_import(secrets, &c, NULL), -EBADMSG);
	}
	known_secrets(secrets, CRYPT_RIGHTS_WRITE);
	secrets[50] = 1;
	assert_int_equal(crypt_import(secrets, &c, NULL), -EBADMSG);
	memset(secrets, 0, sizeof(secrets));
	assert_int_equal(crypt_import(secrets, &c, NULL), -EBADMSG);
	assert_null(c);
}

static void memory_that_cannot_be_locked_is_told(void **state)
{
	struct rlimit old, none = { 0, 0 };
	struct crypt *c = NULL;
	uid_t uid = geteuid();
	struct err e = { 0 };
	int r;

	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &old), 0);
	none.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	/* who has CAP_IPC_LOCK has no limit */
	if (uid == 0)
		assert_int_equal(seteuid(65534), 0);
	r = crypt_new(&c, &e);
	assert_int_equal(seteuid(uid), 0);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &old), 0);
	if (r == 0) {
		/* the sanitizers' mlock() does nothing */
		crypt_free(c);
		skip();
	}
	assert_int_equal(r, -ENOMEM);
	assert_non_null(strstr(e.text, "ulimit -l"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_keyed_blake2b),
		cmocka_unit_test(a_repository_s_id_follows_from_its_secrets),
		cmocka_unit_test(keys_of_sessions_are_derived_as_documented),
		cmocka_unit_test(the_cipher_is_the_draft_s),
		cmocka_unit_test(who_may_write_seals_and_who_may_read_opens),
		cmocka_unit_test(index_files_are_read_by_all_who_may_write),
		cmocka_unit_test(every_flipped_bit_is_refused),
		cmocka_unit_test(a_flipped_bit_in_a_session_s_seal_is_refused),
		cmocka_unit_test(another_repository_opens_nothing),
		cmocka_unit_test(the_public_key_alone_cannot_write),
		cmocka_unit_test(no_two_seals_are_the_same),
		cmocka_unit_test(secrets_go_out_and_come_back),
		cmocka_unit_test(what_are_no_secrets_is_refused),
		cmocka_unit_test(memory_that_cannot_be_locked_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
