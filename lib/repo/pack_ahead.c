/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/pack_ahead.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/pack.h"

/* A piece of FIRST bytes at least each, so these are enough for all the memory there may be. */
#define PIECES (PACK_AHEAD_MEMORY / PACK_AHEAD_FIRST)
/* What is skipped between one piece and the next may be so much, and it is still reading on. */
#define GAP_MOST (1u << 20)

struct piece {
	uint8_t *bytes; /* NULL: there is none */
	uint32_t pack, offset, len;
	bool loading; /* somebody reads it; bytes are not valid yet */
	unsigned int users;
	uint64_t used; /* when; counts up */
};

struct pack_ahead {
	struct repo *repo;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock, as all that follows; the bytes of a piece with users are not changed */
	struct piece pieces[PIECES];
	size_t memory;
	uint64_t clock;
};

int pack_ahead_new(struct repo *r, struct pack_ahead **ret)
{
	struct pack_ahead *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->repo = r;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	*ret = a;
	return 0;
}

void pack_ahead_free(struct pack_ahead *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < PIECES; i++)
		free(a->pieces[i].bytes);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static void ahead_drop(struct pack_ahead *a, struct piece *p)
{
	a->memory -= p->len;
	free(p->bytes);
	*p = (struct piece){ 0 };
}

/* The piece that holds @len bytes at @offset, or is going to. */
static struct piece *ahead_find(struct pack_ahead *a, uint32_t pack, uint32_t offset, uint32_t len)
{
	for (size_t i = 0; i < PIECES; i++) {
		struct piece *p = &a->pieces[i];

		if (p->bytes && p->pack == pack && offset >= p->offset &&
		    (uint64_t)offset + len <= (uint64_t)p->offset + p->len)
			return p;
	}
	return NULL;
}

/* How much to read: twice the piece that ended just here, or little. */
static uint32_t ahead_length(const struct pack_ahead *a, uint32_t pack, uint32_t offset,
			     uint32_t len)
{
	uint32_t want = PACK_AHEAD_FIRST;

	for (size_t i = 0; i < PIECES; i++) {
		const struct piece *p = &a->pieces[i];
		const uint64_t end = (uint64_t)p->offset + p->len;

		if (p->bytes && p->pack == pack && p->offset <= offset && offset <= end + GAP_MOST)
			want = MAX(want, MIN(2 * p->len, PACK_AHEAD_MOST));
	}
	return MAX(want, len);
}

/* A free slot, and room in memory for @len bytes; NULL: everything is in use. */
static struct piece *ahead_make_room(struct pack_ahead *a, uint32_t len)
{
	for (;;) {
		struct piece *oldest = NULL, *empty = NULL;

		for (size_t i = 0; i < PIECES; i++) {
			struct piece *p = &a->pieces[i];

			if (!p->bytes) {
				empty = p;
			} else if (!p->loading && !p->users &&
				   (!oldest || p->used < oldest->used)) {
				oldest = p;
			}
		}
		if (empty && (a->memory + len <= PACK_AHEAD_MEMORY || !oldest))
			return empty;
		if (!oldest)
			return NULL;
		ahead_drop(a, oldest);
	}
}

/* Read a new piece from @place on, with the lock held before and after. It has a user when that worked. */
static int ahead_load(struct pack_ahead *a, const struct repo_place *place, struct piece **ret,
		      struct err *e)
{
	const uint32_t offset = le32_get(place->entry.offset);
	const uint32_t size = repo_index_pack(a->repo->index, place->pack)->size;
	struct repo_place whole = *place;
	uint32_t len;
	struct piece *p;
	int r;

	len = MIN(ahead_length(a, place->pack, offset, le32_get(place->entry.frame_len)),
		  size - offset);
	p = ahead_make_room(a, len);
	if (!p)
		return -EAGAIN;
	p->bytes = malloc(len);
	if (!p->bytes)
		return err_oom(e);
	p->pack = place->pack;
	p->offset = offset;
	p->len = len;
	p->loading = true;
	p->users = 1;
	p->used = ++a->clock;
	a->memory += len;
	whole.entry.frame_len = le32(len);
	pthread_mutex_unlock(&a->lock);
	r = repo_read_stored(a->repo, &whole, p->bytes, e);
	pthread_mutex_lock(&a->lock);
	p->loading = false;
	if (r < 0) {
		p->users = 0;
		ahead_drop(a, p);
	}
	pthread_cond_broadcast(&a->changed);
	*ret = p;
	return r;
}

/* With the lock held: a loaded piece that has the bytes of @place, with one more user. */
static int ahead_get(struct pack_ahead *a, const struct repo_place *place, struct piece **ret,
		     struct err *e)
{
	const uint32_t offset = le32_get(place->entry.offset);

	for (;;) {
		struct piece *p =
			ahead_find(a, place->pack, offset, le32_get(place->entry.frame_len));

		if (!p)
			return ahead_load(a, place, ret, e);
		if (!p->loading) {
			p->users++;
			p->used = ++a->clock;
			*ret = p;
			return 0;
		}
		pthread_cond_wait(&a->changed, &a->lock);
	}
}

int pack_ahead_read(struct pack_ahead *a, const struct repo_place *p, void *ret, struct err *e)
{
	const uint32_t offset = le32_get(p->entry.offset), len = le32_get(p->entry.frame_len);
	const uint32_t size = repo_index_pack(a->repo->index, p->pack)->size;
	struct piece *piece = NULL;
	int r;

	/* such a place is refused in there */
	if (len > size || offset > size - len)
		return repo_read_stored(a->repo, p, ret, e);
	pthread_mutex_lock(&a->lock);
	r = ahead_get(a, p, &piece, e);
	if (r < 0 || !piece) {
		pthread_mutex_unlock(&a->lock);
		return r == -EAGAIN ? repo_read_stored(a->repo, p, ret, e) : r;
	}
	pthread_mutex_unlock(&a->lock);
	memcpy(ret, piece->bytes + (offset - piece->offset), len);
	pthread_mutex_lock(&a->lock);
	piece->users--;
	pthread_mutex_unlock(&a->lock);
	return 0;
}
