/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mend - make the checks of a mutated image good again, so that mutations come further than the first hash. */
#pragma once

#include <stdint.h>
#include <string.h>

#include "lib/image/codec.h"
#include "lib/image/digest.h"
#include "lib/image/record.h"

#define MEND_CHECKS 1u /* of every record that can be found */
#define MEND_HASHES 2u /* in the TRAILER, of INDEX and MANIFEST */

static inline void mend_record(uint8_t *at, size_t room)
{
	struct record_head head;
	uint64_t len;

	if (room < sizeof(head))
		return;
	memcpy(&head, at, sizeof(head));
	len = le64_get(head.record.length);
	if (len > room - sizeof(head))
		return;
	memset(head.record.check, 0, sizeof(head.record.check));
	record_check(&head.record, sizeof(head.record), at + sizeof(head), len, head.record.check);
	memcpy(at, &head, sizeof(head));
}

/* The SHA-256 of the body of the record at @offset into @ret, if there is one. */
static inline void mend_hash(const uint8_t *image, size_t size, uint64_t offset, uint64_t frame_len,
			     uint8_t ret[32])
{
	struct iovec body;

	if (offset > size || frame_len > size - offset || frame_len < sizeof(struct record_head))
		return;
	body.iov_base = (void *)(image + offset + sizeof(struct record_head));
	body.iov_len = frame_len - sizeof(struct record_head);
	digest_of(&body, 1, ret);
}

static inline void mend_trailer(uint8_t *image, size_t size, uint8_t *at, size_t room)
{
	struct ambro_trailer t;

	if (room < AMBRO_TRAILER_FRAME_LEN)
		return;
	memcpy(&t, at + sizeof(struct record_head), sizeof(t));
	mend_hash(image, size, le64_get(t.index_offset), le64_get(t.index_frame_len),
		  t.index_sha256);
	mend_hash(image, size, le64_get(t.manifest_offset), le64_get(t.manifest_frame_len),
		  t.manifest_sha256);
	memcpy(at + sizeof(struct record_head), &t, sizeof(t));
}

static inline void mend(uint8_t *image, size_t size, unsigned int how)
{
	const le32_t magic = le32(AMBRO_SKIPPABLE);

	for (size_t i = 0; i + sizeof(struct record_head) <= size; i++) {
		struct record_head head;

		if (memcmp(image + i, &magic, sizeof(magic)) != 0)
			continue;
		memcpy(&head, image + i, sizeof(head));
		if (how & MEND_HASHES && head.record.type == AMBRO_RECORD_TRAILER)
			mend_trailer(image, size, image + i, size - i);
		if (how & MEND_CHECKS)
			mend_record(image + i, size - i);
	}
}
