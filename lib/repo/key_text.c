/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/key_text.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "lib/base/hex.h"

#define KEY_CHECK 4

static_assert(KEY_SIZE == crypto_box_SECRETKEYBYTES, "libsodium's");
static_assert(KEY_SIZE == crypto_box_PUBLICKEYBYTES, "libsodium's");

static const char key_label_secret[] = "AMBRO-SECRET-1:";
static const char key_label_public[] = "AMBRO-PUBLIC-1:";
static const char key_label_repository[] = "AMBRO-REPOSITORY-1:";

static_assert(sizeof(key_label_repository) + 2ul * (KEY_SIZE + KEY_CHECK) < KEY_TEXT_MAX,
	      "it fits");

void key_pair_free(struct key_pair *k)
{
	secret_release(k);
}

struct key_pair *key_pair_generate(struct err *e)
{
	struct key_pair *k = secret_alloc(sizeof(*k), e);

	if (k) {
		crypto_box_keypair(k->public, k->secret);
		k->has_secret = true;
	}
	return k;
}

/* Over the label and the digits, in lower case. */
static void key_check(const char *text, size_t len, uint8_t ret[KEY_CHECK])
{
	uint8_t hash[crypto_generichash_BYTES];

	crypto_generichash(hash, sizeof(hash), (const uint8_t *)text, len, NULL, 0);
	memcpy(ret, hash, KEY_CHECK);
	sodium_memzero(hash, sizeof(hash));
}

static char *key_text(const char *label, const uint8_t *bytes, size_t len, char ret[KEY_TEXT_MAX])
{
	uint8_t check[KEY_CHECK];
	size_t n = strlen(label);

	memcpy(ret, label, n + 1);
	hex_encode(bytes, len, ret + n);
	n += 2 * len;
	key_check(ret, n, check);
	hex_encode(check, sizeof(check), ret + n);
	return ret;
}

char *key_text_secret(const struct key_pair *k, char ret[KEY_TEXT_MAX])
{
	return key_text(key_label_secret, k->secret, KEY_SIZE, ret);
}

char *key_text_public(const uint8_t public[KEY_SIZE], char ret[KEY_TEXT_MAX])
{
	return key_text(key_label_public, public, KEY_SIZE, ret);
}

char *key_text_repository(const uint8_t id[REPO_ID_SIZE], char ret[KEY_TEXT_MAX])
{
	return key_text(key_label_repository, id, REPO_ID_SIZE, ret);
}

/* @digits: @n of them behind the label. The line is made anew in @room from what they say, and compared. */
static bool key_line_decode(const char *label, const uint8_t *digits, size_t n, uint8_t *ret,
			    size_t len, char room[KEY_TEXT_MAX])
{
	if (n != 2 * (len + KEY_CHECK))
		return false;
	memcpy(room, digits, 2 * len);
	room[2 * len] = '\0';
	if (hex_decode(room, ret, len) < 0)
		return false;
	key_text(label, ret, len, room);
	return !strncasecmp(room + strlen(label), (const char *)digits, n);
}

static bool key_line_is(const uint8_t *line, size_t len, const char *label)
{
	return len >= strlen(label) && !memcmp(line, label, strlen(label));
}

/* What lines have been there. */
struct key_seen {
	bool secret, public, repository;
};

/* 0, or -EINVAL: not a line of ours, or it is there twice, or damaged. */
static int key_line_parse(const uint8_t *line, size_t len, struct key_pair *k, struct key_seen *s,
			  char room[KEY_TEXT_MAX])
{
	const struct {
		const char *label;
		bool *seen;
		uint8_t *bytes;
		size_t len;
	} kinds[] = {
		{ key_label_secret, &s->secret, k->secret, KEY_SIZE },
		{ key_label_public, &s->public, k->public, KEY_SIZE },
		{ key_label_repository, &s->repository, k->repository, REPO_ID_SIZE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t n = strlen(kinds[i].label);

		if (!key_line_is(line, len, kinds[i].label))
			continue;
		if (*kinds[i].seen || !key_line_decode(kinds[i].label, line + n, len - n,
						       kinds[i].bytes, kinds[i].len, room))
			return -EINVAL;
		*kinds[i].seen = true;
		return 0;
	}
	return -EINVAL;
}

/* A file with both halves must have those of one key; one with the secret half only is made whole. */
static int key_pair_complete(struct key_pair *k, const struct key_seen *seen)
{
	uint8_t public[KEY_SIZE];

	k->has_secret = seen->secret;
	k->has_repository = seen->repository;
	if (!seen->secret)
		return seen->public ? 0 : -EINVAL;
	if (crypto_scalarmult_base(public, k->secret) < 0)
		return -EINVAL;
	if (seen->public && memcmp(public, k->public, KEY_SIZE) != 0)
		return -EINVAL;
	memcpy(k->public, public, KEY_SIZE);
	return 0;
}

static bool key_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

int key_text_parse(const char *what, const uint8_t *text, size_t len, struct key_pair **ret,
		   struct err *e)
{
	_cleanup_(key_pair_freep) struct key_pair *k = NULL;
	_cleanup_(secret_freep) struct secret *room = NULL;
	struct key_seen seen = { 0 };

	k = secret_alloc(sizeof(*k), e);
	room = secret_new(KEY_TEXT_MAX, e);
	if (!k || !room)
		return -ENOMEM;
	for (size_t at = 0, number = 1, n; at < len; at += n + 1, number++) {
		const uint8_t *line = text + at, *end = memchr(line, '\n', len - at);
		size_t used;

		n = end ? (size_t)(end - line) : len - at;
		used = n;
		while (used && key_blank(line[used - 1]))
			used--;
		if (!used || *line == '#')
			continue;
		if (key_line_parse(line, used, k, &seen, (char *)room->bytes) < 0) {
			return err_set(e, -EINVAL,
				       "%s, line %zu: not a key, or mistyped (a line is "
				       "AMBRO-SECRET-1:… or AMBRO-PUBLIC-1:…)",
				       what, number);
		}
	}
	if (key_pair_complete(k, &seen) < 0) {
		return err_set(e, -EINVAL,
			       seen.secret ? "%s: its two lines are not of one key"
					   : "%s: there is no key in it",
			       what);
	}
	*ret = TAKE_PTR(k);
	return 0;
}
