/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A manifest is parsed, written again and parsed again: what was accepted once says the same for ever. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/manifest.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL, *again = NULL;
	_cleanup_free_ char *json = NULL, *json_again = NULL;
	size_t len, len_again;
	struct err e = { 0 };

	if (manifest_from_json((const char *)data, size, &m, &e) < 0) {
		FUZZ_CHECK(e.code < 0 && *e.text);
		return 0;
	}
	FUZZ_CHECK(manifest_to_json(m, &json, &len, &e) == 0);
	FUZZ_CHECK(manifest_from_json(json, len, &again, &e) == 0);
	FUZZ_CHECK(manifest_to_json(again, &json_again, &len_again, &e) == 0);
	FUZZ_CHECK(len == len_again && !memcmp(json, json_again, len));
	return 0;
}
