/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/base/queue.h"

#include <errno.h>
#include <stdlib.h>

int queue_init(struct queue *q, size_t capacity)
{
	*q = (struct queue){ .capacity = capacity };
	q->items = calloc(capacity, sizeof(*q->items));
	if (!q->items)
		return -ENOMEM;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->changed, NULL);
	return 0;
}

void queue_done(struct queue *q)
{
	if (!q->items)
		return;
	pthread_cond_destroy(&q->changed);
	pthread_mutex_destroy(&q->lock);
	free(q->items);
	*q = (struct queue){ 0 };
}

int queue_push(struct queue *q, void *item)
{
	int r = 0;

	pthread_mutex_lock(&q->lock);
	while (!q->closed && q->count == q->capacity)
		pthread_cond_wait(&q->changed, &q->lock);
	if (q->closed) {
		r = -EPIPE;
	} else {
		q->items[(q->head + q->count++) % q->capacity] = item;
		pthread_cond_broadcast(&q->changed);
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

static void *queue_take(struct queue *q)
{
	void *item;

	if (!q->count)
		return NULL;
	item = q->items[q->head];
	q->head = (q->head + 1) % q->capacity;
	q->count--;
	pthread_cond_broadcast(&q->changed);
	return item;
}

void *queue_pop(struct queue *q)
{
	void *item;

	pthread_mutex_lock(&q->lock);
	while (!q->count && !q->closed)
		pthread_cond_wait(&q->changed, &q->lock);
	item = queue_take(q);
	pthread_mutex_unlock(&q->lock);
	return item;
}

void *queue_try_pop(struct queue *q)
{
	void *item;

	pthread_mutex_lock(&q->lock);
	item = queue_take(q);
	pthread_mutex_unlock(&q->lock);
	return item;
}

void queue_close(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
}

size_t queue_count(struct queue *q)
{
	size_t n;

	pthread_mutex_lock(&q->lock);
	n = q->count;
	pthread_mutex_unlock(&q->lock);
	return n;
}
