/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Encrypted files: sealed_head, sealed_writer, sealed_reader. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <sodium.h>

#include "lib/base/io.h"
#include "lib/repo/sealed_reader.h"
#include "lib/repo/sealed_writer.h"

#define SHIFT	12u
#define SEGMENT (1u << SHIFT)
#define STORED	(SEGMENT + SEALED_EXTRA)

static struct secret *secret_of(const char *text)
{
	struct secret *s = secret_new(strlen(text), NULL);

	assert_non_null(s);
	memcpy(s->bytes, text, s->len);
	return s;
}

/* The cheapest slot. */
static struct sealed_reader_key key_for(const struct secret *s)
{
	return (struct sealed_reader_key){ .passphrase = s,
					   .operations = KEY_WRAP_OPERATIONS_MIN,
					   .memory = KEY_WRAP_MEMORY_MIN };
}

static struct sealed_reader_key key_to(const struct key_pair *k)
{
	struct sealed_reader_key key = { 0 };

	memcpy(key.public, k->public, KEY_SIZE);
	return key;
}

/* A file in memory, and what is in it. */
struct sealed {
	uint8_t *bytes, *plain;
	size_t len, plain_len, head;
};

static int sealed_more(void *ctx, const void *buf, size_t len)
{
	struct sealed *f = ctx;

	f->bytes = realloc(f->bytes, f->len + len);
	assert_non_null(f->bytes);
	memcpy(f->bytes + f->len, buf, len);
	f->len += len;
	return 0;
}

/* @piece: bytes given to the writer at once. */
static struct sealed *sealed_make(const struct sealed_reader_key *keys, size_t n, size_t plain_len,
				  size_t piece, bool finish)
{
	struct sealed *f = calloc(1, sizeof(*f));
	const struct image_sink sink = { sealed_more, f };
	struct sealed_writer *w = NULL;
	struct sealed_head *h = NULL;
	struct err e = { 0 };

	assert_non_null(f);
	assert_int_equal(sealed_head_new(keys, n, SHIFT, &h, &e), 0);
	f->head = h->len;
	f->plain_len = plain_len;
	f->plain = malloc(plain_len + 1);
	assert_non_null(f->plain);
	randombytes_buf(f->plain, plain_len);
	assert_int_equal(sealed_writer_new(h, &sink, &w), 0);
	for (size_t at = 0; at < plain_len; at += piece) {
		assert_int_equal(sealed_writer_write(w, f->plain + at, MIN(piece, plain_len - at)),
				 0);
	}
	if (finish)
		assert_int_equal(sealed_writer_finish(w), 0);
	assert_int_equal(sealed_writer_bytes(w), f->len);
	sealed_writer_free(w);
	return f;
}

static void sealed_done(struct sealed *f)
{
	free(f->bytes);
	free(f->plain);
	free(f);
}

/* With the passphrase "pw": all of it, into @ret, which may be NULL. Returns what fails first. */
static int read_all(const uint8_t *bytes, size_t len, uint8_t *ret, size_t ret_len, struct err *e)
{
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	_cleanup_(sealed_reader_freep) struct sealed_reader *r = NULL;
	_cleanup_close_ int fd = memfd_create("sealed", MFD_CLOEXEC);
	struct sealed_head *h = NULL;
	_cleanup_free_ uint8_t *plain = NULL;
	struct image_io io;
	int n;

	assert_int_equal(io_write_all(fd, bytes, len), 0);
	n = sealed_reader_head(fd, &h, e);
	if (n == 0)
		return -ENOMEDIUM; /* it does not even say that it is one */
	if (n < 0)
		return n;
	n = sealed_head_unlock_passphrase(h, pw, e);
	if (n < 0) {
		sealed_head_free(h);
		return n;
	}
	n = sealed_reader_new(fd, h, &r, e);
	if (n < 0)
		return n;
	io = sealed_reader_io(r);
	plain = malloc(io.size + 1);
	assert_non_null(plain);
	n = image_io_read(&io, plain, io.size, 0, e);
	if (n < 0 || !ret)
		return n;
	assert_int_equal(io.size, ret_len);
	memcpy(ret, plain, ret_len);
	return 0;
}

static void assert_refused(const uint8_t *bytes, size_t len, int code, const char *words)
{
	struct err e = { 0 };
	int r = read_all(bytes, len, NULL, 0, &e);

	assert_int_equal(r, code);
	assert_int_equal(e.code, code);
	if (!strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static const size_t sizes[] = { 0,	     1,
				SEGMENT - 1, SEGMENT,
				SEGMENT + 1, 2 * SEGMENT - 1,
				2 * SEGMENT, 2 * SEGMENT + 1,
				5 * SEGMENT, 70001,
				20 * SEGMENT };

static void test_round_trip(void **state)
{
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	const struct sealed_reader_key key = key_for(pw);
	static const size_t pieces[] = { 1000, SEGMENT, 3 * SEGMENT + 7 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(pieces); j++) {
			struct sealed *f = sealed_make(&key, 1, sizes[i], pieces[j], true);
			_cleanup_free_ uint8_t *back = malloc(sizes[i] + 1);
			size_t segments = sizes[i] ? (sizes[i] + SEGMENT - 1) / SEGMENT : 1;

			assert_non_null(back);
			assert_int_equal(read_all(f->bytes, f->len, back, sizes[i], NULL), 0);
			assert_memory_equal(back, f->plain, sizes[i]);
			assert_int_equal(f->len, f->head + sizes[i] + segments * SEALED_EXTRA);
			sealed_done(f);
		}
	}
}

/* A bit, anywhere in what stands before the segments. */
static void test_flipped_head(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *k = key_pair_generate(NULL);
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	struct sealed_reader_key keys[2] = { key_to(k), key_for(pw) };
	struct sealed *f = sealed_make(keys, 2, 100, 100, true);

	(void)state;
	for (size_t i = 0; i < f->head; i++) {
		for (unsigned int bit = 0; bit < 8; bit++) {
			struct err e = { 0 };

			f->bytes[i] ^= (uint8_t)(1u << bit);
			assert_true(read_all(f->bytes, f->len, NULL, 0, &e) < 0);
			f->bytes[i] ^= (uint8_t)(1u << bit);
		}
	}
	assert_int_equal(read_all(f->bytes, f->len, NULL, 0, NULL), 0);
	sealed_done(f);
}

/* The same by somebody who makes the record's check right again. */
static void mend(struct sealed *f)
{
	struct record_head head;

	memcpy(&head, f->bytes, sizeof(head));
	record_make((enum ambro_record_type)SEALED_RECORD, f->bytes + SEALED_START,
		    record_body_len(&head), &head);
	memcpy(f->bytes, &head, sizeof(head));
}

static void test_changed_head(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *k = key_pair_generate(NULL);
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	struct sealed_reader_key keys[2] = { key_to(k), key_for(pw) };
	struct sealed *f = sealed_make(keys, 2, 100, 100, true);
	const size_t slots = SEALED_START + sizeof(struct sealed_file_head);

	(void)state;
	for (size_t i = SEALED_START; i < f->head - AMBRO_GUARD_SIZE; i++) {
		struct err e = { 0 };

		/* not what Argon2id costs: that may be dear, and is looked at below */
		if (i >= slots + sizeof(struct sealed_file_slot) + 8 &&
		    i < slots + sizeof(struct sealed_file_slot) + 24)
			continue;
		f->bytes[i] ^= 1;
		mend(f);
		assert_true(read_all(f->bytes, f->len, NULL, 0, &e) < 0);
		assert_true(e.code == -EBADMSG || e.code == -ENOKEY || e.code == -ENOTSUP);
		/* another's slot does not concern us, but it is bound to every segment */
		if (i >= slots + offsetof(struct sealed_file_slot, sealed) &&
		    i < slots + sizeof(struct sealed_file_slot))
			assert_int_equal(e.code, -EBADMSG);
		f->bytes[i] ^= 1;
	}
	mend(f);
	assert_int_equal(read_all(f->bytes, f->len, NULL, 0, NULL), 0);
	sealed_done(f);
}

static void test_costly_slots(void **state)
{
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	const struct sealed_reader_key key = key_for(pw);
	struct sealed *f = sealed_make(&key, 1, 100, 100, true);
	static const uint64_t costs[][2] = {
		{ 0, 8192 },
		{ 1, 8191 },
		{ 1, KEY_WRAP_MEMORY_MAX + 1 },
		{ 5, KEY_WRAP_MEMORY_MAX },
		{ UINT64_MAX, 8192 },
		{ UINT64_MAX, UINT64_MAX },
	};
	struct sealed_file_slot slot;
	uint8_t *at = f->bytes + SEALED_START + sizeof(struct sealed_file_head);

	(void)state;
	memcpy(&slot, at, sizeof(slot));
	for (size_t i = 0; i < ARRAY_SIZE(costs); i++) {
		slot.operations = le64(costs[i][0]);
		slot.memory = le64(costs[i][1]);
		memcpy(at, &slot, sizeof(slot));
		mend(f);
		assert_refused(f->bytes, f->len, -EBADMSG, "which no sound one does");
	}
	sealed_done(f);
}

/* At the edges of each part of a segment: nonce, ciphertext, tag. */
static void test_flipped_segment(void **state)
{
	static const size_t edges[] = { 0, 23, 24, 25, SEGMENT + 23, SEGMENT + 24, STORED - 1 };
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	const struct sealed_reader_key key = key_for(pw);
	struct sealed *f = sealed_make(&key, 1, 3 * SEGMENT, SEGMENT, true);

	(void)state;
	for (size_t s = 0; s < 3; s++) {
		for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
			uint8_t *at = f->bytes + f->head + s * STORED + edges[i];

			*at ^= 0x10;
			assert_refused(f->bytes, f->len, -EBADMSG,
				       "is damaged, or was changed, between");
			*at ^= 0x10;
		}
	}
	sealed_done(f);
}

/* At every byte of a short one, and around each border of a longer one. */
static void test_cut(void **state)
{
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	const struct sealed_reader_key key = key_for(pw);
	struct sealed *f = sealed_make(&key, 1, 100, 100, true);

	(void)state;
	for (size_t len = 0; len < f->len; len++)
		assert_true(read_all(f->bytes, len, NULL, 0, NULL) < 0);
	sealed_done(f);
	f = sealed_make(&key, 1, 4 * SEGMENT, SEGMENT, true);
	for (size_t s = 1; s < 4; s++) {
		const size_t border = f->head + s * STORED;

		assert_refused(f->bytes, border, -EBADMSG, "was cut off: what followed");
		for (size_t i = 1; i <= SEALED_EXTRA; i++)
			assert_refused(f->bytes, border + i, -EBADMSG, "was cut off");
		assert_refused(f->bytes, border + SEALED_EXTRA + 1, -EBADMSG, "damaged");
		assert_refused(f->bytes, border - 1, -EBADMSG, "damaged");
	}
	assert_refused(f->bytes, f->head, -EBADMSG, "was cut off");
	sealed_done(f);
}

/* What a writer leaves that did not come to its end. */
static void test_unfinished(void **state)
{
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	const struct sealed_reader_key key = key_for(pw);

	(void)state;
	for (size_t i = 1; i < ARRAY_SIZE(sizes); i++) {
		struct sealed *f = sealed_make(&key, 1, sizes[i], 1000, false);

		assert_refused(f->bytes, f->len, -EBADMSG, "was cut off");
		sealed_done(f);
	}
}

/* More behind the end, its own last segment included. */
static void test_appended(void **state)
{
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	const struct sealed_reader_key key = key_for(pw);
	struct sealed *f = sealed_make(&key, 1, 2 * SEGMENT, SEGMENT, true);
	uint8_t last[STORED];

	(void)state;
	memcpy(last, f->bytes + f->len - STORED, STORED);
	for (size_t n = 1; n <= STORED; n += n < 2 * SEALED_EXTRA ? 1 : SEGMENT - 50) {
		struct sealed longer = { .bytes = malloc(f->len), .len = f->len };

		assert_non_null(longer.bytes);
		memcpy(longer.bytes, f->bytes, f->len);
		sealed_more(&longer, last, n);
		assert_true(read_all(longer.bytes, longer.len, NULL, 0, NULL) == -EBADMSG);
		free(longer.bytes);
	}
	sealed_done(f);
}

static void swap_bytes(uint8_t *a, uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t c = a[i];

		a[i] = b[i];
		b[i] = c;
	}
}

static void test_segments_moved(void **state)
{
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	const struct sealed_reader_key key = key_for(pw);
	struct sealed *f = sealed_make(&key, 1, 4 * SEGMENT, SEGMENT, true);
	struct sealed *g = sealed_make(&key, 1, 4 * SEGMENT, SEGMENT, true);
	uint8_t *first = f->bytes + f->head, *others = g->bytes + g->head;
	uint8_t kept[STORED];

	(void)state;
	for (size_t a = 0; a < 4; a++) {
		for (size_t b = a + 1; b < 4; b++) {
			swap_bytes(first + a * STORED, first + b * STORED, STORED);
			assert_refused(f->bytes, f->len, -EBADMSG, "was changed");
			swap_bytes(first + a * STORED, first + b * STORED, STORED);
		}
		/* repeated in the next one's place */
		memcpy(kept, first + (a + 1) % 4 * STORED, STORED);
		memcpy(first + (a + 1) % 4 * STORED, first + a * STORED, STORED);
		assert_refused(f->bytes, f->len, -EBADMSG, "");
		memcpy(first + (a + 1) % 4 * STORED, kept, STORED);
		/* another file's, at the same place */
		swap_bytes(first + a * STORED, others + a * STORED, STORED);
		assert_refused(f->bytes, f->len, -EBADMSG, "was changed");
		swap_bytes(first + a * STORED, others + a * STORED, STORED);
	}
	/* another file's head */
	assert_int_equal(f->head, g->head);
	swap_bytes(f->bytes, g->bytes, f->head);
	assert_refused(f->bytes, f->len, -EBADMSG, "was changed");
	swap_bytes(f->bytes, g->bytes, f->head);
	/* the last one alone is no whole file, and one left out leaves none */
	memcpy(kept, first + 3 * STORED, STORED);
	memcpy(first + STORED, kept, STORED);
	assert_refused(f->bytes, f->head + 2 * STORED, -EBADMSG, "was changed");
	sealed_done(f);
	sealed_done(g);
}

/* Another file's slot, with its own key, in a head that is whole: the id tells. */
static void test_slot_of_another_file(void **state)
{
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	const struct sealed_reader_key key = key_for(pw);
	struct sealed *f = sealed_make(&key, 1, 100, 100, true);
	struct sealed *g = sealed_make(&key, 1, 100, 100, true);
	const size_t at = SEALED_START + sizeof(struct sealed_file_head);

	(void)state;
	swap_bytes(f->bytes + at, g->bytes + at, sizeof(struct sealed_file_slot));
	mend(f);
	assert_refused(f->bytes, f->len, -ENOKEY, "does not open");
	sealed_done(f);
	sealed_done(g);
}

/* Somebody makes a slot for us to a key of his own, in a file of another key. */
static void test_slot_with_another_key(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *k = key_pair_generate(NULL);
	const struct sealed_reader_key key = key_to(k);
	struct sealed *f = sealed_make(&key, 1, 100, 100, true);
	struct sealed_slot_bound b = { .magic = "AMBRFSLT" };
	uint8_t bound[KEY_WRAP_BOUND], other[CRYPT_FILE_KEY] = { 7 };
	struct sealed_head *h = NULL;
	struct sealed_file_slot slot;
	struct err e = { 0 };

	(void)state;
	memcpy(&b.head, f->bytes + SEALED_START, sizeof(b.head));
	memcpy(&slot, f->bytes + SEALED_START + sizeof(b.head), sizeof(slot));
	memcpy(b.slot, &slot, sizeof(b.slot));
	crypto_generichash(bound, sizeof(bound), (const uint8_t *)&b, sizeof(b), NULL, 0);
	assert_int_equal(key_wrap_seal_to(k->public, bound, other, sizeof(other), slot.sealed, &e),
			 0);
	memcpy(f->bytes + SEALED_START + sizeof(b.head), &slot, sizeof(slot));
	mend(f);
	assert_int_equal(sealed_head_parse(f->bytes, f->len, &h, &e), 0);
	assert_int_equal(sealed_head_unlock_key(h, k, &e), -EBADMSG);
	assert_null(h->session);
	sealed_head_free(h);
	sealed_done(f);
}

static void test_keys(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *k = key_pair_generate(NULL);
	_cleanup_(key_pair_freep) struct key_pair *stranger = key_pair_generate(NULL);
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw"), *wrong = secret_of("pw2");
	_cleanup_(secret_freep) struct secret *second = secret_of("second"), *none = secret_of("");
	const struct sealed_reader_key keys[] = { key_for(pw), key_to(k), key_for(second) };
	struct sealed_reader_key bad = { 0 };
	struct sealed *f = sealed_make(keys, 3, 100, 100, true);
	struct sealed_head *h = NULL, *unmade = NULL;
	struct err e = { 0 };
	char words[64];

	(void)state;
	assert_int_equal(sealed_head_parse(f->bytes, f->len, &h, &e), 0);
	assert_string_equal(sealed_head_readers(h, words, sizeof(words)),
			    "2 passphrases and 1 key");
	assert_int_equal(sealed_head_unlock_passphrase(h, wrong, &e), -ENOKEY);
	assert_int_equal(sealed_head_unlock_key(h, stranger, &e), -ENOKEY);
	k->has_secret = false;
	assert_int_equal(sealed_head_unlock_key(h, k, &e), -EINVAL);
	k->has_secret = true;
	assert_null(h->session);
	assert_int_equal(sealed_head_unlock_key(h, k, &e), 0);
	assert_non_null(h->session);
	sealed_head_free(h);
	assert_int_equal(sealed_head_parse(f->bytes, f->len, &h, &e), 0);
	assert_int_equal(sealed_head_unlock_passphrase(h, second, &e), 0);
	sealed_head_free(h);

	assert_int_equal(sealed_head_new(keys, 0, SHIFT, &unmade, &e), -EINVAL);
	assert_int_equal(sealed_head_new(&bad, 1, SHIFT, &unmade, &e), -EINVAL);
	bad = key_for(none);
	assert_int_equal(sealed_head_new(&bad, 1, SHIFT, &unmade, &e), -EINVAL);
	assert_null(unmade);
	sealed_done(f);
}

/* ---- reading here and there, by many ------------------------------------------------------------ */

struct readers {
	const struct sealed *file;
	struct image_io io;
};

static void *read_here_and_there(void *ctx)
{
	const struct readers *r = ctx;
	_cleanup_free_ uint8_t *buffer = malloc(3 * SEGMENT);

	for (int i = 0; buffer && i < 2000; i++) {
		size_t at = randombytes_uniform((uint32_t)r->file->plain_len);
		size_t len = randombytes_uniform(3 * SEGMENT);

		len = MIN(len, r->file->plain_len - at);
		if (image_io_read(&r->io, buffer, len, at, NULL) < 0 ||
		    memcmp(buffer, r->file->plain + at, len) != 0)
			return ctx;
	}
	return buffer ? NULL : ctx;
}

static void test_many_readers(void **state)
{
	_cleanup_(sealed_reader_freep) struct sealed_reader *reader = NULL;
	_cleanup_(secret_freep) struct secret *pw = secret_of("pw");
	_cleanup_close_ int fd = memfd_create("sealed", MFD_CLOEXEC);
	const struct sealed_reader_key key = key_for(pw);
	struct sealed *f = sealed_make(&key, 1, 3 * SEALED_CACHE * SEGMENT + 5, SEGMENT, true);
	/* more than there is room for in the cache */
	pthread_t threads[2 * SEALED_CACHE];
	struct readers r = { .file = f };
	struct sealed_head *h = NULL;
	uint8_t byte;

	(void)state;
	assert_int_equal(io_write_all(fd, f->bytes, f->len), 0);
	assert_int_equal(sealed_reader_head(fd, &h, NULL), 1);
	assert_int_equal(sealed_head_unlock_passphrase(h, pw, NULL), 0);
	assert_int_equal(sealed_reader_new(fd, h, &reader, NULL), 0);
	r.io = sealed_reader_io(reader);
	assert_int_equal(r.io.size, f->plain_len);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_here_and_there, &r), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		void *failed = NULL;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(image_io_read(&r.io, &byte, 1, f->plain_len, NULL), -EBADMSG);
	assert_int_equal(image_io_read(&r.io, &byte, 1, UINT64_MAX, NULL), -EBADMSG);
	/* it becomes shorter under our eyes */
	assert_int_equal(ftruncate(fd, (off_t)f->head), 0);
	for (size_t i = 0; i < 2 * SEALED_CACHE; i++) {
		int n = image_io_read(&r.io, &byte, 1, i * SEGMENT, NULL);

		assert_true(n == 0 || n == -EBADMSG);
	}
	sealed_done(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_flipped_head),
		cmocka_unit_test(test_changed_head),
		cmocka_unit_test(test_costly_slots),
		cmocka_unit_test(test_flipped_segment),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_unfinished),
		cmocka_unit_test(test_appended),
		cmocka_unit_test(test_segments_moved),
		cmocka_unit_test(test_slot_of_another_file),
		cmocka_unit_test(test_slot_with_another_key),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_many_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
