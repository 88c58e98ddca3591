/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_index_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* So many threads seldom meet. */
#define SHARDS 64u
#define SLOTS  16u /* blocks in each */

struct slot {
	uint64_t key;
	size_t n;
	struct repo_entry entries[REPO_INDEX_BLOCK];
};

struct shard {
	pthread_mutex_t lock; /* of all slots */
	struct slot slots[SLOTS];
};

struct repo_index_cache {
	struct shard shards[SHARDS];
};

struct repo_index_cache *repo_index_cache_new(void)
{
	struct repo_index_cache *c = malloc(sizeof(*c));

	for (size_t i = 0; c && i < SHARDS; i++) {
		pthread_mutex_init(&c->shards[i].lock, NULL);
		for (size_t j = 0; j < SLOTS; j++)
			c->shards[i].slots[j].key = UINT64_MAX;
	}
	return c;
}

void repo_index_cache_free(struct repo_index_cache *c)
{
	for (size_t i = 0; c && i < SHARDS; i++)
		pthread_mutex_destroy(&c->shards[i].lock);
	free(c);
}

static struct slot *cache_slot(struct repo_index_cache *c, uint64_t key, struct shard **ret)
{
	/* blocks are numbered: their neighbours must not all share a shard */
	const uint64_t mixed = key * UINT64_C(0x9E3779B97F4A7C15);

	*ret = &c->shards[(mixed >> 32) % SHARDS];
	return &(*ret)->slots[(mixed >> 48) % SLOTS];
}

bool repo_index_cache_get(struct repo_index_cache *c, uint64_t key,
			  struct repo_entry ret[REPO_INDEX_BLOCK], size_t *ret_n)
{
	struct shard *shard;
	struct slot *slot = cache_slot(c, key, &shard);
	bool found;

	pthread_mutex_lock(&shard->lock);
	found = slot->key == key;
	if (found) {
		*ret_n = slot->n;
		memcpy(ret, slot->entries, slot->n * sizeof(*ret));
	}
	pthread_mutex_unlock(&shard->lock);
	return found;
}

void repo_index_cache_put(struct repo_index_cache *c, uint64_t key,
			  const struct repo_entry *entries, size_t n)
{
	struct shard *shard;
	struct slot *slot = cache_slot(c, key, &shard);

	pthread_mutex_lock(&shard->lock);
	slot->key = key;
	slot->n = n;
	memcpy(slot->entries, entries, n * sizeof(*entries));
	pthread_mutex_unlock(&shard->lock);
}

uint64_t repo_index_cache_memory(const struct repo_index_cache *c)
{
	return c ? sizeof(*c) : 0;
}
