/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/sealed_head.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

static_assert(CRYPT_FILE_KEY == KEY_WRAP_KEY, "both are of the same cipher");

void sealed_head_free(struct sealed_head *h)
{
	if (!h)
		return;
	crypt_session_free(h->session);
	free(h->bytes);
	free(h);
}

/* ---- the bytes ---------------------------------------------------------------------------------- */

static uint64_t head_body_len(size_t slots)
{
	return sizeof(struct sealed_file_head) + slots * sizeof(struct sealed_file_slot);
}

static void head_read(const struct sealed_head *h, struct sealed_file_head *ret)
{
	memcpy(ret, h->bytes + SEALED_START, sizeof(*ret));
}

static uint8_t *head_slot_at(const struct sealed_head *h, size_t i)
{
	return h->bytes + SEALED_START + head_body_len(i);
}

static void head_slot(const struct sealed_head *h, size_t i, struct sealed_file_slot *ret)
{
	memcpy(ret, head_slot_at(h, i), sizeof(*ret));
}

/* What segments are bound to, once all bytes are there. */
static void head_bind(struct sealed_head *h)
{
	struct sealed_file_head head;

	head_read(h, &head);
	memcpy(h->bound.file_id, head.file_id, sizeof(head.file_id));
	crypto_generichash(h->bound.head_hash, sizeof(h->bound.head_hash), h->bytes, h->len, NULL,
			   0);
}

static void head_slot_bound(const struct sealed_file_head *head,
			    const struct sealed_file_slot *slot, uint8_t ret[KEY_WRAP_BOUND])
{
	struct sealed_slot_bound b = { .magic = "AMBRFSLT", .head = *head };

	memcpy(b.slot, slot, sizeof(b.slot));
	crypto_generichash(ret, KEY_WRAP_BOUND, (const uint8_t *)&b, sizeof(b), NULL, 0);
}

/* ---- making ------------------------------------------------------------------------------------- */

static int head_new_slot(const struct sealed_file_head *head, const struct sealed_reader_key *k,
			 const struct secret *file_key, struct sealed_file_slot *slot,
			 struct err *e)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct key_wrap_cost cost = { .operations = k->operations ? k->operations
								  : KEY_WRAP_OPERATIONS,
				      .memory = k->memory ? k->memory : KEY_WRAP_MEMORY };
	uint8_t bound[KEY_WRAP_BOUND];

	memset(slot, 0, sizeof(*slot));
	if (!k->passphrase) {
		slot->type = SEALED_RECIPIENT;
		memcpy(slot->public, k->public, sizeof(slot->public));
		head_slot_bound(head, slot, bound);
		return key_wrap_seal_to(k->public, bound, file_key->bytes, file_key->len,
					slot->sealed, e);
	}
	if (!k->passphrase->len)
		return err_set(e, -EINVAL, "the passphrase is empty");
	randombytes_buf(cost.salt, sizeof(cost.salt));
	slot->type = SEALED_PASSPHRASE;
	slot->operations = le64(cost.operations);
	slot->memory = le64(cost.memory);
	memcpy(slot->salt, cost.salt, sizeof(slot->salt));
	key = key_wrap_derive(&cost, k->passphrase, e);
	if (!key)
		return -ENOMEM;
	head_slot_bound(head, slot, bound);
	key_wrap_seal(key, bound, file_key->bytes, file_key->len, slot->sealed);
	return 0;
}

/* Slots first, then the record around them. */
static int head_new_fill(struct sealed_head *h, const struct sealed_reader_key *keys,
			 const struct secret *file_key, struct err *e)
{
	struct sealed_file_head head = { .magic = SEALED_MAGIC,
					 .version = le32(SEALED_VERSION),
					 .segment_shift = le32(h->shift),
					 .slots = le32(h->slots) };
	struct record_head record;
	int r;

	r = crypt_session_file(file_key->bytes, head.file_id, &h->session, e);
	if (r < 0)
		return r;
	memcpy(h->bytes + SEALED_START, &head, sizeof(head));
	for (size_t i = 0; i < h->slots; i++) {
		struct sealed_file_slot slot;

		r = head_new_slot(&head, &keys[i], file_key, &slot, e);
		if (r < 0)
			return r;
		memcpy(head_slot_at(h, i), &slot, sizeof(slot));
	}
	record_make((enum ambro_record_type)SEALED_RECORD, h->bytes + SEALED_START,
		    head_body_len(h->slots), &record);
	memcpy(h->bytes, &record, sizeof(record));
	memcpy(h->bytes + h->len - AMBRO_GUARD_SIZE, ambro_guard, AMBRO_GUARD_SIZE);
	head_bind(h);
	return 0;
}

static struct sealed_head *head_alloc(size_t slots, unsigned int shift)
{
	struct sealed_head *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->shift = shift;
	h->slots = (unsigned int)slots;
	h->len = record_frame_len(head_body_len(slots)) + AMBRO_GUARD_SIZE;
	h->bytes = calloc(1, h->len);
	if (!h->bytes) {
		free(h);
		return NULL;
	}
	return h;
}

int sealed_head_new(const struct sealed_reader_key *keys, size_t n, unsigned int shift,
		    struct sealed_head **ret, struct err *e)
{
	_cleanup_(sealed_head_freep) struct sealed_head *h = NULL;
	_cleanup_(secret_freep) struct secret *file_key = NULL;
	int r;

	if (!n || n > SEALED_SLOTS_MAX) {
		return err_set(e, -EINVAL, "an encrypted file has 1 to %d passphrases and keys",
			       SEALED_SLOTS_MAX);
	}
	file_key = secret_new(CRYPT_FILE_KEY, e);
	if (!file_key)
		return -ENOMEM;
	h = head_alloc(n, shift);
	if (!h)
		return err_oom(e);
	randombytes_buf(file_key->bytes, file_key->len);
	r = head_new_fill(h, keys, file_key, e);
	if (r == 0)
		*ret = TAKE_PTR(h);
	return r;
}

/* ---- reading ------------------------------------------------------------------------------------ */

bool sealed_head_probe(const void *start, size_t len)
{
	struct record_head h;

	if (len < sizeof(h))
		return false;
	memcpy(&h, start, sizeof(h));
	return le32_get(h.skip.magic) == AMBRO_SKIPPABLE && h.record.type == SEALED_RECORD &&
	       !memcmp(h.record.magic, AMBRO_RECORD_MAGIC, sizeof(h.record.magic));
}

int sealed_head_length(const void *start, size_t *ret, struct err *e)
{
	struct record_head h;
	uint64_t len;
	int r;

	memcpy(&h, start, sizeof(h));
	/* the one record whose length a later version may change before this one can see that it did */
	if (record_version_check(&h, "SEALED", e) < 0)
		return -ENOTSUP;
	r = record_head_check(&h, (enum ambro_record_type)SEALED_RECORD, SEALED_HEAD_MAX, "SEALED",
			      e);
	if (r < 0)
		return r;
	len = record_body_len(&h);
	if (len <= sizeof(struct sealed_file_head) || len > head_body_len(SEALED_SLOTS_MAX) ||
	    (len - head_body_len(0)) % sizeof(struct sealed_file_slot))
		return err_set(e, -EBADMSG, "the encrypted file's head is damaged");
	*ret = record_frame_len(len) + AMBRO_GUARD_SIZE;
	return 0;
}

static bool head_zero(const void *bytes, size_t len)
{
	return sodium_is_zero(bytes, len);
}

/* What it costs to try it is believed by whoever derives a key, so it is checked here. */
static int head_slot_check(const struct sealed_file_slot *s, uint64_t *work, struct err *e)
{
	const uint64_t operations = le64_get(s->operations), memory = le64_get(s->memory);
	const size_t used = KEY_WRAP_PASSPHRASE_EXTRA + CRYPT_FILE_KEY;

	if (s->type == SEALED_PASSPHRASE && !key_wrap_cost_ok(operations, memory)) {
		return err_set(e, -EBADMSG,
			       "a key slot asks for %" PRIu64 " passes over %" PRIu64
			       " bytes, which no sound one does",
			       operations, memory);
	}
	if (s->type == SEALED_PASSPHRASE) {
		*work += operations * memory;
		return head_zero(s->reserved, sizeof(s->reserved)) &&
				       head_zero(s->public, sizeof(s->public)) &&
				       head_zero(s->sealed + used, sizeof(s->sealed) - used) &&
				       *work <= KEY_WRAP_ALL_WORK_MAX
			       ? 0
			       : err_set(e, -EBADMSG, "a key slot is damaged");
	}
	return s->type == SEALED_RECIPIENT && !operations && !memory &&
			       head_zero(s->reserved, sizeof(s->reserved)) &&
			       head_zero(s->salt, sizeof(s->salt))
		       ? 0
		       : err_set(e, -EBADMSG, "a key slot is damaged");
}

static int head_check(const struct sealed_head *h, struct err *e)
{
	struct sealed_file_head head;
	uint64_t work = 0;
	int r = 0;

	head_read(h, &head);
	if (memcmp(head.magic, SEALED_MAGIC, sizeof(head.magic)) != 0 || !le32_get(head.version))
		return err_set(e, -EBADMSG, "the encrypted file's head is damaged");
	if (le32_get(head.version) > SEALED_VERSION) {
		return err_set(e, -ENOTSUP,
			       "the file is encrypted by version %" PRIu32
			       " of the format, this tool reads up to %d: a newer tool is needed",
			       le32_get(head.version), SEALED_VERSION);
	}
	if (le32_get(head.slots) != h->slots || le32_get(head.reserved) ||
	    le32_get(head.segment_shift) < SEALED_SHIFT_MIN ||
	    le32_get(head.segment_shift) > SEALED_SHIFT_MAX ||
	    memcmp(h->bytes + h->len - AMBRO_GUARD_SIZE, ambro_guard, AMBRO_GUARD_SIZE) != 0)
		return err_set(e, -EBADMSG, "the encrypted file's head is damaged");
	for (size_t i = 0; i < h->slots && r == 0; i++) {
		struct sealed_file_slot slot;

		head_slot(h, i, &slot);
		r = head_slot_check(&slot, &work, e);
	}
	return r;
}

int sealed_head_parse(const void *bytes, size_t len, struct sealed_head **ret, struct err *e)
{
	_cleanup_(sealed_head_freep) struct sealed_head *h = NULL;
	struct sealed_file_head head;
	struct record_head record;
	size_t told = 0;
	int r;

	if (len < SEALED_START)
		return err_set(e, -EBADMSG, "the encrypted file ends within its head");
	r = sealed_head_length(bytes, &told, e);
	if (r < 0)
		return r;
	if (len < told)
		return err_set(e, -EBADMSG, "the encrypted file ends within its head");
	memcpy(&record, bytes, sizeof(record));
	r = record_body_check(&record, (const uint8_t *)bytes + SEALED_START, "SEALED", e);
	if (r < 0)
		return r;
	h = head_alloc(
		(record_body_len(&record) - head_body_len(0)) / sizeof(struct sealed_file_slot), 0);
	if (!h || sodium_init() < 0)
		return err_oom(e);
	memcpy(h->bytes, bytes, h->len);
	r = head_check(h, e);
	if (r < 0)
		return r;
	head_read(h, &head);
	h->shift = le32_get(head.segment_shift);
	head_bind(h);
	*ret = TAKE_PTR(h);
	return 0;
}

static unsigned int head_passphrases(const struct sealed_head *h)
{
	unsigned int n = 0;

	for (size_t i = 0; i < h->slots; i++) {
		struct sealed_file_slot slot;

		head_slot(h, i, &slot);
		n += slot.type == SEALED_PASSPHRASE;
	}
	return n;
}

bool sealed_head_has_passphrase(const struct sealed_head *h)
{
	return head_passphrases(h) > 0;
}

char *sealed_head_readers(const struct sealed_head *h, char *buf, size_t size)
{
	const unsigned int passphrases = head_passphrases(h), keys = h->slots - passphrases;
	char some[32] = "", others[32] = "";

	if (passphrases) {
		snprintf(some, sizeof(some), "%u passphrase%s", passphrases,
			 passphrases == 1 ? "" : "s");
	}
	if (keys)
		snprintf(others, sizeof(others), "%u key%s", keys, keys == 1 ? "" : "s");
	snprintf(buf, size, "%s%s%s", some, passphrases && keys ? " and " : "", others);
	return buf;
}

/* ---- unlocking ---------------------------------------------------------------------------------- */

static int head_changed(struct err *e)
{
	return err_set(e, -EBADMSG, "a key slot opens, but it or the file's head was changed");
}

/* The id follows from the key, or it is not this file's. */
static int head_take(struct sealed_head *h, const struct secret *file_key, struct err *e)
{
	struct crypt_session *s = NULL;
	uint8_t id[CRYPT_FILE_ID];
	int r;

	r = crypt_session_file(file_key->bytes, id, &s, e);
	if (r < 0)
		return r;
	if (memcmp(id, h->bound.file_id, sizeof(id)) != 0) {
		crypt_session_free(s);
		return head_changed(e);
	}
	h->session = s;
	return 0;
}

/* -ENOKEY, without words: not with this slot. */
static int head_try_passphrase(const struct sealed_head *h, const struct sealed_file_slot *slot,
			       const struct secret *passphrase, struct secret *file_key,
			       struct err *e)
{
	struct key_wrap_cost cost = { .operations = le64_get(slot->operations),
				      .memory = le64_get(slot->memory) };
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct sealed_file_head head;
	uint8_t bound[KEY_WRAP_BOUND];

	memcpy(cost.salt, slot->salt, sizeof(cost.salt));
	key = key_wrap_derive(&cost, passphrase, e);
	if (!key)
		return -ENOMEM;
	head_read(h, &head);
	head_slot_bound(&head, slot, bound);
	return key_wrap_open(key, bound, slot->sealed, file_key->bytes, file_key->len);
}

int sealed_head_unlock_passphrase(struct sealed_head *h, const struct secret *passphrase,
				  struct err *e)
{
	_cleanup_(secret_freep) struct secret *file_key = secret_new(CRYPT_FILE_KEY, e);
	unsigned int tried = 0;

	if (!file_key)
		return -ENOMEM;
	for (size_t i = 0; i < h->slots; i++) {
		struct sealed_file_slot slot;
		int r;

		head_slot(h, i, &slot);
		if (slot.type != SEALED_PASSPHRASE)
			continue;
		tried++;
		r = head_try_passphrase(h, &slot, passphrase, file_key, e);
		if (r != -ENOKEY)
			return r < 0 ? r : head_take(h, file_key, e);
	}
	if (!tried) {
		return err_set(e, -ENOKEY,
			       "no passphrase opens the encrypted file, only the secret key of its "
			       "recipient: give --key-file");
	}
	return err_set(e, -ENOKEY,
		       "the passphrase does not open the encrypted file: it is wrong, or the "
		       "file's head was changed");
}

int sealed_head_unlock_key(struct sealed_head *h, const struct key_pair *key, struct err *e)
{
	_cleanup_(secret_freep) struct secret *file_key = secret_new(CRYPT_FILE_KEY, e);
	struct sealed_file_head head;

	if (!file_key)
		return -ENOMEM;
	if (!key->has_secret)
		return err_set(e, -EINVAL, "this is a public key: only its secret half unlocks");
	head_read(h, &head);
	for (size_t i = 0; i < h->slots; i++) {
		struct sealed_file_slot slot;
		uint8_t bound[KEY_WRAP_BOUND];
		int r;

		head_slot(h, i, &slot);
		if (slot.type != SEALED_RECIPIENT ||
		    memcmp(slot.public, key->public, KEY_SIZE) != 0)
			continue;
		head_slot_bound(&head, &slot, bound);
		r = key_wrap_open_to(key, bound, slot.sealed, file_key->bytes, file_key->len, e);
		if (r == -EBADMSG)
			return head_changed(e);
		if (r != -ENOKEY)
			return r < 0 ? r : head_take(h, file_key, e);
	}
	return err_set(e, -ENOKEY,
		       "the encrypted file is not for this key, or its head was changed");
}

/* ---- segments ----------------------------------------------------------------------------------- */

static struct sealed_bound head_segment_bound(const struct sealed_head *h, uint64_t number,
					      bool final)
{
	struct sealed_bound b = h->bound;

	b.number = le64(number);
	b.final = final;
	return b;
}

void sealed_segment_seal(const struct sealed_head *h, uint64_t number, bool final,
			 const void *plain, size_t len, uint8_t *ret)
{
	const struct sealed_bound b = head_segment_bound(h, number, final);

	crypt_seal(h->session, &b, sizeof(b), plain, len, ret);
}

int sealed_segment_open(const struct sealed_head *h, uint64_t number, bool final,
			const uint8_t *sealed, size_t len, void *ret)
{
	const struct sealed_bound b = head_segment_bound(h, number, final);

	return crypt_open(h->session, &b, sizeof(b), sealed, len, ret);
}
