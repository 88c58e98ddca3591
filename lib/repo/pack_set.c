/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/pack_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/le.h"

void pack_set_done(struct pack_set *s)
{
	free(s->items);
	free(s->slots);
	*s = (struct pack_set){ 0 };
}

/* The slot that has the pack, or the free one where it would go. */
static size_t set_slot(const struct pack_set *s, const uint8_t hash[REPO_NAME_HASH])
{
	size_t slot;
	le64_t head;

	/* a hash is as good a hash as any */
	memcpy(&head, hash, sizeof(head));
	slot = le64_get(head) & (s->n_slots - 1);
	while (s->slots[slot] &&
	       memcmp(s->items[s->slots[slot] - 1].hash, hash, REPO_NAME_HASH) != 0)
		slot = (slot + 1) & (s->n_slots - 1);
	return slot;
}

static int set_grow(struct pack_set *s)
{
	const size_t room = s->room ? 2 * s->room : 64;
	struct repo_index_pack_info *items;
	uint32_t *slots;

	if (s->n < s->room)
		return 0;
	items = realloc(s->items, room * sizeof(*items));
	if (!items)
		return -ENOMEM;
	s->items = items;
	slots = calloc(2 * room, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	free(s->slots);
	s->slots = slots;
	s->n_slots = 2 * room;
	s->room = room;
	for (size_t i = 0; i < s->n; i++)
		slots[set_slot(s, items[i].hash)] = (uint32_t)i + 1;
	return 0;
}

int pack_set_add(struct pack_set *s, const uint8_t hash[REPO_NAME_HASH], uint32_t size,
		 uint32_t entries, uint32_t *ret)
{
	struct repo_index_pack_info *item;
	size_t slot;

	if (s->n == UINT32_MAX)
		return -EOVERFLOW;
	if (set_grow(s) < 0)
		return -ENOMEM;
	slot = set_slot(s, hash);
	if (!s->slots[slot]) {
		item = &s->items[s->n++];
		*item = (struct repo_index_pack_info){ 0 };
		memcpy(item->hash, hash, sizeof(item->hash));
		s->slots[slot] = (uint32_t)s->n;
	}
	item = &s->items[s->slots[slot] - 1];
	item->size = MAX(item->size, size);
	item->entries = MAX(item->entries, entries);
	*ret = s->slots[slot] - 1;
	return 0;
}

int pack_set_find(const struct pack_set *s, const uint8_t hash[REPO_NAME_HASH], uint32_t *ret)
{
	uint32_t found = s->n ? s->slots[set_slot(s, hash)] : 0;

	if (!found)
		return -ENOENT;
	*ret = found - 1;
	return 0;
}

uint64_t pack_set_memory(const struct pack_set *s)
{
	return s->room * sizeof(*s->items) + s->n_slots * sizeof(*s->slots);
}
