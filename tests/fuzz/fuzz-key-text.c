/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A key's file: the lines of what is accepted are accepted again, and are the same key. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/key_text.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(key_pair_freep) struct key_pair *k = NULL, *again = NULL;
	char public[KEY_TEXT_MAX], secret[KEY_TEXT_MAX], repository[KEY_TEXT_MAX];
	char file[3 * KEY_TEXT_MAX];
	struct err e = { 0 };

	if (key_text_parse("file", data, size, &k, &e) < 0) {
		FUZZ_CHECK(e.code < 0 && *e.text && !k);
		return 0;
	}
	snprintf(file, sizeof(file), "%s\n%s\n%s", key_text_public(k->public, public),
		 k->has_secret ? key_text_secret(k, secret) : "",
		 k->has_repository ? key_text_repository(k->repository, repository) : "");
	FUZZ_CHECK(key_text_parse("file", (const uint8_t *)file, strlen(file), &again, &e) == 0);
	FUZZ_CHECK(again->has_secret == k->has_secret);
	FUZZ_CHECK(again->has_repository == k->has_repository);
	FUZZ_CHECK(!memcmp(again->public, k->public, KEY_SIZE));
	FUZZ_CHECK(!memcmp(again->secret, k->secret, KEY_SIZE));
	return 0;
}
