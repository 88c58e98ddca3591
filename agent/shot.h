/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * shot - a device-mapper snapshot while it is made and stands (snapshot_cow.c), and its COW store (shot_store.c).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/cow.h"
#include "agent/interpose.h"
#include "agent/snapshot.h"
#include "agent/stand.h"
#include "agent/tracker.h"

/* Pieces of a store: each is as large as all before it. */
#define STORES_MAX 5u

struct shot {
	struct interpose under;
	struct cow cow[STORES_MAX]; /* one, and what it grew by */
	unsigned int n_cow;
	struct stand stand;
	struct tracker *tracker; /* NULL: this kernel cannot */
	uint32_t era;
	int claim_fd, mapper_fd, fd; /* fd: what is read */
	dev_t snap, store;
	bool has_store, has_snap, has_view;
	struct mapper_ready resume;
	struct disk
		seen; /* the source, as the snapshot shows it: a shallow copy with another descriptor */
	pthread_t watcher;
	bool watched;
	atomic_bool stop;
};

/* Make the store and its device. On failure what there is stays in @k. */
int shot_store_make(struct snapshot *s, struct shot *k, struct err *e);
/* Give the pieces back; those that a device may still write to stay (K7), for leftover_repair(). */
void shot_store_remove(struct shot *k);
/*
 * From now on, in a thread: report how full it is, let it grow by 40 %, warn at 80 %. s->map is there. -ENOMEM.
 */
int shot_store_watch(struct snapshot *s, struct err *e);
/* Ends that thread. Accepts one that was never started. */
void shot_store_unwatch(struct shot *k);
/* Is the snapshot valid? 0, or -ENOSPC and what became of it. */
int shot_store_check(struct snapshot *s, struct err *e);
