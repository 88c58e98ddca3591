/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/btrfs_space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/cleanup.h"

#define SECTOR_MIN   512
#define WINDOW_BYTES ((uint64_t)128 << 10)

/* The super block, and where its copies are, if the device is so long. */
static const uint64_t super_places[] = { UINT64_C(64) << 10, UINT64_C(64) << 20,
					 UINT64_C(256) << 30 };

/* ---- the super block -------------------------------------------------------------------------------------- */

static bool power_of_two(uint32_t n, uint32_t min, uint32_t max)
{
	return n >= min && n <= max && !(n & (n - 1));
}

static bool super_sound(const struct btrfs_disk_super *d, uint64_t at)
{
	return memcmp(d->magic, BTRFS_MAGIC, sizeof(d->magic)) == 0 && le64_get(d->bytenr) == at &&
	       btrfs_csum_right(le16_get(d->csum_type), (const uint8_t *)d, sizeof(*d)) &&
	       power_of_two(le32_get(d->sectorsize), SECTOR_MIN, BTRFS_NODE_MAX) &&
	       power_of_two(le32_get(d->nodesize), BTRFS_NODE_MIN, BTRFS_NODE_MAX) &&
	       le32_get(d->sectorsize) <= le32_get(d->nodesize) &&
	       le32_get(d->sys_chunk_array_size) <= sizeof(d->sys_chunk_array) &&
	       d->root_level < BTRFS_LEVELS_MAX && d->chunk_root_level < BTRFS_LEVELS_MAX;
}

/* The first counts alone. Its copies are written after it: when it is lost, the newest of them is the nearest. */
static int super_read(struct owners_walk *w, struct btrfs_disk_super *ret, struct err *e)
{
	_cleanup_free_ struct btrfs_disk_super *d = malloc(sizeof(*d));
	bool found = false;

	if (!d)
		return err_oom(e);
	for (size_t i = 0; i < ARRAY_SIZE(super_places); i++) {
		int r = owners_walk_read(w, d, sizeof(*d), super_places[i], e);

		if (r < 0 && r != -EBADMSG)
			return r;
		if (r < 0 || !super_sound(d, super_places[i]))
			continue;
		if (!found || le64_get(d->generation) > le64_get(ret->generation))
			memcpy(ret, d, sizeof(*d));
		found = true;
		if (!i)
			break;
	}
	return found ? 0 : err_set(e, -EBADMSG, "its super block and all copies of it are lost");
}

static int super_take(struct btrfs_space *s, const struct btrfs_disk_super *d, struct err *e)
{
	const uint64_t features = le64_get(d->incompat_flags);

	if (features & ~BTRFS_FEATURES_KNOWN)
		return err_set(e, -ENOTSUP, "this btrfs has features that are not known here");
	if (le64_get(d->flags) & ~BTRFS_SUPER_FLAGS_KNOWN) {
		return err_set(
			e, -ENOTSUP,
			"this btrfs is a dump of metadata only, or its conversion was not finished");
	}
	if (le16_get(d->csum_type) > BTRFS_CSUM_BLAKE2B) {
		return err_set(e, -ENOTSUP,
			       "this btrfs has check values of a kind that is not known here");
	}
	memcpy(s->rules.fsid, features & BTRFS_FEATURE_UUID ? d->metadata_uuid : d->fsid,
	       sizeof(s->rules.fsid));
	s->rules.node = le32_get(d->nodesize);
	s->rules.csum_type = le16_get(d->csum_type);
	s->sector = le32_get(d->sectorsize);
	s->devid = le64_get(d->devid);
	s->log_root = le64_get(d->log_root);
	s->tree_root = (struct btrfs_ref){
		.logical = le64_get(d->root),
		.generation = le64_get(d->generation),
		.owner = BTRFS_TREE_ROOT,
		.level = d->root_level,
	};
	s->chunk_root = (struct btrfs_ref){
		.logical = le64_get(d->chunk_root),
		.generation = le64_get(d->chunk_root_generation),
		.owner = BTRFS_TREE_CHUNK,
		.level = d->chunk_root_level,
	};
	return 0;
}

/* ---- chunks ------------------------------------------------------------------------------------------------- */

static int chunk_refuse_spread(uint64_t logical, struct err *e)
{
	return err_set(
		e, -ENOTSUP,
		"this btrfs spreads its bytes over several devices or in stripes (chunk %llu)",
		(unsigned long long)logical);
}

int btrfs_space_add(struct btrfs_space *s, uint64_t logical, const void *item, size_t size,
		    struct err *e)
{
	const struct btrfs_disk_chunk *d = item;
	struct btrfs_place p = { .logical = logical };
	uint64_t end;

	if (size < sizeof(*d) || !le16_get(d->num_stripes) ||
	    (size - sizeof(*d)) / sizeof(d->stripes[0]) < le16_get(d->num_stripes))
		return -EBADMSG;
	p.length = le64_get(d->length);
	p.type = le64_get(d->type);
	p.copies = le16_get(d->num_stripes);
	if (!p.length || __builtin_add_overflow(logical, p.length, &end))
		return -EBADMSG;
	if (p.type & ~BTRFS_CHUNK_KNOWN || p.copies > BTRFS_COPIES_MAX ||
	    (p.copies > 1 && !(p.type & BTRFS_CHUNK_COPIES)) ||
	    (p.copies > 1 && p.type & BTRFS_CHUNK_RAID0))
		return chunk_refuse_spread(logical, e);
	for (unsigned int i = 0; i < p.copies; i++) {
		if (le64_get(d->stripes[i].devid) != s->devid)
			return chunk_refuse_spread(logical, e);
		p.at[i] = le64_get(d->stripes[i].offset);
		if (__builtin_add_overflow(p.at[i], p.length, &end))
			return -EBADMSG;
	}
	if (ARRAY_ROOM(s->places, s->count, s->allocated, 64) < 0)
		return -ENOMEM;
	s->places[s->count++] = p;
	return 0;
}

static int place_compare(const void *a, const void *b)
{
	const struct btrfs_place *x = a, *y = b;

	return x->logical < y->logical ? -1 : x->logical > y->logical;
}

/* Those in the super block are in the chunk tree as well. */
int btrfs_space_settle(struct btrfs_space *s, struct err *e)
{
	size_t kept = 0;

	if (s->count)
		qsort(s->places, s->count, sizeof(*s->places), place_compare);
	for (size_t i = 0; i < s->count; i++) {
		const struct btrfs_place *p = &s->places[i],
					 *last = kept ? &s->places[kept - 1] : NULL;

		if (last && last->logical == p->logical && last->length == p->length &&
		    last->copies == p->copies && memcmp(last->at, p->at, sizeof(p->at)) == 0)
			continue;
		if (last && p->logical < last->logical + last->length)
			return err_set(e, -EBADMSG, "chunks of this btrfs overlap");
		s->places[kept++] = *p;
	}
	s->count = kept;
	s->settled = kept;
	return 0;
}

const struct btrfs_place *btrfs_space_find(const struct btrfs_space *s, uint64_t logical,
					   uint64_t length)
{
	size_t low = 0, high = s->settled;
	const struct btrfs_place *p;

	/* the last that begins at or before @logical */
	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (s->places[middle].logical <= logical) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	if (!low)
		return NULL;
	p = &s->places[low - 1];
	if (logical - p->logical > p->length || length > p->length - (logical - p->logical))
		return NULL;
	return p;
}

/* The chunks that the chunk tree is in. */
static int chunks_take_array(struct btrfs_space *s, const struct btrfs_disk_super *d, struct err *e)
{
	const size_t end = le32_get(d->sys_chunk_array_size);
	size_t at = 0;

	while (at < end) {
		const uint8_t *p = d->sys_chunk_array + at;
		const struct btrfs_disk_key *key = (const void *)p;
		const struct btrfs_disk_chunk *chunk = (const void *)(p + sizeof(*key));
		size_t size = sizeof(*chunk);
		int r = -EBADMSG;

		if (end - at >= sizeof(*key) + size && key->type == BTRFS_ITEM_CHUNK) {
			size += le16_get(chunk->num_stripes) * sizeof(chunk->stripes[0]);
			if (size <= end - at - sizeof(*key))
				r = btrfs_space_add(s, le64_get(key->offset), chunk, size, e);
		}
		if (r == -EBADMSG)
			return err_set(e, r, "the chunks in the super block make no sense");
		if (r < 0)
			return r;
		at += sizeof(*key) + size;
	}
	return btrfs_space_settle(s, e);
}

int btrfs_space_open(struct btrfs_space *s, struct owners_walk *w, struct err *e)
{
	_cleanup_free_ struct btrfs_disk_super *d = calloc(1, sizeof(*d));
	int r;

	*s = (struct btrfs_space){ .w = w };
	if (!d)
		return err_oom(e);
	r = super_read(w, d, e);
	if (r >= 0)
		r = super_take(s, d, e);
	return r < 0 ? r : chunks_take_array(s, d, e);
}

void btrfs_space_done(struct btrfs_space *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(s->windows); i++)
		free(s->windows[i].bytes);
	free(s->places);
	*s = (struct btrfs_space){ 0 };
}

/* ---- tree blocks ---------------------------------------------------------------------------------------------- */

/* The window at @at, read if need be. 0, with NULL: there is none. */
static int window_get(struct btrfs_space *s, uint64_t at, const uint8_t **ret, struct err *e)
{
	struct btrfs_window *v;
	int r;

	*ret = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(s->windows); i++) {
		if (s->windows[i].valid && s->windows[i].at == at) {
			*ret = s->windows[i].bytes;
			return 0;
		}
	}
	v = &s->windows[s->turn++ % BTRFS_WINDOWS];
	v->valid = false;
	if (!v->bytes)
		v->bytes = malloc(WINDOW_BYTES);
	if (!v->bytes)
		return err_oom(e);
	r = owners_walk_read(s->w, v->bytes, WINDOW_BYTES, at, e);
	if (r < 0)
		return r == -EBADMSG ? 0 : r;
	v->at = at;
	v->valid = true;
	*ret = v->bytes;
	return 0;
}

/* A block from the device; where more than it cannot be read, it alone. */
static int space_read_at(struct btrfs_space *s, uint8_t *block, uint64_t at, struct err *e)
{
	const uint64_t base = ROUND_DOWN(at, WINDOW_BYTES);
	const uint8_t *window = NULL;
	int r = 0;

	if (at - base <= WINDOW_BYTES - s->rules.node)
		r = window_get(s, base, &window, e);
	if (r < 0)
		return r;
	if (!window)
		return owners_walk_read(s->w, block, s->rules.node, at, e);
	memcpy(block, window + (at - base), s->rules.node);
	return 0;
}

int btrfs_space_read(struct btrfs_space *s, const struct btrfs_ref *ref, uint8_t *block,
		     uint64_t *ret_at, struct err *e)
{
	const struct btrfs_place *p = btrfs_space_find(s, ref->logical, s->rules.node);

	if (!p || !(p->type & (BTRFS_CHUNK_SYSTEM | BTRFS_CHUNK_METADATA)))
		return -EBADMSG;
	for (unsigned int i = 0; i < p->copies; i++) {
		const uint64_t at = p->at[i] + (ref->logical - p->logical);
		int r = space_read_at(s, block, at, e);

		if (r < 0 && r != -EBADMSG)
			return r;
		if (r < 0 || !btrfs_block_sound(&s->rules, ref, block))
			continue;
		*ret_at = at;
		return 0;
	}
	return -EBADMSG;
}
