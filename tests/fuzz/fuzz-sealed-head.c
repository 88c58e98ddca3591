/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The head of an encrypted file: what is accepted costs little, and is what was read. Input: a flag (mend the check), the file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/sealed_head.h"
#include "tests/fuzz/fuzz.h"

#define FLAG_MEND 1u

static void mend_check(uint8_t *file, size_t len)
{
	struct record_head h;

	if (len < sizeof(h))
		return;
	memcpy(&h, file, sizeof(h));
	if (record_body_len(&h) > len - sizeof(h))
		return;
	record_make((enum ambro_record_type)SEALED_RECORD, file + sizeof(h), record_body_len(&h),
		    &h);
	memcpy(file, &h, sizeof(h));
}

static void check_head(const struct sealed_head *h, const uint8_t *file, size_t len)
{
	uint64_t work = 0;

	FUZZ_CHECK(sealed_head_probe(file, len));
	FUZZ_CHECK(h->len <= len && h->len <= SEALED_HEAD_MAX && !memcmp(h->bytes, file, h->len));
	FUZZ_CHECK(h->slots >= 1 && h->slots <= SEALED_SLOTS_MAX && !h->session);
	FUZZ_CHECK(h->shift >= SEALED_SHIFT_MIN && h->shift <= SEALED_SHIFT_MAX);
	for (size_t i = 0; i < h->slots; i++) {
		struct sealed_file_slot slot;

		memcpy(&slot,
		       h->bytes + SEALED_START + sizeof(struct sealed_file_head) + i * sizeof(slot),
		       sizeof(slot));
		FUZZ_CHECK(le64_get(slot.memory) <= KEY_WRAP_MEMORY_MAX);
		work += le64_get(slot.operations) * le64_get(slot.memory);
	}
	FUZZ_CHECK(work <= KEY_WRAP_ALL_WORK_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(sealed_head_freep) struct sealed_head *h = NULL;
	_cleanup_free_ uint8_t *file = NULL;
	struct err e = { 0 };
	size_t len;
	int r;

	if (!size)
		return 0;
	len = size - 1;
	file = malloc(size);
	if (!file)
		return 0;
	memcpy(file, data + 1, len);
	if (data[0] & FLAG_MEND)
		mend_check(file, len);
	sealed_head_probe(file, len);
	r = sealed_head_parse(file, len, &h, &e);
	if (r < 0) {
		FUZZ_CHECK(e.code == r && *e.text && !h);
		return 0;
	}
	check_head(h, file, len);
	return 0;
}
