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

/* Bytes of a pack. */
struct stretch {
	uint32_t pack, offset, len;
};

struct pack_ahead {
	struct repo *repo;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock, as all that follows; the bytes of a piece with users are not changed */
	struct piece pieces[PIECES];
	size_t memory;
	uint64_t clock;
	struct stretch failed; /* the last that could not be read in one go; len 0: none */
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

/* Does @s hold all of @in? */
static bool stretch_holds(const struct stretch *s, const struct stretch *in)
{
	return s->pack == in->pack && in->offset >= s->offset &&
	       (uint64_t)in->offset + in->len <= (uint64_t)s->offset + s->len;
}

static struct stretch stretch_of(const struct repo_place *p)
{
	return (struct stretch){ .pack = p->pack,
				 .offset = le32_get(p->entry.offset),
				 .len = le32_get(p->entry.frame_len) };
}

/* The piece that holds @in, or is going to. */
static struct piece *ahead_find(struct pack_ahead *a, const struct stretch *in)
{
	for (size_t i = 0; i < PIECES; i++) {
		struct piece *p = &a->pieces[i];
		const struct stretch has = { p->pack, p->offset, p->len };

		if (p->bytes && stretch_holds(&has, in))
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

/* What to read where @in is asked for, in a pack of @size bytes. */
static struct stretch ahead_choose(const struct pack_ahead *a, const struct stretch *in,
				   const struct image_span *want, uint32_t size)
{
	struct stretch s = *in;

	if (want && want->length <= PACK_AHEAD_WANT_MAX && want->offset <= size &&
	    want->length <= size - want->offset) {
		s.offset = (uint32_t)want->offset;
		s.len = (uint32_t)want->length;
		if (stretch_holds(&s, in))
			return s;
	}
	s.offset = in->offset;
	s.len = MIN(ahead_length(a, in->pack, in->offset, in->len), size - in->offset);
	return s;
}

/* Fill the slot @p with @s, with the lock held before and after. It has a user when that worked. */
static int ahead_fill(struct pack_ahead *a, struct piece *p, const struct stretch *s, struct err *e)
{
	const struct repo_place whole = { .pack = s->pack,
					  .kind = REPO_KIND_CHUNK,
					  .entry = { .offset = le32(s->offset),
						     .frame_len = le32(s->len) } };
	int r;

	p->bytes = malloc(s->len);
	if (!p->bytes)
		return err_oom(e);
	p->pack = s->pack;
	p->offset = s->offset;
	p->len = s->len;
	p->loading = true;
	p->users = 1;
	p->used = ++a->clock;
	a->memory += s->len;
	pthread_mutex_unlock(&a->lock);
	r = repo_read_stored(a->repo, &whole, p->bytes, e);
	pthread_mutex_lock(&a->lock);
	p->loading = false;
	if (r < 0) {
		p->users = 0;
		ahead_drop(a, p);
	}
	pthread_cond_broadcast(&a->changed);
	return r;
}

/* Read a new piece for @in, with the lock held before and after. -EAGAIN: @in is to be read alone. */
static int ahead_load(struct pack_ahead *a, const struct stretch *in, const struct image_span *want,
		      struct piece **ret, struct err *e)
{
	const uint32_t size = repo_index_pack(a->repo->index, in->pack)->size;
	struct err why = { 0 };
	struct stretch s;
	struct piece *p;
	int r;

	if (stretch_holds(&a->failed, in))
		return -EAGAIN;
	s = ahead_choose(a, in, want, size);
	p = ahead_make_room(a, s.len);
	if (!p)
		return -EAGAIN;
	r = ahead_fill(a, p, &s, &why);
	if (r >= 0) {
		*ret = p;
		return 0;
	}
	/* of a pack that is gone nothing can be had */
	if (r == -ENOENT) {
		if (e)
			*e = why;
		return r;
	}
	a->failed = s;
	return -EAGAIN;
}

/* With the lock held: a loaded piece that has all of @in, with one more user. As ahead_load(). */
static int ahead_get(struct pack_ahead *a, const struct stretch *in, const struct image_span *want,
		     struct piece **ret, struct err *e)
{
	for (;;) {
		struct piece *p = ahead_find(a, in);

		if (!p)
			return ahead_load(a, in, want, ret, e);
		if (!p->loading) {
			p->users++;
			p->used = ++a->clock;
			*ret = p;
			return 0;
		}
		pthread_cond_wait(&a->changed, &a->lock);
	}
}

int pack_ahead_read(struct pack_ahead *a, const struct repo_place *p, const struct image_span *want,
		    void *ret, struct err *e)
{
	const struct stretch in = stretch_of(p);
	const uint32_t size = repo_index_pack(a->repo->index, p->pack)->size;
	struct piece *piece = NULL;
	int r;

	/* such a place is refused in there */
	if (in.len > size || in.offset > size - in.len)
		return repo_read_stored(a->repo, p, ret, e);
	pthread_mutex_lock(&a->lock);
	r = ahead_get(a, &in, want, &piece, e);
	pthread_mutex_unlock(&a->lock);
	if (r < 0 || !piece)
		return r == -EAGAIN ? repo_read_stored(a->repo, p, ret, e) : r;
	memcpy(ret, piece->bytes + (in.offset - piece->offset), in.len);
	pthread_mutex_lock(&a->lock);
	piece->users--;
	pthread_mutex_unlock(&a->lock);
	return 0;
}
