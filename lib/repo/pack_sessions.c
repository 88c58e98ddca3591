/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/pack_sessions.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/pack.h"

/* More than threads that read at once, so that a free one is always found. */
#define SESSIONS_MAX 320u

struct pack_session {
	struct crypt_session *crypt;
	uint32_t number;
	unsigned int users;
	uint64_t used; /* the clock below */
};

struct pack_sessions {
	struct store *store;
	const struct crypt *crypt;
	uint8_t repo_id[REPO_ID_SIZE];
	pthread_mutex_t lock;
	struct pack_session *items[SESSIONS_MAX]; /* guarded by lock, as what follows */
	unsigned int count;
	uint64_t clock;
};

int pack_sessions_new(struct store *s, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *c,
		      struct pack_sessions **ret)
{
	struct pack_sessions *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	x->store = s;
	x->crypt = c;
	memcpy(x->repo_id, repo_id, sizeof(x->repo_id));
	pthread_mutex_init(&x->lock, NULL);
	*ret = x;
	return 0;
}

static void pack_session_free(struct pack_session *s)
{
	if (!s)
		return;
	crypt_session_free(s->crypt);
	free(s);
}
DEFINE_CLEANUP(struct pack_session, pack_session_free);

void pack_sessions_free(struct pack_sessions *x)
{
	if (!x)
		return;
	for (unsigned int i = 0; i < x->count; i++)
		pack_session_free(x->items[i]);
	pthread_mutex_destroy(&x->lock);
	free(x);
}

/* Under the lock. */
static struct pack_session *pack_sessions_look(struct pack_sessions *x, uint32_t number)
{
	for (unsigned int i = 0; i < x->count; i++) {
		if (x->items[i]->number != number)
			continue;
		x->items[i]->users++;
		x->items[i]->used = ++x->clock;
		return x->items[i];
	}
	return NULL;
}

/* Under the lock: a place for another one. NULL: all are in use. */
static struct pack_session **pack_sessions_room(struct pack_sessions *x)
{
	struct pack_session **oldest = NULL;

	if (x->count < SESSIONS_MAX)
		return &x->items[x->count++];
	for (unsigned int i = 0; i < x->count; i++) {
		if (!x->items[i]->users && (!oldest || x->items[i]->used < (*oldest)->used))
			oldest = &x->items[i];
	}
	if (oldest)
		pack_session_free(*oldest);
	return oldest;
}

static int pack_session_read(struct pack_sessions *x, const uint8_t hash[REPO_NAME_HASH],
			     struct crypt_session **ret, struct err *e)
{
	uint8_t bytes[PACK_HEAD_SIZE];
	struct repo_pack_head head;
	char name[PACK_NAME_SIZE];
	int r;

	r = store_get(x->store, pack_name(hash, name), 0, bytes, sizeof(bytes), e);
	if (r < 0)
		return r == -ENODATA ? err_set(e, -EBADMSG, "%s has no head", name) : r;
	r = pack_head_check(bytes, sizeof(bytes), REPO_PURPOSE_PACK, x->repo_id, &head, e);
	if (r >= 0)
		r = crypt_session_open(x->crypt, head.session, ret, e);
	if (r == -EBADMSG)
		err_prefix(e, "%s", name);
	return r;
}

int pack_sessions_get(struct pack_sessions *x, uint32_t number, const uint8_t hash[REPO_NAME_HASH],
		      struct pack_session **ret, struct err *e)
{
	_cleanup_(pack_session_freep) struct pack_session *s = NULL;
	struct pack_session **room;
	int r;

	pthread_mutex_lock(&x->lock);
	*ret = pack_sessions_look(x, number);
	pthread_mutex_unlock(&x->lock);
	if (*ret)
		return 0;
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_oom(e);
	s->number = number;
	s->users = 1;
	r = pack_session_read(x, hash, &s->crypt, e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&x->lock);
	*ret = pack_sessions_look(x, number);
	if (!*ret) {
		room = pack_sessions_room(x);
		if (room) {
			s->used = ++x->clock;
			*room = *ret = TAKE_PTR(s);
		}
	}
	pthread_mutex_unlock(&x->lock);
	return *ret ? 0 : err_set(e, -EMFILE, "more than %u threads read from packs", SESSIONS_MAX);
}

void pack_sessions_put(struct pack_sessions *x, struct pack_session *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&x->lock);
	s->users--;
	pthread_mutex_unlock(&x->lock);
}

const struct crypt_session *pack_session_crypt(const struct pack_session *s)
{
	return s ? s->crypt : NULL;
}
