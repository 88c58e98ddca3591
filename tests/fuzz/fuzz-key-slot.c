/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A key slot that a store gives: what is accepted costs little, and says the same when it is written and read again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/key_slot.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct repo_format format = { .chunk_shift = 18, .encrypted = true };
	_cleanup_free_ char *json = NULL, *json_again = NULL;
	struct key_slot slot, again;
	struct err e = { 0 };

	if (key_slot_from_json("0123456789abcdef", (const char *)data, size, &format, &slot, &e) <
	    0) {
		FUZZ_CHECK(e.code < 0 && *e.text);
		return 0;
	}
	FUZZ_CHECK(slot.cost.memory <= KEY_WRAP_MEMORY_MAX);
	FUZZ_CHECK(!slot.cost.memory ||
		   slot.cost.operations <= KEY_WRAP_WORK_MAX / slot.cost.memory);
	FUZZ_CHECK(slot.sealed_len > 0 && slot.sealed_len <= KEY_SLOT_SEALED_MAX);
	FUZZ_CHECK(strlen(slot.label) <= KEY_SLOT_LABEL_MAX);
	json = key_slot_to_json(&slot, &format);
	FUZZ_CHECK(json && strlen(json) <= KEY_SLOT_JSON_MAX);
	FUZZ_CHECK(key_slot_from_json("0123456789abcdef", json, strlen(json), &format, &again,
				      &e) == 0);
	json_again = key_slot_to_json(&again, &format);
	FUZZ_CHECK(json_again && !strcmp(json, json_again));
	return 0;
}
