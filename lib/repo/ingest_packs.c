/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/ingest_packs.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "lib/repo/pack.h"
#include "lib/repo/repo_index.h"

struct ingest_packs {
	struct repo *repo;
	uint64_t grace_ns;
	struct pack *filling; /* NULL: the next entry begins one */
	uint64_t bytes;	      /* of packs that were handed over */
	uint64_t count;
	pthread_t thread;
	bool has_thread;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct pack *putting; /* guarded by lock, as what follows; NULL: the thread waits for one */
	bool closed;	      /* no more packs come */
	bool dropped;	      /* and no index file is wanted either */
	struct err failed;    /* code 0: nothing has failed */

	/* the thread's own */
	struct repo_index_builder *builder; /* NULL: nothing to be indexed */
	unsigned int unindexed;		    /* packs in it */
};

/* ---- the thread --------------------------------------------------------------------------------- */

static int packs_index(struct ingest_packs *p, struct err *e)
{
	uint8_t hash[REPO_NAME_HASH];
	int r;

	if (!p->builder)
		return 0;
	r = repo_in_time(p->repo, p->grace_ns, e);
	if (r >= 0)
		r = repo_index_builder_put(p->builder, p->repo->store, hash, e);
	repo_index_builder_free(TAKE_PTR(p->builder));
	p->unindexed = 0;
	return r;
}

static int packs_note(struct ingest_packs *p, const struct pack *pack,
		      const uint8_t hash[REPO_NAME_HASH], struct err *e)
{
	int r;

	if (!p->builder) {
		r = repo_index_builder_new(p->repo->format.id, p->repo->crypt, &p->builder, e);
		if (r < 0)
			return r;
	}
	r = repo_index_builder_pack(p->builder, hash, (uint32_t)pack_bytes(pack),
				    pack_entry(pack, 0), pack_entries(pack), e);
	if (r < 0)
		return r;
	return ++p->unindexed < INGEST_INDEX_PACKS ? 0 : packs_index(p, e);
}

static int packs_put(struct ingest_packs *p, struct pack *pack, struct err *e)
{
	uint8_t hash[REPO_NAME_HASH];
	int r = repo_in_time(p->repo, p->grace_ns, e);

	if (r >= 0)
		r = pack_seal(pack, hash, e);
	if (r >= 0)
		r = pack_put(pack, e);
	return r < 0 ? r : packs_note(p, pack, hash, e);
}

/* With the lock held. */
static void packs_fail(struct ingest_packs *p, int r, const struct err *e)
{
	if (r >= 0)
		return;
	p->failed = *e;
	if (!e->code)
		err_set_errno(&p->failed, r, "cannot write into the repository");
}

static void *packs_thread(void *arg)
{
	struct ingest_packs *p = arg;
	struct err e = { 0 };
	int r;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->putting && !p->closed)
			pthread_cond_wait(&p->changed, &p->lock);
		if (!p->putting)
			break;
		if (!p->failed.code) {
			pthread_mutex_unlock(&p->lock);
			r = packs_put(p, p->putting, &e);
			pthread_mutex_lock(&p->lock);
			packs_fail(p, r, &e);
		}
		pack_free(TAKE_PTR(p->putting));
		pthread_cond_broadcast(&p->changed);
	}
	if (!p->failed.code && !p->dropped) {
		pthread_mutex_unlock(&p->lock);
		r = packs_index(p, &e);
		pthread_mutex_lock(&p->lock);
		packs_fail(p, r, &e);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- the caller's side -------------------------------------------------------------------------- */

int ingest_packs_new(struct repo *r, uint64_t grace_ns, struct ingest_packs **ret, struct err *e)
{
	struct ingest_packs *p = calloc(1, sizeof(*p));
	int n;

	if (!p)
		return err_oom(e);
	p->repo = r;
	p->grace_ns = grace_ns;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	n = -pthread_create(&p->thread, NULL, packs_thread, p);
	p->has_thread = n == 0;
	if (n < 0) {
		ingest_packs_free(p);
		return err_set_errno(e, n, "cannot start a thread");
	}
	*ret = p;
	return 0;
}

static void packs_close(struct ingest_packs *p, bool drop)
{
	pthread_mutex_lock(&p->lock);
	p->closed = true;
	p->dropped = drop;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	if (p->has_thread)
		pthread_join(p->thread, NULL);
	p->has_thread = false;
}

void ingest_packs_free(struct ingest_packs *p)
{
	if (!p)
		return;
	packs_close(p, true);
	pack_free(p->filling);
	repo_index_builder_free(p->builder);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int packs_failure(const struct ingest_packs *p, struct err *e)
{
	if (p->failed.code && e)
		*e = p->failed;
	return p->failed.code;
}

int ingest_packs_turn(struct ingest_packs *p, struct err *e)
{
	int r;

	if (!p->filling)
		return 0;
	pthread_mutex_lock(&p->lock);
	while (p->putting)
		pthread_cond_wait(&p->changed, &p->lock);
	r = packs_failure(p, e);
	if (r >= 0) {
		p->bytes += pack_bytes(p->filling);
		p->putting = TAKE_PTR(p->filling);
		pthread_cond_broadcast(&p->changed);
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

/* NOLINTNEXTLINE(readability-function-size): as many parameters as there are facts */
int ingest_packs_add(struct ingest_packs *p, enum repo_kind kind, const struct chunk_id *id,
		     uint32_t plain_len, const void *frame, uint32_t frame_len, struct err *e)
{
	int r;

	if (p->filling && pack_bytes(p->filling) >= REPO_PACK_SIZE) {
		r = ingest_packs_turn(p, e);
		if (r < 0)
			return r;
	}
	if (!p->filling) {
		r = pack_new(p->repo->store, p->repo->format.id, p->repo->crypt, &p->filling, e);
		if (r < 0)
			return r;
		p->count++;
	}
	return pack_add(p->filling, kind, id, plain_len, frame, frame_len, e);
}

int ingest_packs_finish(struct ingest_packs *p, bool keep, struct err *e)
{
	int r = keep ? ingest_packs_turn(p, e) : 0;

	if (r < 0)
		return r;
	packs_close(p, false);
	return packs_failure(p, e);
}

uint64_t ingest_packs_bytes(const struct ingest_packs *p)
{
	return p->bytes + (p->filling ? pack_bytes(p->filling) : 0);
}

uint64_t ingest_packs_count(const struct ingest_packs *p)
{
	return p->count;
}
