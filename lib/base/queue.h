/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * queue - a bounded first-in first-out queue of pointers between threads.
 *
 * The bound is the back-pressure: queue_push() waits while the queue is full. After queue_close() no
 * push succeeds, and pops drain what is left and then return NULL. The queue does not own its items.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	void **items; /* guarded by lock, as all that follows */
	size_t capacity;
	size_t head;
	size_t count;
	bool closed;
};

/* Returns 0 or -ENOMEM. */
int queue_init(struct queue *q, size_t capacity);
/* All threads must have left. Accepts a zeroed queue. */
void queue_done(struct queue *q);
/* Blocks while full. Returns 0, or -EPIPE once closed. */
int queue_push(struct queue *q, void *item);
/* Blocks while empty. NULL once closed and empty. */
void *queue_pop(struct queue *q);
/* Never blocks: NULL when empty. */
void *queue_try_pop(struct queue *q);
/* Wakes everyone. May be called more than once. */
void queue_close(struct queue *q);
size_t queue_count(struct queue *q);
