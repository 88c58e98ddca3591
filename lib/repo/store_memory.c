/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store in memory: a sorted table under one lock. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/store.h"

struct object {
	uint8_t *bytes;
	size_t len;
	char name[];
};

struct store_memory {
	struct store base;
	pthread_mutex_t lock; /* guards what follows, and every object */
	struct object **objects;
	size_t n, room;
};

static const struct store_ops store_memory_ops;

static struct store_memory *store_memory_of(struct store *s)
{
	return (struct store_memory *)s;
}

static void object_free(struct object *o)
{
	if (o)
		free(o->bytes);
	free(o);
}
DEFINE_CLEANUP(struct object, object_free);

static struct object *object_new(const char *name, const struct iovec *parts, size_t n)
{
	_cleanup_(object_freep) struct object *o = calloc(1, sizeof(*o) + strlen(name) + 1);
	size_t at = 0;

	if (!o)
		return NULL;
	memcpy(o->name, name, strlen(name) + 1);
	for (size_t i = 0; i < n; i++)
		o->len += parts[i].iov_len;
	o->bytes = malloc(o->len ? o->len : 1);
	if (!o->bytes)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (parts[i].iov_len > 0)
			memcpy(o->bytes + at, parts[i].iov_base, parts[i].iov_len);
		at += parts[i].iov_len;
	}
	return TAKE_PTR(o);
}

/* Where @name is, or would be; call with the lock held. */
static size_t store_memory_find(const struct store_memory *m, const char *name, bool *there)
{
	size_t low = 0, high = m->n;

	*there = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(m->objects[mid]->name, name);

		if (c == 0) {
			*there = true;
			return mid;
		}
		if (c < 0) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

static struct object *store_memory_look(const struct store_memory *m, const char *name)
{
	bool there;
	size_t i = store_memory_find(m, name, &there);

	return there ? m->objects[i] : NULL;
}

static int store_memory_grow(struct store_memory *m)
{
	size_t room = m->room ? m->room * 2 : 16;
	struct object **objects;

	if (m->n < m->room)
		return 0;
	objects = reallocarray(m->objects, room, sizeof(struct object *));
	if (!objects)
		return -ENOMEM;
	m->objects = objects;
	m->room = room;
	return 0;
}

static int store_memory_put(struct store *s, const char *name, const struct iovec *parts, size_t n,
			    struct err *e)
{
	struct store_memory *m = store_memory_of(s);
	_cleanup_(object_freep) struct object *o = object_new(name, parts, n);
	bool there;
	size_t i;
	int r;

	if (!o)
		return err_oom(e);
	pthread_mutex_lock(&m->lock);
	i = store_memory_find(m, name, &there);
	r = there ? -EEXIST : store_memory_grow(m);
	if (r == 0) {
		memmove(m->objects + i + 1, m->objects + i, (m->n - i) * sizeof(struct object *));
		m->objects[i] = TAKE_PTR(o);
		m->n++;
	}
	pthread_mutex_unlock(&m->lock);
	if (r == -EEXIST)
		return err_set(e, r, "%s exists already", name);
	return r < 0 ? err_oom(e) : 0;
}

static int store_memory_absent(const char *name, struct err *e)
{
	return err_set(e, -ENOENT, "%s does not exist", name);
}

static int store_memory_get(struct store *s, const char *name, uint64_t offset, void *buf,
			    size_t len, struct err *e)
{
	struct store_memory *m = store_memory_of(s);
	const struct object *o;
	int r = 0;

	pthread_mutex_lock(&m->lock);
	o = store_memory_look(m, name);
	if (!o) {
		r = -ENOENT;
	} else if (offset > o->len || len > o->len - offset) {
		r = -ENODATA;
	} else if (len > 0) {
		memcpy(buf, o->bytes + offset, len);
	}
	pthread_mutex_unlock(&m->lock);
	if (r == -ENODATA)
		return err_set(e, r, "%s is shorter than it should be", name);
	return r < 0 ? store_memory_absent(name, e) : 0;
}

static int store_memory_size(struct store *s, const char *name, uint64_t *ret, struct err *e)
{
	struct store_memory *m = store_memory_of(s);
	const struct object *o;

	pthread_mutex_lock(&m->lock);
	o = store_memory_look(m, name);
	if (o)
		*ret = o->len;
	pthread_mutex_unlock(&m->lock);
	return o ? 0 : store_memory_absent(name, e);
}

/* What a listing names, copied, so that who is told may call the store. */
struct listed {
	uint64_t size;
	char name[STORE_NAME_MAX + 1];
};

static int store_memory_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx,
			     struct err *e)
{
	struct store_memory *m = store_memory_of(s);
	_cleanup_free_ struct listed *found = NULL;
	size_t n = 0, len = strlen(prefix), first, end;
	bool there;
	int r = 0;

	pthread_mutex_lock(&m->lock);
	first = store_memory_find(m, prefix, &there);
	for (end = first; end < m->n && !strncmp(m->objects[end]->name, prefix, len);)
		end++;
	found = calloc(end - first + 1, sizeof(*found));
	for (size_t i = first; found && i < end; i++, n++) {
		found[n].size = m->objects[i]->len;
		snprintf(found[n].name, sizeof(found[n].name), "%s", m->objects[i]->name);
	}
	pthread_mutex_unlock(&m->lock);
	if (!found)
		return err_oom(e);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = fn(ctx, found[i].name, found[i].size);
	return r < 0 ? r : 0;
}

static int store_memory_del(struct store *s, const char *name, struct err *e)
{
	struct store_memory *m = store_memory_of(s);
	bool there;
	size_t i;

	(void)e;
	pthread_mutex_lock(&m->lock);
	i = store_memory_find(m, name, &there);
	if (there) {
		object_free(m->objects[i]);
		m->n--;
		memmove(m->objects + i, m->objects + i + 1, (m->n - i) * sizeof(struct object *));
	}
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static void store_memory_free(struct store *s)
{
	struct store_memory *m = store_memory_of(s);

	for (size_t i = 0; i < m->n; i++)
		object_free(m->objects[i]);
	free(m->objects);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static const struct store_ops store_memory_ops = {
	.put = store_memory_put,
	.get = store_memory_get,
	.size = store_memory_size,
	.list = store_memory_list,
	.del = store_memory_del,
	.free = store_memory_free,
};

int store_memory_new(struct store **ret)
{
	struct store_memory *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->base.ops = &store_memory_ops;
	pthread_mutex_init(&m->lock, NULL);
	*ret = &m->base;
	return 0;
}

int store_memory_flip(struct store *s, const char *name, uint64_t offset, uint8_t mask)
{
	struct store_memory *m = store_memory_of(s);
	const struct object *o;
	int r = 0;

	if (s->ops != &store_memory_ops)
		return -EINVAL;
	pthread_mutex_lock(&m->lock);
	o = store_memory_look(m, name);
	if (!o) {
		r = -ENOENT;
	} else if (offset >= o->len) {
		r = -ERANGE;
	} else {
		o->bytes[offset] ^= mask;
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}
