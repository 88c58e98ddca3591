/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/capture.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/describe.h"
#include "agent/disk.h"
#include "agent/increment.h"
#include "agent/output.h"
#include "agent/pause.h"
#include "agent/pipeline.h"
#include "agent/plan.h"
#include "agent/reader.h"
#include "agent/snapshot.h"
#include "agent/track_identity.h"
#include "agent/tracker.h"
#include "lib/base/io.h"

/* Plain bytes read ahead of the compressors: enough for 64 reads in flight, far below any server's memory. */
#define BASE_BYTES (32u << 20)
/*
 * An increment that reads only what was written is over so soon that making memory present is felt: chunks, besides one for each
 * worker. Past 32 reads in flight nothing gets faster (facts: read speeds).
 */
#define TRACKED_SLOTS 32u
/*
 * Plain bytes that the last pass may hold, so that it waits for nobody while file systems stand still: a
 * quarter of what is available, within these bounds. Only what is needed is ever touched, and only then.
 */
#define FROZEN_BYTES_MIN (UINT64_C(64) << 20)
#define FROZEN_BYTES_MAX (UINT64_C(1) << 30)
/*
 * A live disk is read again in whole chunks, so with chunks of the tracker's granule a random write costs an
 * eighth of what it would with those of 1 MiB, above all while frozen. The index costs about 58 bytes of
 * memory for each chunk in use, which bounds how small.
 */
#define LIVE_CHUNK_SHIFT TRACK_GRANULE_SHIFT
#define SMALL_BYTES	 (UINT64_C(256) << 30)
/* With more than this in use chunks are as large as they get, for the same reason and for the seek table's limit. */
#define LARGE_BYTES (UINT64_C(16) << 40)

/* Everything of one capture; released in capture_done(), in reverse order of use. */
struct capture {
	const struct capture_request *request;
	struct capture_status *status;
	struct cancel *cancel;
	struct disk *disk;
	struct together *together;
	struct increment *increment;
	struct snapshot snapshot;
	struct plan *plan;
	struct manifest *manifest;
	struct output output;
	struct image_writer *writer;
	struct pipeline *pipeline;
	struct reader *reader;
	uint32_t chunk_size;
	uint64_t begun_ns;
};

static void capture_done(struct capture *c, const struct err *why)
{
	/* the others must not wait for us */
	together_leave(c->together, why);
	/* first of all: nothing may stay frozen while buffers are given back */
	if (c->snapshot.ops)
		c->snapshot.ops->end(&c->snapshot);
	/* nobody shall wait for what is of no use any more */
	throttle_lift(&c->output.limit, true);
	reader_free(c->reader);
	pipeline_free(c->pipeline);
	increment_free(c->increment);
	image_writer_free(c->writer);
	output_close(&c->output);
	manifest_free(c->manifest);
	plan_free(c->plan);
	usedmap_free(c->snapshot.map);
	disk_free(c->disk);
}

static const struct snapshot_ops *const capture_providers[] = {
	[CAPTURE_PRECOPY] = &snapshot_precopy, [CAPTURE_OFFLINE] = &snapshot_offline,
	[CAPTURE_STILL] = &snapshot_still,     [CAPTURE_DM] = &snapshot_dm,
	[CAPTURE_KMOD] = &snapshot_kmod,
};

/* What "auto" tries for a disk in use, best first. */
static const enum capture_strategy capture_order[] = {
	CAPTURE_DM,
	CAPTURE_KMOD,
	CAPTURE_PRECOPY,
	CAPTURE_STILL,
};

/* Can it be done in this way, as far as can be told without doing it? */
static int capture_able(const struct capture *c, enum capture_strategy strategy, struct err *e)
{
	const struct snapshot_ops *ops = capture_providers[strategy];
	const struct disk *d = c->disk;
	int r;

	if (strategy != CAPTURE_OFFLINE && d->is_file) {
		return err_set(e, -EINVAL, "%s is a file: it is captured offline%s", d->path,
			       c->together ? " and alone, not at one instant with others" : "");
	}
	if (c->together && !ops->below) {
		return err_set(
			e, -ENOTSUP,
			"several disks at one instant take device-mapper snapshots (dm, kmod)");
	}
	r = ops->able(d, e);
	/* a pipe does not tell where its other end leads */
	if (r < 0 ||
	    (!disk_holds_fd(d, c->request->output_fd) &&
	     (c->request->destination_fd < 0 || !disk_holds_fd(d, c->request->destination_fd))))
		return r;
	if (ops->below && !c->request->overflow_precopy)
		return 0;
	if (ops->below) {
		return err_set(
			e, -EXDEV,
			"the image would lie on %s, the disk that is captured, and then a "
			"full COW store cannot be followed by precopy: write it elsewhere, or "
			"leave out --on-overflow",
			d->path);
	}
	return err_set(e, -EXDEV,
		       "the image would lie on %s, the disk that is captured: write it to another "
		       "disk, or through a pipe to another machine",
		       d->path);
}

/* Begin in this way. On failure nothing is left of it. */
static int capture_begin_as(struct capture *c, enum capture_strategy strategy, struct err *e)
{
	int r;

	r = capture_able(c, strategy, e);
	if (r < 0)
		return r;
	c->snapshot = (struct snapshot){
		.ops = capture_providers[strategy],
		.disk = c->disk,
		.fd = c->disk->fd,
		.request = c->request,
		.status = c->status,
		.cancel = c->cancel,
		.together = c->together,
	};
	atomic_store(&c->status->strategy, strategy);
	r = c->snapshot.ops->begin(&c->snapshot, e);
	if (r < 0) {
		c->snapshot.ops->end(&c->snapshot);
		usedmap_free(TAKE_PTR(c->snapshot.map));
		c->snapshot.ops = NULL;
	}
	return r;
}

/*
 * Is another way worth a try after this one failed with @r? Not when it would only fail the same way; and where the image
 * would lie (-EXDEV) matters more than what this kernel lacks besides.
 */
static bool capture_goes_on(int r)
{
	return r == -ENOTSUP || r == -EBUSY || r == -ENOSPC || r == -EROFS;
}

/* The reason so far, and why not @strategy. */
static void capture_reason(struct capture *c, enum capture_strategy strategy, const struct err *why)
{
	char *reason = c->status->reason;
	const size_t size = sizeof(c->status->reason), n = strlen(reason);

	snprintf(reason + n, size - n, "%snot %s: %.150s", n ? "; " : "",
		 capture_strategy_name(strategy), why->text);
}

static int capture_begin_auto(struct capture *c, struct err *e)
{
	int r = -ENOTSUP;

	if (!c->together && (!c->disk->in_use || c->disk->is_file))
		return capture_begin_as(c, CAPTURE_OFFLINE, e);
	for (size_t i = 0; i < ARRAY_SIZE(capture_order); i++) {
		struct err why = { 0 };

		r = capture_begin_as(c, capture_order[i], &why);
		if (r >= 0)
			return r;
		if (!capture_goes_on(r)) {
			*e = why;
			return r;
		}
		capture_reason(c, capture_order[i], &why);
	}
	return err_set(e, r,
		       "%s cannot be captured while it is in use (%s): unmount it or mount it "
		       "read-only for as long as the capture takes",
		       c->disk->path, c->status->reason);
}

static int capture_begin_snapshot(struct capture *c, struct err *e)
{
	enum capture_strategy strategy = c->request->strategy;
	int r;

	r = strategy == CAPTURE_AUTO ? capture_begin_auto(c, e) : capture_begin_as(c, strategy, e);
	if (r >= 0)
		atomic_store(&c->status->reasoned, true);
	return r;
}

static int capture_open(struct capture *c, struct err *e)
{
	int r;

	r = disk_open(c->request->source, &c->disk, e);
	if (r < 0)
		return r;
	atomic_store(&c->status->disk_size, c->disk->size);
	if (!c->disk->size) {
		return err_set(e, -EINVAL, "%s is empty: there is nothing to capture",
			       c->disk->path);
	}
	r = output_open(&c->output, c->request->output_fd, c->cancel, &c->status->written, e);
	throttle_init(&c->output.limit, c->request->limit_write);
	return r < 0 ? r : increment_new(c->request->parent_fd, c->cancel, &c->increment, e);
}

/* What is in use, in bytes of chunks of @size that hold some of it. */
static uint64_t capture_covered(const struct capture *c, uint64_t size)
{
	uint64_t covered = 0;

	for (size_t i = 0; i < c->snapshot.map->n_regions; i++) {
		const uint64_t start = c->disk->layout->regions[i].start;
		uint64_t next = 0; /* the first chunk that is not counted yet */

		extent_for_each(e, &c->snapshot.map->regions[i].used) {
			const uint64_t first = MAX((e->start - start) / size, next);

			next = MAX(DIV_ROUND_UP(extent_end(e) - start, size), next);
			covered += (next - MIN(first, next)) * size;
		}
	}
	return covered;
}

/* Will every chunk be read once, in the order of the disk, whatever happens? */
static bool capture_one_pass(const struct capture *c)
{
	return c->snapshot.ops->one_pass &&
	       !(c->snapshot.ops->lost && c->request->overflow_precopy);
}

static uint32_t capture_chunk_size(const struct capture *c)
{
	const uint64_t used = capture_covered(c, 1u << LIVE_CHUNK_SHIFT);
	const uint32_t parents = increment_chunk_size(c->increment);

	if (c->request->chunk_shift)
		return 1u << c->request->chunk_shift;
	if (parents)
		return parents;

	if (used > LARGE_BYTES)
		return 1u << AMBRO_CHUNK_SHIFT_MAX;
	if (used > SMALL_BYTES)
		return 1u << AMBRO_CHUNK_SHIFT_DEFAULT;
	/* a bitmap here and there: with small chunks fewer zeros are hashed, packed, and written back */
	if (!capture_one_pass(c) || capture_covered(c, 1u << AMBRO_CHUNK_SHIFT_DEFAULT) > used * 2)
		return 1u << LIVE_CHUNK_SHIFT;
	return 1u << AMBRO_CHUNK_SHIFT_DEFAULT;
}

static uint64_t capture_features(const struct capture *c)
{
	uint64_t free_bytes =
		c->disk->size - MIN(c->disk->size, extent_set_total(plan_used(c->plan)));

	if (increment_kind(c->increment) != INCREMENT_FULL)
		return AMBRO_REQUIRE_RESENT | AMBRO_REQUIRE_SPARSE | AMBRO_REQUIRE_PARENT;
	if (!capture_one_pass(c))
		return AMBRO_REQUIRE_RESENT | AMBRO_REQUIRE_SPARSE;
	return free_bytes > IMAGE_SPARSE_BYTES ? AMBRO_REQUIRE_SPARSE : 0;
}

static unsigned int capture_threads(const struct capture *c)
{
	cpu_set_t set;

	if (c->request->threads)
		return MIN(c->request->threads, 64u);
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 2;
	return (unsigned int)MIN(MAX(CPU_COUNT(&set), 1), 64);
}

static uint64_t capture_frozen_bytes(void)
{
	return MIN(MAX(io_memory_available() / 4, FROZEN_BYTES_MIN), FROZEN_BYTES_MAX);
}

static unsigned int capture_base_slots(const struct capture *c)
{
	const unsigned int all = BASE_BYTES / c->chunk_size;

	return increment_kind(c->increment) == INCREMENT_TRACKED
		       ? MIN(all, TRACKED_SLOTS + capture_threads(c))
		       : all;
}

static bool capture_lost(void *ctx)
{
	struct capture *c = ctx;

	return c->snapshot.ops->lost && c->snapshot.ops->lost(&c->snapshot);
}

static int capture_start_pipeline(struct capture *c, uint64_t require, struct err *e)
{
	struct pipeline_settings ps = {
		.chunk_size = c->chunk_size,
		.slots = (unsigned int)(capture_frozen_bytes() / c->chunk_size),
		.base_slots = capture_base_slots(c),
		.threads = capture_threads(c),
		.full_speed = c->request->full_speed,
		.level = c->request->level,
		.in_disk_order = !(require & AMBRO_REQUIRE_RESENT),
		.increment = c->increment,
		.writer = c->writer,
		.manifest = c->manifest,
		.cancel = c->cancel,
	};
	struct reader_settings rs = {
		.fd = c->snapshot.fd,
		.name = c->disk->path,
		.size = c->disk->size,
		.sector_size = c->disk->logical_sector,
		.ignore_errors = c->request->ignore_read_errors,
		.lost = capture_lost,
		.lost_ctx = c,
		.limit = c->request->limit_read,
		.idle = !c->request->full_speed,
		.status = c->status,
		.cancel = c->cancel,
	};
	int r;

	r = pipeline_new(&ps, &c->pipeline, e);
	if (r < 0)
		return r;
	rs.pipeline = c->pipeline;
	rs.slots = ps.slots;
	c->snapshot.capacity = ps.slots;
	return reader_new(&rs, &c->reader, e);
}

/* snapshot.reserve. Nothing is frozen yet, so the output may take its time. */
static int capture_reserve(void *ctx, uint64_t chunks, struct err *e)
{
	struct capture *c = ctx;
	int r;

	/* what a freeze that came to nothing has read */
	reader_release(c->reader);
	if (reader_reserve(c->reader) < 0)
		return err_oom(e);
	r = pipeline_drain(c->pipeline, e);
	return r < 0 ? r : pipeline_reserve(c->pipeline, (unsigned int)chunks, e);
}

static int capture_begin(struct capture *c, struct err *e)
{
	struct image_sink sink = output_sink(&c->output);
	uint64_t require;
	int r;

	r = capture_begin_snapshot(c, e);
	if (r < 0)
		return r;
	c->chunk_size = capture_chunk_size(c);
	r = plan_new(c->disk->layout, c->snapshot.map, c->chunk_size, &c->plan);
	if (r < 0)
		return err_oom(e);
	c->snapshot.plan = c->plan;
	c->snapshot.reserve = capture_reserve;
	c->snapshot.reserve_ctx = c;
	r = describe_capture(c->disk, c->snapshot.map, c->snapshot.ops->name, c->chunk_size,
			     &c->manifest, e);
	if (r >= 0)
		r = increment_choose(c->increment, &c->snapshot, c->manifest, c->status, e);
	if (r < 0)
		return r;
	require = capture_features(c);
	r = image_writer_new(&sink, c->manifest, require, &c->writer, e);
	if (r < 0)
		return r;
	return capture_start_pipeline(c, require, e);
}

/* One pass into memory; unless everything stands still, also through the pipeline. */
static int capture_pass(struct capture *c, const struct extent_set *ranges, bool first,
			struct err *e)
{
	int r;

	reader_hurry(c->reader, c->snapshot.frozen || c->snapshot.hurry);
	throttle_lift(&c->output.limit, c->snapshot.hurry);
	if (c->snapshot.frozen)
		reader_hold(c->reader);
	r = reader_pass(c->reader, c->plan, ranges, first, e);
	if (r < 0)
		return r;
	atomic_fetch_add(&c->status->passes, 1);
	c->snapshot.read_rate = reader_rate(c->reader);
	if (c->snapshot.frozen)
		return 0;
	r = plan_add_used(c->plan, ranges);
	if (r < 0)
		return err_oom(e);
	r = pipeline_drain(c->pipeline, e);
	if (r >= 0)
		pipeline_release(c->pipeline);
	return r;
}

/* A device that grew, shrank or was pulled out while it was read is not the one that the manifest tells of. */
static int capture_check_size(const struct capture *c, struct err *e)
{
	uint64_t size;
	int r;

	r = io_size(c->disk->fd, &size);
	if (r < 0)
		return err_set_errno(e, r, "%s: size", c->disk->path);
	if (size != c->disk->size) {
		return err_set(e, -ESTALE,
			       "the size of %s changed while it was captured: capture it again",
			       c->disk->path);
	}
	return 0;
}

static int capture_read(struct capture *c, struct err *e)
{
	_cleanup_extents_ struct extent_set first = { 0 };
	const struct extent_set *ranges;
	int r;

	r = increment_plan(c->increment, c->plan, c->writer, &first, e);
	if (r < 0)
		return r;
	atomic_store(&c->status->total, plan_cost_of(c->plan, &first).bytes);
	atomic_store(&c->status->phase, PHASE_READ);
	r = capture_pass(c, &first, true, e);
	while (r >= 0) {
		c->snapshot.unread = reader_bad(c->reader);
		r = c->snapshot.ops->next(&c->snapshot, &ranges, e);
		reader_release(c->reader);
		if (r == 0)
			return capture_check_size(c, e);
		if (r > 0)
			r = capture_pass(c, ranges, false, e);
	}
	return c->snapshot.ops->failed ? c->snapshot.ops->failed(&c->snapshot, r, e) : r;
}

static int capture_finish(struct capture *c, struct err *e)
{
	struct manifest *m = c->manifest;
	struct extent_set none = { 0 };
	int r;

	atomic_store(&c->status->phase, PHASE_WRITE);
	atomic_store(&c->status->dirty, 0);
	r = pipeline_finish(c->pipeline, e);
	if (r < 0)
		return r;
	pause_at("written");
	m->instant_ns = c->snapshot.instant_ns;
	m->guarantee = strdup(c->snapshot.guarantee);
	/* it may have become another on the way */
	free(m->strategy);
	m->strategy = strdup(c->snapshot.ops->name);
	if (!m->guarantee || !m->strategy ||
	    extent_set_union(reader_bad(c->reader), &none, &m->bad) < 0)
		return err_oom(e);
	m->passes = atomic_load(&c->status->passes);
	m->freeze_us = atomic_load(&c->status->freeze_us);
	m->read_bytes = atomic_load(&c->status->read);
	m->duration_ms = (io_now_ns() - c->begun_ns) / 1000000;
	r = increment_conclude(c->increment, m, e);
	if (r >= 0)
		r = image_writer_finish(c->writer, e);
	if (r < 0)
		return r;
	atomic_store(&c->status->phase, PHASE_DONE);
	return 0;
}

int capture_run(const struct capture_request *request, struct capture_status *status,
		struct cancel *cancel, struct err *e)
{
	struct capture c = {
		.request = request,
		.status = status,
		.cancel = cancel,
		.output = { .fd = -EBADF },
		.begun_ns = io_now_ns(),
	};
	int r;

	atomic_store(&status->phase, PHASE_PREPARE);
	r = request->together
		    ? together_join(request->together, request->together_count, &c.together, e)
		    : 0;
	if (r >= 0)
		r = capture_open(&c, e);
	if (r >= 0)
		r = capture_begin(&c, e);
	if (r >= 0)
		r = capture_read(&c, e);
	if (r >= 0)
		r = capture_finish(&c, e);
	capture_done(&c, r < 0 ? e : NULL);
	return r < 0 && cancel_raised(cancel) ? err_set(e, -ECANCELED, "cancelled") : r;
}
