/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store that passes everything on to another, counts it, and fails where it was told to. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/store.h"

struct store_fault_store {
	struct store base;
	struct store *below;
	pthread_mutex_t lock; /* guards what follows; not held while @below works */
	struct store_counts counts;
	uint64_t left; /* puts and dels before the one that meets the fault */
	enum store_fault fault;
	int error;
	bool dead;
	char unreadable[STORE_NAME_MAX + 1]; /* store_fault_get_of() */
	int unreadable_error;
};

static struct store_fault_store *store_fault_of(struct store *s)
{
	return (struct store_fault_store *)s;
}

static int store_fault_error(const struct store_fault_store *f, const char *name, struct err *e)
{
	return err_set(e, f->error, "%s: failed on purpose", name);
}

/* Before a call that changes nothing: counted in *@count. */
static int store_fault_reading(struct store_fault_store *f, uint64_t *count, const char *name,
			       struct err *e)
{
	int r = 0;

	pthread_mutex_lock(&f->lock);
	++*count;
	if (f->dead)
		r = store_fault_error(f, name, e);
	pthread_mutex_unlock(&f->lock);
	return r;
}

/* Before a put or a del: what it meets. STORE_FAULT_FAIL and STORE_FAULT_DEAD: it is not to be done. */
static enum store_fault store_fault_meet(struct store_fault_store *f, uint64_t *count)
{
	enum store_fault met = STORE_FAULT_NONE;

	pthread_mutex_lock(&f->lock);
	++*count;
	if (f->dead) {
		met = STORE_FAULT_DEAD;
	} else if (f->fault != STORE_FAULT_NONE && f->left-- == 0) {
		met = f->fault;
		f->fault = STORE_FAULT_NONE;
		f->dead = met == STORE_FAULT_DEAD || met == STORE_FAULT_DEAD_AFTER;
	}
	pthread_mutex_unlock(&f->lock);
	return met;
}

static bool store_fault_prevents(enum store_fault met)
{
	return met == STORE_FAULT_FAIL || met == STORE_FAULT_DEAD;
}

static void store_fault_add(struct store_fault_store *f, uint64_t *count, uint64_t n)
{
	pthread_mutex_lock(&f->lock);
	*count += n;
	pthread_mutex_unlock(&f->lock);
}

static int store_fault_put(struct store *s, const char *name, const struct iovec *parts, size_t n,
			   struct err *e)
{
	struct store_fault_store *f = store_fault_of(s);
	enum store_fault met = store_fault_meet(f, &f->counts.puts);
	uint64_t len = 0;
	int r;

	if (store_fault_prevents(met))
		return store_fault_error(f, name, e);
	for (size_t i = 0; i < n; i++)
		len += parts[i].iov_len;
	r = store_putv(f->below, name, parts, n, e);
	if (r == 0)
		store_fault_add(f, &f->counts.put_bytes, len);
	return met == STORE_FAULT_NONE ? r : store_fault_error(f, name, e);
}

static int store_fault_unreadable(struct store_fault_store *f, const char *name, struct err *e)
{
	int r;

	pthread_mutex_lock(&f->lock);
	r = strcmp(f->unreadable, name) == 0 ? f->unreadable_error : 0;
	pthread_mutex_unlock(&f->lock);
	return r < 0 ? err_set(e, r, "%s: cannot be read, on purpose", name) : 0;
}

static int store_fault_get(struct store *s, const char *name, uint64_t offset, void *buf,
			   size_t len, struct err *e)
{
	struct store_fault_store *f = store_fault_of(s);
	int r = store_fault_reading(f, &f->counts.gets, name, e);

	if (r == 0)
		r = store_fault_unreadable(f, name, e);
	if (r < 0)
		return r;
	r = store_get(f->below, name, offset, buf, len, e);
	if (r == 0)
		store_fault_add(f, &f->counts.get_bytes, len);
	return r;
}

static int store_fault_size(struct store *s, const char *name, uint64_t *ret, struct err *e)
{
	struct store_fault_store *f = store_fault_of(s);
	int r = store_fault_reading(f, &f->counts.sizes, name, e);

	return r < 0 ? r : store_size(f->below, name, ret, e);
}

static int store_fault_time(struct store *s, const char *name, uint64_t *ret_ns, struct err *e)
{
	struct store_fault_store *f = store_fault_of(s);
	int r = store_fault_reading(f, &f->counts.sizes, name, e);

	return r < 0 ? r : store_time(f->below, name, ret_ns, e);
}

static int store_fault_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx,
			    struct err *e)
{
	struct store_fault_store *f = store_fault_of(s);
	int r = store_fault_reading(f, &f->counts.lists, prefix, e);

	return r < 0 ? r : store_list(f->below, prefix, fn, ctx, e);
}

static int store_fault_del(struct store *s, const char *name, struct err *e)
{
	struct store_fault_store *f = store_fault_of(s);
	enum store_fault met = store_fault_meet(f, &f->counts.dels);
	int r;

	if (store_fault_prevents(met))
		return store_fault_error(f, name, e);
	r = store_del(f->below, name, e);
	return met == STORE_FAULT_NONE ? r : store_fault_error(f, name, e);
}

static void store_fault_free(struct store *s)
{
	store_free(store_fault_release(s));
}

/* ---- drafts: a put when it gets its name; what is dead takes nothing ---------------------------------------------- */

struct store_fault_draft {
	struct store_draft base;
	struct store_fault_store *store;
	struct store_draft *below;
	uint64_t len;
};

static int store_fault_draft_add(struct store_draft *d, const struct iovec *parts, size_t n,
				 struct err *e)
{
	struct store_fault_draft *m = (struct store_fault_draft *)d;
	uint64_t none = 0;
	int r = store_fault_reading(m->store, &none, "a draft", e);

	if (r == 0)
		r = store_draft_add(m->below, parts, n, e);
	for (size_t i = 0; i < n && r == 0; i++)
		m->len += parts[i].iov_len;
	return r;
}

static int store_fault_draft_put(struct store_draft *d, const char *name, struct err *e)
{
	struct store_fault_draft *m = (struct store_fault_draft *)d;
	enum store_fault met = store_fault_meet(m->store, &m->store->counts.puts);
	int r;

	if (store_fault_prevents(met))
		return store_fault_error(m->store, name, e);
	r = store_draft_put(m->below, name, e);
	if (r == 0)
		store_fault_add(m->store, &m->store->counts.put_bytes, m->len);
	return met == STORE_FAULT_NONE ? r : store_fault_error(m->store, name, e);
}

static void store_fault_draft_free(struct store_draft *d)
{
	store_draft_free(((struct store_fault_draft *)d)->below);
	free(d);
}

static const struct store_draft_ops store_fault_draft_ops = {
	.add = store_fault_draft_add,
	.put = store_fault_draft_put,
	.free = store_fault_draft_free,
};

static int store_fault_draft(struct store *s, const char *folder, struct store_draft **ret,
			     struct err *e)
{
	struct store_fault_draft *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return err_oom(e);
	m->base.ops = &store_fault_draft_ops;
	m->store = store_fault_of(s);
	r = store_draft_new(m->store->below, folder, &m->below, e);
	if (r < 0) {
		store_fault_draft_free(&m->base);
		return r;
	}
	*ret = &m->base;
	return 0;
}

static const struct store_ops store_fault_ops = {
	.put = store_fault_put,
	.get = store_fault_get,
	.size = store_fault_size,
	.list = store_fault_list,
	.del = store_fault_del,
	.free = store_fault_free,
	.time = store_fault_time,
	.draft = store_fault_draft,
};

int store_fault_new(struct store *below, struct store **ret)
{
	struct store_fault_store *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->base.ops = &store_fault_ops;
	f->below = below;
	f->error = -EIO;
	pthread_mutex_init(&f->lock, NULL);
	*ret = &f->base;
	return 0;
}

void store_fault_at(struct store *s, uint64_t at, enum store_fault fault, int error)
{
	struct store_fault_store *f = store_fault_of(s);

	pthread_mutex_lock(&f->lock);
	f->left = at;
	f->fault = fault;
	f->error = error < 0 ? error : -EIO;
	f->dead = false;
	pthread_mutex_unlock(&f->lock);
}

void store_fault_get_of(struct store *s, const char *name, int error)
{
	struct store_fault_store *f = store_fault_of(s);

	pthread_mutex_lock(&f->lock);
	snprintf(f->unreadable, sizeof(f->unreadable), "%s", name ? name : "");
	f->unreadable_error = error;
	pthread_mutex_unlock(&f->lock);
}

struct store_counts store_fault_counts(struct store *s)
{
	struct store_fault_store *f = store_fault_of(s);
	struct store_counts counts;

	pthread_mutex_lock(&f->lock);
	counts = f->counts;
	pthread_mutex_unlock(&f->lock);
	return counts;
}

struct store *store_fault_release(struct store *s)
{
	struct store_fault_store *f = store_fault_of(s);
	struct store *below = f->below;

	pthread_mutex_destroy(&f->lock);
	free(f);
	return below;
}
