/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/pipeline.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/increment.h"
#include "lib/image/codec.h"

enum item_state {
	ITEM_EMPTY,
	ITEM_READING, /* submitted, the read is under way */
	ITEM_READY,   /* plain bytes are there */
	ITEM_DONE,    /* compressed, to be written */
};

/* One place in the stream; a ring of them, indexed by sequence number. */
struct item {
	enum item_state state;
	struct pipeline_slot *slot; /* until compressed */
	uint32_t region;
	uint64_t index;
	enum chunk_state kind;
	struct chunk_id id;
	uint8_t *frame; /* kind DATA */
	size_t frame_len;
};

struct pipeline {
	struct pipeline_settings set;
	uint8_t *plain; /* set.slots * chunk_size, from a huge page's border on */
	void *mapped;	/* what it lies in */
	size_t mapped_size;
	uint8_t **frames; /* free frame buffers, a stack; guarded by lock, as all below */
	size_t n_frames, frame_size, all_frames;
	uint8_t *frame_memory;

	pthread_mutex_t lock;
	pthread_cond_t slot_freed, work, done;
	struct pipeline_slot *slots;
	struct pipeline_slot **free; /* stack: low numbers on top */
	unsigned int n_free, usable;
	struct item *ring;
	size_t ring_size;
	uint64_t next_seq;   /* of pipeline_submit() */
	uint64_t next_claim; /* of the workers */
	uint64_t next_write; /* of the writer */
	bool closed;	     /* no more submissions */
	bool stopped;	     /* an error, or pipeline_free() */
	struct err error;

	pthread_t *threads;
	unsigned int n_threads;

	/* the writer thread's own: runs not written yet, and how far the disk is covered */
	uint32_t run_region;
	uint64_t run_index, run_count;
	enum chunk_state run_state;
	uint32_t at_region;
	uint64_t at_index;
};

static void pipeline_stop(struct pipeline *p, const struct err *e)
{
	if (!p->error.code && e)
		p->error = *e;
	p->stopped = true;
	increment_break(p->set.increment);
	pthread_cond_broadcast(&p->slot_freed);
	pthread_cond_broadcast(&p->work);
	pthread_cond_broadcast(&p->done);
}

void pipeline_fail(struct pipeline *p, const struct err *e)
{
	pthread_mutex_lock(&p->lock);
	pipeline_stop(p, e);
	pthread_mutex_unlock(&p->lock);
}

static struct item *pipeline_item(struct pipeline *p, uint64_t seq)
{
	return &p->ring[seq % p->ring_size];
}

/* ---- workers ---------------------------------------------------------------------------------- */

/* Wait for the oldest chunk that nobody works on (P2). NULL: nothing more to do. */
static struct item *worker_claim(struct pipeline *p)
{
	struct item *item;

	while (!p->stopped && ((p->next_claim == p->next_seq && !p->closed) ||
			       (p->next_claim < p->next_seq && !p->n_frames)))
		pthread_cond_wait(&p->work, &p->lock);
	if (p->stopped || p->next_claim == p->next_seq)
		return NULL;
	item = pipeline_item(p, p->next_claim++);
	item->frame = p->frames[--p->n_frames];
	while (!p->stopped && item->state == ITEM_READING)
		pthread_cond_wait(&p->work, &p->lock);
	return p->stopped ? NULL : item;
}

/* What the parent has too need not be sent. */
static int worker_compare(struct pipeline *p, struct item *item, struct err *e)
{
	const struct pipeline_slot *slot = item->slot;
	bool same;
	int r;

	if (!p->set.increment)
		return 0;
	r = increment_compare(p->set.increment, &slot->chunk, slot->plain,
			      item->kind == CHUNK_DATA ? &item->id : NULL, &same, e);
	if (r >= 0 && same)
		item->kind = CHUNK_SAME;
	return r;
}

static int worker_encode(struct pipeline *p, struct codec *codec, struct item *item, struct err *e)
{
	const struct pipeline_slot *slot = item->slot;
	ssize_t n;

	if (slot->bad) {
		item->kind = CHUNK_BAD;
		return 0;
	}
	item->kind = CHUNK_ZERO;
	if (!chunk_is_zero(slot->plain, slot->chunk.length)) {
		item->kind = CHUNK_DATA;
		chunk_id_of(slot->plain, slot->chunk.length, &item->id);
	}
	n = worker_compare(p, item, e);
	if (n < 0 || item->kind != CHUNK_DATA)
		return (int)n;
	n = codec_compress(codec, slot->plain, slot->chunk.length, item->frame, p->frame_size);
	if (n < 0)
		return err_set_errno(e, (int)n, "cannot compress a chunk");
	item->frame_len = (size_t)n;
	return 0;
}

static void pipeline_give_slot(struct pipeline *p, struct pipeline_slot *slot)
{
	p->free[p->n_free++] = slot;
	pthread_cond_broadcast(&p->slot_freed);
}

/* Who compresses takes what processor time the server leaves: a third of a share of its own programs'. */
#define WORKER_NICE 5

static void *worker_main(void *arg)
{
	struct pipeline *p = arg;
	struct codec *codec = NULL;
	struct err e = { 0 };
	struct item *item;
	int r;

	/* of this thread alone, on Linux; what it may not do it does at the usual priority */
	if (!p->set.full_speed)
		setpriority(PRIO_PROCESS, (id_t)gettid(), WORKER_NICE);
	r = codec_new(p->set.level, &codec);
	if (r < 0)
		err_set_errno(&e, r, "cannot set up zstd");
	pthread_mutex_lock(&p->lock);
	while (r >= 0 && (item = worker_claim(p))) {
		pthread_mutex_unlock(&p->lock);
		r = worker_encode(p, codec, item, &e);
		pthread_mutex_lock(&p->lock);
		pipeline_give_slot(p, TAKE_PTR(item->slot));
		if (item->kind != CHUNK_DATA) {
			p->frames[p->n_frames++] = TAKE_PTR(item->frame);
			pthread_cond_broadcast(&p->work);
		}
		item->state = ITEM_DONE;
		pthread_cond_broadcast(&p->done);
	}
	if (r < 0)
		pipeline_stop(p, &e);
	pthread_mutex_unlock(&p->lock);
	codec_free(codec);
	return NULL;
}

/* ---- writer ----------------------------------------------------------------------------------- */

static int writer_flush_run(struct pipeline *p, struct err *e)
{
	uint64_t count = p->run_count;

	p->run_count = 0;
	if (!count)
		return 0;
	return image_writer_run(p->set.writer, p->run_region, p->run_index, count, p->run_state, e);
}

static int writer_run(struct pipeline *p, uint32_t region, uint64_t index, uint64_t count,
		      enum chunk_state state, struct err *e)
{
	int r;

	if (p->run_count && p->run_region == region && p->run_state == state &&
	    p->run_index + p->run_count == index) {
		p->run_count += count;
		return 0;
	}
	r = writer_flush_run(p, e);
	p->run_region = region;
	p->run_index = index;
	p->run_count = count;
	p->run_state = state;
	return r;
}

static uint64_t writer_region_chunks(const struct pipeline *p, uint32_t region)
{
	return region_chunks(p->set.manifest->regions[region].length, p->set.chunk_size);
}

/* In disk order: what lies between the last chunk and this place is free. */
static int writer_cover(struct pipeline *p, uint32_t region, uint64_t index, struct err *e)
{
	int r = 0;

	if (!p->set.in_disk_order)
		return 0;
	while (r >= 0 && p->at_region < region) {
		uint64_t chunks = writer_region_chunks(p, p->at_region);

		if (p->at_index < chunks) {
			r = writer_run(p, p->at_region, p->at_index, chunks - p->at_index,
				       CHUNK_FREE, e);
		}
		p->at_region++;
		p->at_index = 0;
	}
	if (r >= 0 && p->at_index < index)
		r = writer_run(p, region, p->at_index, index - p->at_index, CHUNK_FREE, e);
	p->at_index = index;
	return r;
}

static int writer_put(struct pipeline *p, const struct item *item, struct err *e)
{
	int r;

	r = writer_cover(p, item->region, item->index, e);
	if (r < 0)
		return r;
	p->at_index = item->index + 1;
	if (item->kind != CHUNK_DATA)
		return writer_run(p, item->region, item->index, 1, item->kind, e);
	r = writer_flush_run(p, e);
	if (r < 0)
		return r;
	return image_writer_chunk(p->set.writer, item->region, item->index, &item->id, item->frame,
				  item->frame_len, e);
}

static void *writer_main(void *arg)
{
	struct pipeline *p = arg;
	struct err e = { 0 };
	int r = 0;

	pthread_mutex_lock(&p->lock);
	while (r >= 0 && !p->stopped) {
		struct item *item = pipeline_item(p, p->next_write);

		if (p->next_write == p->next_seq || item->state != ITEM_DONE) {
			if (p->closed && p->next_write == p->next_seq)
				break;
			pthread_cond_wait(&p->done, &p->lock);
			continue;
		}
		pthread_mutex_unlock(&p->lock);
		r = writer_put(p, item, &e);
		pthread_mutex_lock(&p->lock);
		if (item->frame)
			p->frames[p->n_frames++] = TAKE_PTR(item->frame);
		item->state = ITEM_EMPTY;
		p->next_write++;
		pthread_cond_broadcast(&p->work);
		pthread_cond_broadcast(&p->slot_freed);
	}
	if (r >= 0 && !p->stopped) {
		pthread_mutex_unlock(&p->lock);
		r = writer_cover(p, (uint32_t)p->set.manifest->n_regions, 0, &e);
		if (r >= 0)
			r = writer_flush_run(p, &e);
		pthread_mutex_lock(&p->lock);
	}
	if (r < 0)
		pipeline_stop(p, &e);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- the owner's side ------------------------------------------------------------------------- */

/* Of the processors that we know; where it is another size nothing but speed is lost. */
#define HUGE_PAGE ((size_t)2 << 20)

/*
 * The plain buffers, in huge pages where the kernel has some: what is pinned for io_uring, made present before a freeze, locked in
 * memory for it, and given back are thousands of pages otherwise (measured in an increment: 62 of 98 ms of its thread).
 */
static int pipeline_map(struct pipeline *p)
{
	size_t plain_size = (size_t)p->set.slots * p->set.chunk_size;

	p->mapped_size = plain_size + HUGE_PAGE;
	p->mapped = mmap(NULL, p->mapped_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (p->mapped == MAP_FAILED) {
		p->mapped = NULL;
		return -ENOMEM;
	}
	p->plain = (uint8_t *)p->mapped + (-(uintptr_t)p->mapped & (HUGE_PAGE - 1));
	madvise(p->plain, plain_size, MADV_HUGEPAGE);
	/* the agent's children must not copy buffers that the kernel is reading into */
	madvise(p->plain, plain_size, MADV_DONTFORK);
	return 0;
}

static int pipeline_allocate(struct pipeline *p)
{
	p->all_frames = p->set.threads + 4;
	p->frame_size = ROUND_UP(codec_bound(p->set.chunk_size), 4096);
	/* one place for each slot that is read or waits, and one for each frame that waits to be written */
	p->ring_size = p->set.slots + p->all_frames + 1;
	p->slots = calloc(p->set.slots, sizeof(*p->slots));
	p->free = calloc(p->set.slots, sizeof(struct pipeline_slot *));
	p->ring = calloc(p->ring_size, sizeof(*p->ring));
	p->frames = calloc(p->all_frames, sizeof(uint8_t *));
	p->threads = calloc(p->set.threads + 1, sizeof(*p->threads));
	p->frame_memory = malloc(p->all_frames * p->frame_size);
	if (!p->slots || !p->free || !p->ring || !p->frames || !p->threads || !p->frame_memory ||
	    pipeline_map(p) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < p->all_frames; i++)
		p->frames[p->n_frames++] = p->frame_memory + i * p->frame_size;
	for (unsigned int i = 0; i < p->set.slots; i++) {
		p->slots[i].number = i;
		p->slots[i].plain = p->plain + (size_t)i * p->set.chunk_size;
	}
	return 0;
}

/* Only slots below @usable are in circulation; all of them must be free. */
static void pipeline_circulate(struct pipeline *p, unsigned int usable)
{
	p->usable = usable;
	p->n_free = 0;
	while (usable > 0)
		p->free[p->n_free++] = &p->slots[--usable];
}

int pipeline_new(const struct pipeline_settings *settings, struct pipeline **ret, struct err *e)
{
	_cleanup_(pipeline_freep) struct pipeline *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_oom(e);
	p->set = *settings;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->slot_freed, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->done, NULL);
	r = pipeline_allocate(p);
	if (r < 0)
		return err_oom(e);
	pipeline_circulate(p, settings->base_slots);
	for (unsigned int i = 0; i < settings->threads + 1; i++) {
		r = -pthread_create(&p->threads[i], NULL, i ? worker_main : writer_main, p);
		if (r < 0)
			return err_set_errno(e, r, "cannot start a thread");
		p->n_threads++;
	}
	*ret = TAKE_PTR(p);
	return 0;
}

static void pipeline_join(struct pipeline *p)
{
	while (p->n_threads > 0)
		pthread_join(p->threads[--p->n_threads], NULL);
}

void pipeline_free(struct pipeline *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	pipeline_stop(p, NULL);
	pthread_mutex_unlock(&p->lock);
	pipeline_join(p);
	if (p->mapped)
		munmap(p->mapped, p->mapped_size);
	free(p->frame_memory);
	free(p->frames);
	free(p->threads);
	free(p->ring);
	free(p->free);
	free(p->slots);
	pthread_cond_destroy(&p->done);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->slot_freed);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void *pipeline_buffers(const struct pipeline *p, size_t *ret_base_bytes)
{
	*ret_base_bytes = (size_t)p->set.base_slots * p->set.chunk_size;
	return p->plain;
}

/* Under the lock: 0, or the first error. */
static int pipeline_state(struct pipeline *p, struct err *e)
{
	if (p->error.code) {
		if (e)
			*e = p->error;
		return p->error.code;
	}
	if (p->stopped || cancel_raised(p->set.cancel))
		return err_set(e, -ECANCELED, "cancelled");
	return 0;
}

/* A place in the ring must be there too, or the stream would overtake itself. */
static bool pipeline_has_room(const struct pipeline *p)
{
	return p->n_free > 0 && p->next_seq - p->next_write < p->ring_size;
}

int pipeline_take(struct pipeline *p, bool wait, struct pipeline_slot **ret, struct err *e)
{
	int r;

	*ret = NULL;
	pthread_mutex_lock(&p->lock);
	while ((r = pipeline_state(p, e)) >= 0 && wait && !pipeline_has_room(p))
		pthread_cond_wait(&p->slot_freed, &p->lock);
	if (r >= 0 && pipeline_has_room(p)) {
		*ret = p->free[--p->n_free];
		(*ret)->bad = false;
		(*ret)->reads = 0;
		(*ret)->unreadable = 0;
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

void pipeline_submit(struct pipeline *p, struct pipeline_slot *slot)
{
	struct item *item;

	pthread_mutex_lock(&p->lock);
	slot->sequence = p->next_seq++;
	item = pipeline_item(p, slot->sequence);
	*item = (struct item){
		.state = ITEM_READING,
		.slot = slot,
		.region = slot->chunk.region,
		.index = slot->chunk.index,
	};
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
}

void pipeline_ready(struct pipeline *p, struct pipeline_slot *slot)
{
	pthread_mutex_lock(&p->lock);
	pipeline_item(p, slot->sequence)->state = ITEM_READY;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
}

int pipeline_drain(struct pipeline *p, struct err *e)
{
	int r;

	pthread_mutex_lock(&p->lock);
	while ((r = pipeline_state(p, e)) >= 0 &&
	       (p->n_free < p->usable || p->next_write < p->next_seq))
		pthread_cond_wait(&p->slot_freed, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return r;
}

int pipeline_reserve(struct pipeline *p, unsigned int slots, struct err *e)
{
	size_t bytes;

	if (slots > p->set.slots) {
		return err_set(e, -E2BIG, "%u chunks do not fit into memory at once (%u do)", slots,
			       p->set.slots);
	}
	slots = MAX(slots, p->set.base_slots);
	/* the base too: of what was not registered with io_uring a short pass has touched only some */
	bytes = (size_t)slots * p->set.chunk_size;
	if (madvise(p->plain, bytes, MADV_POPULATE_WRITE) < 0)
		memset(p->plain, 0, bytes);
	pthread_mutex_lock(&p->lock);
	pipeline_circulate(p, slots);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

void pipeline_release(struct pipeline *p)
{
	size_t base = (size_t)p->set.base_slots * p->set.chunk_size;
	size_t all = (size_t)p->set.slots * p->set.chunk_size;

	if (p->usable == p->set.base_slots)
		return;
	madvise(p->plain + base, all - base, MADV_DONTNEED);
	pthread_mutex_lock(&p->lock);
	pipeline_circulate(p, p->set.base_slots);
	pthread_mutex_unlock(&p->lock);
}

int pipeline_finish(struct pipeline *p, struct err *e)
{
	int r;

	pthread_mutex_lock(&p->lock);
	p->closed = true;
	pthread_cond_broadcast(&p->work);
	pthread_cond_broadcast(&p->done);
	pthread_mutex_unlock(&p->lock);
	pipeline_join(p);
	pthread_mutex_lock(&p->lock);
	r = pipeline_state(p, e);
	pthread_mutex_unlock(&p->lock);
	return r;
}
