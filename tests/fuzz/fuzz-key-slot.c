/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A key slot that a store gives: what is accepted costs little, and says the same when it is written and read again. The
 * input is a slot without its end, which is put behind it: no fuzzer finds a hash. (As it is, it is read, too.)
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/checked_json.h"
#include "lib/repo/key_slot.h"
#include "tests/fuzz/fuzz.h"

#define SLOT_ID "0123456789abcdef"

/* What was accepted. */
static void look_at(const struct key_slot *slot, const struct repo_format *format)
{
	_cleanup_free_ char *json = NULL, *json_again = NULL;
	struct key_slot again;
	struct repo_format said;
	struct err e = { 0 };

	FUZZ_CHECK(slot->cost.memory <= KEY_WRAP_MEMORY_MAX);
	FUZZ_CHECK(!slot->cost.memory ||
		   slot->cost.operations <= KEY_WRAP_WORK_MAX / slot->cost.memory);
	FUZZ_CHECK(slot->sealed_len > 0 && slot->sealed_len <= KEY_SLOT_SEALED_MAX);
	FUZZ_CHECK(strlen(slot->label) <= KEY_SLOT_LABEL_MAX);
	json = key_slot_to_json(slot, format);
	FUZZ_CHECK(json && strlen(json) <= KEY_SLOT_JSON_MAX);
	FUZZ_CHECK(key_slot_from_json(SLOT_ID, json, strlen(json), format, &again, &e) == 0);
	json_again = key_slot_to_json(&again, format);
	FUZZ_CHECK(json_again && !strcmp(json, json_again));
	FUZZ_CHECK(key_slot_says_format(SLOT_ID, json, strlen(json), &said, &e) == 0);
	FUZZ_CHECK(said.chunk_shift == format->chunk_shift &&
		   said.created_ns == format->created_ns &&
		   !memcmp(said.id, format->id, sizeof(said.id)));
}

/* What it says of "format", whatever repository's it is. */
static void listen_to(const char *text, size_t len)
{
	struct repo_format said;
	struct err e = { 0 };

	if (key_slot_says_format(SLOT_ID, text, len, &said, &e) < 0) {
		FUZZ_CHECK(e.code < 0 && *e.text);
	} else {
		FUZZ_CHECK(said.chunk_shift >= AMBRO_CHUNK_SHIFT_MIN &&
			   said.chunk_shift <= AMBRO_CHUNK_SHIFT_MAX && said.encrypted);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct repo_format format = { .chunk_shift = 18, .encrypted = true };
	_cleanup_free_ char *text = malloc(size + CHECKED_JSON_END + 1);
	struct key_slot slot;
	struct err e = { 0 };

	FUZZ_CHECK(text);
	if (size)
		memcpy(text, data, size);
	if (key_slot_from_json(SLOT_ID, text, size, &format, &slot, &e) < 0)
		FUZZ_CHECK(e.code < 0 && *e.text);
	checked_json_end("keys/" SLOT_ID, text, size, text + size);
	listen_to(text, size + CHECKED_JSON_END);
	if (key_slot_from_json(SLOT_ID, text, size + CHECKED_JSON_END, &format, &slot, &e) < 0) {
		FUZZ_CHECK(e.code < 0 && *e.text);
	} else {
		look_at(&slot, &format);
	}
	return 0;
}
