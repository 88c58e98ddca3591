/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/record.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "lib/image/codec.h"

#define RECORD_VERSION 1

void record_make_unchecked(enum ambro_record_type type, size_t body_len, struct record_head *ret)
{
	*ret = (struct record_head){
		.skip = { .magic = le32(AMBRO_SKIPPABLE),
			  .length = le32((uint32_t)(sizeof(ret->record) + body_len)) },
		.record = { .type = (uint8_t)type,
			    .version = RECORD_VERSION,
			    .flags = le16(AMBRO_RECORD_CRITICAL),
			    .length = le64(body_len) },
	};
	memcpy(ret->record.magic, AMBRO_RECORD_MAGIC, sizeof(ret->record.magic));
}

void record_make(enum ambro_record_type type, const void *body, size_t body_len,
		 struct record_head *ret)
{
	record_make_unchecked(type, body_len, ret);
	record_check(&ret->record, sizeof(ret->record), body, body_len, ret->record.check);
}

uint64_t record_body_len(const struct record_head *h)
{
	return le64_get(h->record.length);
}

int record_version_check(const struct record_head *h, const char *what, struct err *e)
{
	if (h->record.version <= RECORD_VERSION)
		return 0;
	return err_set(
		e, -ENOTSUP,
		"the %s record has version %u, this tool reads up to %d: a newer tool is needed",
		what, h->record.version, RECORD_VERSION);
}

int record_head_check(const struct record_head *h, enum ambro_record_type type, uint64_t available,
		      const char *what, struct err *e)
{
	const uint64_t len = record_body_len(h);

	if (available < sizeof(*h) || le32_get(h->skip.magic) != AMBRO_SKIPPABLE ||
	    memcmp(h->record.magic, AMBRO_RECORD_MAGIC, sizeof(h->record.magic)) != 0)
		return err_set(e, -EBADMSG, "there is no %s record where one should be", what);
	if (h->record.type != type) {
		return err_set(e, -EBADMSG, "a record of type %u stands where a %s should be",
			       h->record.type, what);
	}
	if (!h->record.version || len > available - sizeof(*h) ||
	    le32_get(h->skip.length) != sizeof(h->record) + len)
		return err_set(e, -EBADMSG, "the %s record's head is damaged", what);
	return 0;
}

int record_body_check(const struct record_head *h, const void *body, const char *what,
		      struct err *e)
{
	struct ambro_record head = h->record;
	uint8_t check[AMBRO_CHECK_SIZE];

	memset(head.check, 0, sizeof(head.check));
	record_check(&head, sizeof(head), body, record_body_len(h), check);
	if (memcmp(check, h->record.check, sizeof(check)) != 0) {
		return err_set(e, -EBADMSG, "the %s record is damaged (its check does not match)",
			       what);
	}
	return record_version_check(h, what, e);
}
