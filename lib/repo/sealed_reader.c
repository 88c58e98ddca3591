/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/sealed_reader.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/io.h"

enum slot_state {
	SLOT_EMPTY,
	SLOT_LOADING, /* by one thread; others wait */
	SLOT_READY,
};

/* One opened segment. All but the bytes is under the reader's lock; these are read while it is pinned. */
struct cache_slot {
	enum slot_state state;
	unsigned int pins;
	uint64_t number, used; /* used: when, by the reader's clock */
	uint8_t *plain;	       /* and room for a sealed one behind it; NULL until it is needed */
};

struct sealed_reader {
	int fd;
	struct sealed_head *head;
	uint64_t segments, plain_size;
	size_t last_len; /* plain bytes of the last segment */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t clock; /* guarded by lock */
	struct cache_slot slots[SEALED_CACHE];
};

/* ---- opening ------------------------------------------------------------------------------------ */

int sealed_reader_head(int fd, struct sealed_head **ret, struct err *e)
{
	uint8_t bytes[SEALED_HEAD_MAX];
	ssize_t n = io_pread_some(fd, bytes, sizeof(bytes), 0);
	int r;

	if (n < 0)
		return err_set_errno(e, (int)n, "cannot read the file's head");
	if (!sealed_head_probe(bytes, (size_t)n))
		return 0;
	r = sealed_head_parse(bytes, (size_t)n, ret, e);
	return r < 0 ? r : 1;
}

void sealed_reader_free(struct sealed_reader *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(r->slots); i++)
		free(r->slots[i].plain);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	sealed_head_free(r->head);
	free(r);
}

static uint64_t reader_offset(const struct sealed_reader *r, uint64_t number)
{
	return r->head->len + number * ((UINT64_C(1) << r->head->shift) + SEALED_EXTRA);
}

static size_t reader_len(const struct sealed_reader *r, uint64_t number)
{
	return number == r->segments - 1 ? r->last_len : (size_t)1 << r->head->shift;
}

/* How many there are, by the file's size. */
static int reader_measure(struct sealed_reader *r, uint64_t size, struct err *e)
{
	const uint64_t full = (UINT64_C(1) << r->head->shift) + SEALED_EXTRA;
	const uint64_t body = size < r->head->len ? 0 : size - r->head->len;
	const uint64_t rest = body % full;

	if (!body) {
		return err_set(e, -EBADMSG,
			       "the encrypted file was cut off: it ends after its head");
	}
	/* only a file that has one segment has an empty one */
	if (rest && (rest < SEALED_EXTRA || (rest == SEALED_EXTRA && body > full))) {
		return err_set(e, -EBADMSG,
			       "the encrypted file was cut off, or something was added to it");
	}
	r->segments = body / full + (rest != 0);
	r->last_len = (size_t)((rest ? rest : full) - SEALED_EXTRA);
	r->plain_size = ((r->segments - 1) << r->head->shift) + r->last_len;
	return 0;
}

/* Segment @number into @plain, by way of @sealed. */
static int reader_open_segment(const struct sealed_reader *r, uint64_t number, uint8_t *sealed,
			       uint8_t *plain, struct err *e)
{
	const size_t len = reader_len(r, number) + SEALED_EXTRA;
	const bool last = number == r->segments - 1;
	int n;

	n = io_pread_all(r->fd, sealed, len, reader_offset(r, number));
	if (n == -ENODATA)
		return err_set(e, -EBADMSG, "the encrypted file became shorter while it was read");
	if (n < 0) {
		return err_set_errno(e, n, "cannot read the encrypted file at byte %" PRIu64,
				     reader_offset(r, number));
	}
	if (sealed_segment_open(r->head, number, last, sealed, len, plain) == 0)
		return 0;
	if (last && sealed_segment_open(r->head, number, false, sealed, len, plain) == 0) {
		return err_set(e, -EBADMSG,
			       "the encrypted file was cut off: what followed after byte %" PRIu64
			       " is missing",
			       reader_offset(r, number) + len);
	}
	return err_set(e, -EBADMSG,
		       "the encrypted file is damaged, or was changed, between its bytes %" PRIu64
		       " and %" PRIu64,
		       reader_offset(r, number), reader_offset(r, number) + len);
}

int sealed_reader_new(int fd, struct sealed_head *head, struct sealed_reader **ret, struct err *e)
{
	_cleanup_(sealed_head_freep) struct sealed_head *owned = head;
	_cleanup_(sealed_reader_freep) struct sealed_reader *r = calloc(1, sizeof(*r));
	struct image_io io;
	uint64_t size;
	uint8_t last;
	int n;

	if (!r)
		return err_oom(e);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	r->fd = fd;
	r->head = TAKE_PTR(owned);
	n = io_size(fd, &size);
	if (n < 0)
		return err_set_errno(e, n, "cannot tell the encrypted file's size");
	n = reader_measure(r, size, e);
	if (n < 0)
		return n;
	io = sealed_reader_io(r);
	if (r->plain_size) {
		n = io.read(&io, &last, 1, r->plain_size - 1, e);
	} else {
		n = reader_open_segment(r, 0, (uint8_t[SEALED_EXTRA]){ 0 }, &last, e);
	}
	if (n < 0)
		return n;
	*ret = TAKE_PTR(r);
	return 0;
}

/* ---- the cache ---------------------------------------------------------------------------------- */

/* The slot of @number if there is one, else the one to take; NULL: all are in use. Under the lock. */
static struct cache_slot *cache_find(struct sealed_reader *r, uint64_t number)
{
	struct cache_slot *oldest = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(r->slots); i++) {
		struct cache_slot *s = &r->slots[i];

		if (s->state != SLOT_EMPTY && s->number == number)
			return s;
		if (!s->pins && s->state != SLOT_LOADING && (!oldest || s->used < oldest->used))
			oldest = s;
	}
	return oldest;
}

/* Fill @s, which is taken from whatever was in it. The lock is given up meanwhile. */
static int cache_load(struct sealed_reader *r, struct cache_slot *s, uint64_t number, struct err *e)
{
	const size_t size = (size_t)1 << r->head->shift;
	int n;

	s->state = SLOT_LOADING;
	s->number = number;
	pthread_mutex_unlock(&r->lock);
	if (!s->plain)
		s->plain = malloc(2 * size + SEALED_EXTRA);
	n = s->plain ? reader_open_segment(r, number, s->plain + size, s->plain, e) : err_oom(e);
	pthread_mutex_lock(&r->lock);
	s->state = n < 0 ? SLOT_EMPTY : SLOT_READY;
	s->used = n < 0 ? 0 : ++r->clock;
	pthread_cond_broadcast(&r->changed);
	return n;
}

/* Pinned; the caller unpins it. */
static int cache_get(struct sealed_reader *r, uint64_t number, struct cache_slot **ret,
		     struct err *e)
{
	struct cache_slot *s;
	int n = 0;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		s = cache_find(r, number);
		if (s && s->state == SLOT_READY && s->number == number)
			break;
		if (s && s->state != SLOT_LOADING) {
			n = cache_load(r, s, number, e);
			if (n < 0)
				break;
			continue;
		}
		pthread_cond_wait(&r->changed, &r->lock);
	}
	if (n == 0) {
		s->pins++;
		s->used = ++r->clock;
		*ret = s;
	}
	pthread_mutex_unlock(&r->lock);
	return n;
}

static void cache_put(struct sealed_reader *r, struct cache_slot *s)
{
	pthread_mutex_lock(&r->lock);
	s->pins--;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static int reader_read(const struct image_io *io, void *buf, size_t len, uint64_t offset,
		       struct err *e)
{
	struct sealed_reader *r = io->ctx;
	uint8_t *to = buf;

	while (len) {
		const uint64_t number = offset >> r->head->shift;
		const size_t at = (size_t)(offset - (number << r->head->shift));
		const size_t n = MIN(len, reader_len(r, number) - at);
		struct cache_slot *s = NULL;
		int code = cache_get(r, number, &s, e);

		if (!s)
			return code;
		memcpy(to, s->plain + at, n);
		cache_put(r, s);
		to += n;
		len -= n;
		offset += n;
	}
	return 0;
}

struct image_io sealed_reader_io(struct sealed_reader *r)
{
	return (struct image_io){ .read = reader_read, .size = r->plain_size, .ctx = r };
}
