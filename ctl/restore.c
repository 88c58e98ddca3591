/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariants:
 *  1. Nothing on the target changes before every page of the image's hash trees was read and found right
 *     (restore_plan_new()), and before all memory and threads' contexts that are needed exist.
 *  2. A byte reaches the target only as part of a chunk whose SHA-256 was right, or as a zero.
 *  3. A torn restore is no disk. First of all the first and the last MiB of the image's place, and the
 *     last MiB of the target, become zeros and are flushed; the HEAD (what touches the first MiB) is
 *     written when all else is on the medium - with `verify`, when all else was read back from there - and
 *     last the FIRST of it, which has the partition table or superblock. What fails once the HEAD was begun makes the
 *     edges zeros again.
 *
 *	begin ─► zero edges, flush ─► BODY ─► TAIL, flush ─► [read back] ─► HEAD, flush ─► FIRST, flush ─► end
 *	             └─────────── any error, Ctrl-C, power cut: no FIRST ─────────────────────┘
 *
 *  4. Old signatures do not shine through: free space within a MiB of a region's beginning or end is
 *     zeroed, not left (restore_plan.c).
 *  5. Writes under way at the same time never overlap nor share a page: only the end of the target can be
 *     unaligned and go through the page cache, and TAIL, HEAD and FIRST have one thread.
 *  6. The first error stops all threads at their next piece, and is the one that is told.
 *  7. Within a part nothing depends on the order. So chunks are written as they are stored (restore_plan.h), whatever that
 *     is; what a hostile or wrong index says of places changes the speed, and by 2. nothing else. Reading back is in the
 *     order of the target.
 */
#include "ctl/restore.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "ctl/disk_writer.h"
#include "lib/base/io.h"
#include "lib/image/codec.h"

/* Writes under way, all threads together: what keeps an NVMe disk busy at 1 MiB each (measured). */
#define DEPTH_TOTAL 16u
#define DEPTH_MIN   3u
#define THREADS_MAX 128u
#define TICK_NS	    200000000u
/* What lies behind the image's end is given back in pieces. */
#define DISCARD_PIECE (UINT64_C(1) << 30)

struct restore {
	const struct restore_job *job;
	struct worker *workers;
	unsigned int n_workers;
	bool verifying;
	uint64_t total;
	atomic_bool stop;
	atomic_uint_fast64_t done, read_back; /* of total */
	atomic_uint_fast64_t written, zeroed, discarded, bad, verified;

	pthread_mutex_t lock;
	pthread_cond_t ended; /* a worker left */
	unsigned int running; /* guarded by lock, as all that follows */
	struct err first;     /* the first error */
	struct restore_damage *damages;
	size_t n_damages;
};

struct worker {
	struct restore *rs;
	pthread_t thread;
	struct codec *codec;
	void *frame;
	struct disk_writer *writer;
	size_t buffer_len;
};

static void restore_fail(struct restore *rs, const struct err *e)
{
	pthread_mutex_lock(&rs->lock);
	if (!rs->first.code)
		rs->first = *e;
	pthread_mutex_unlock(&rs->lock);
	atomic_store(&rs->stop, true);
}

/* "partition 2 (region 3), byte 4096 of the disk" before the text. */
static int restore_where(const struct restore *rs, const struct restore_item *item, struct err *e)
{
	const struct manifest *m = image_reader_manifest(rs->job->reader);
	uint64_t at = item->offset + restore_plan_base(rs->job->plan);
	unsigned int partition = m->regions[item->region].partition;

	if (partition) {
		err_prefix(e, "region %" PRIu32 " (partition %u), byte %" PRIu64 " of the disk",
			   item->region, partition, at);
	} else {
		err_prefix(e, "region %" PRIu32 ", byte %" PRIu64 " of the disk", item->region, at);
	}
	return e->code;
}

static int restore_note_damage(struct restore *rs, const struct restore_item *item, struct err *e)
{
	struct restore_damage *grown;

	pthread_mutex_lock(&rs->lock);
	grown = reallocarray(rs->damages, rs->n_damages + 1, sizeof(*grown));
	if (grown) {
		rs->damages = grown;
		grown[rs->n_damages++] =
			(struct restore_damage){ item->region, item->offset, item->length };
	}
	pthread_mutex_unlock(&rs->lock);
	return grown ? 0 : err_oom(e);
}

static bool restore_is_damaged(struct restore *rs, uint64_t offset)
{
	bool found = false;

	pthread_mutex_lock(&rs->lock);
	for (size_t i = 0; i < rs->n_damages && !found; i++)
		found = rs->damages[i].offset == offset;
	pthread_mutex_unlock(&rs->lock);
	return found;
}

/* ---- writing ---------------------------------------------------------------------------------- */

static int worker_zero(struct worker *w, const struct restore_item *item, struct err *e)
{
	int r;

	/* a partial page at the end goes through the page cache: after what is on its way */
	if (item->length % w->rs->job->target->align) {
		r = disk_writer_drain(w->writer, e);
		if (r < 0)
			return r;
	}
	r = target_zero(w->rs->job->target, item->offset, item->length, e);
	if (r >= 0)
		atomic_fetch_add(&w->rs->zeroed, item->length);
	return r;
}

static int worker_free(struct worker *w, const struct restore_item *item, struct err *e)
{
	int r;

	if (w->rs->job->no_discard)
		return 0;
	r = target_discard(w->rs->job->target, item->offset, item->length, e);
	if (r > 0)
		atomic_fetch_add(&w->rs->discarded, item->length);
	return r;
}

static int worker_data(struct worker *w, const struct restore_item *item, struct err *e)
{
	struct restore *rs = w->rs;
	void *plain;
	int r;

	r = disk_writer_buffer(w->writer, &plain, e);
	if (r < 0)
		return r;
	r = image_reader_chunk(rs->job->reader, &item->run, w->codec, w->frame, plain, e);
	if (r < 0) {
		disk_writer_return(w->writer, plain);
		restore_where(rs, item, e);
		if (r == -ENOMEM)
			return r;
		/* an image that cannot be read there is as good as a wrong one */
		e->code = -EBADMSG;
		if (!rs->job->skip_damaged)
			return e->code;
		r = restore_note_damage(rs, item, e);
		return r < 0 ? r : worker_zero(w, item, e);
	}
	r = disk_writer_write(w->writer, plain, item->run.plain_len, item->offset, e);
	if (r >= 0)
		atomic_fetch_add(&rs->written, item->length);
	return r;
}

static int worker_write(struct worker *w, const struct restore_item *item, struct err *e)
{
	int r;

	if (item->act == RESTORE_FREE)
		return worker_free(w, item, e);
	if (item->act == RESTORE_BAD)
		atomic_fetch_add(&w->rs->bad, item->length);
	r = item->act == RESTORE_DATA ? worker_data(w, item, e) : worker_zero(w, item, e);
	if (r >= 0)
		atomic_fetch_add(&w->rs->done, item->length);
	return r;
}

/* ---- reading back ----------------------------------------------------------------------------- */

static int worker_read_back(struct worker *w, void *buffer, size_t len, uint64_t offset,
			    struct err *e)
{
	const struct target *t = w->rs->job->target;
	bool direct = t->direct_fd >= 0 && (offset | len) % t->align == 0;
	int r = io_pread_all(direct ? t->direct_fd : t->fd, buffer, len, offset);

	if (r < 0)
		return err_set_errno(e, r, "reading %s back at byte %" PRIu64, t->path, offset);
	return 0;
}

static int worker_verify_piece(struct worker *w, const struct restore_item *item, void *buffer,
			       struct err *e)
{
	bool data = item->act == RESTORE_DATA && !restore_is_damaged(w->rs, item->offset);
	struct chunk_id id;
	bool same;
	int r;

	for (uint64_t at = 0; at < item->length;) {
		size_t n = (size_t)MIN(item->length - at, (uint64_t)w->buffer_len);

		r = worker_read_back(w, buffer, n, item->offset + at, e);
		if (r < 0)
			return r;
		if (data) {
			chunk_id_of(buffer, n, &id);
			same = chunk_id_equal(&id, &item->run.id);
		} else {
			same = chunk_is_zero(buffer, n);
		}
		if (!same) {
			err_set(e, -EIO, "%s does not give back what was written",
				w->rs->job->target->path);
			return restore_where(w->rs, item, e);
		}
		at += n;
		atomic_fetch_add(&w->rs->read_back, n);
	}
	atomic_fetch_add(&w->rs->verified, item->length);
	return 0;
}

static int worker_verify(struct worker *w, const struct restore_item *item, struct err *e)
{
	void *buffer;
	int r;

	if (item->act == RESTORE_FREE)
		return 0;
	r = disk_writer_buffer(w->writer, &buffer, e);
	if (r < 0)
		return r;
	r = worker_verify_piece(w, item, buffer, e);
	disk_writer_return(w->writer, buffer);
	return r;
}

/* ---- threads ---------------------------------------------------------------------------------- */

static int worker_loop(struct worker *w, struct err *e)
{
	struct restore *rs = w->rs;
	struct restore_item item;
	int r;

	while (!atomic_load(&rs->stop)) {
		if (cancel_raised(rs->job->cancel))
			return err_set(e, -ECANCELED, "interrupted");
		r = restore_plan_next(rs->job->plan, &item, e);
		if (r <= 0)
			return r;
		r = rs->verifying ? worker_verify(w, &item, e) : worker_write(w, &item, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct restore *rs = w->rs;
	struct err e = { 0 };

	if (worker_loop(w, &e) < 0)
		restore_fail(rs, &e);
	/* also after an error: nothing may be on its way when the descriptors are closed */
	if (disk_writer_drain(w->writer, &e) < 0)
		restore_fail(rs, &e);
	pthread_mutex_lock(&rs->lock);
	rs->running--;
	pthread_cond_signal(&rs->ended);
	pthread_mutex_unlock(&rs->lock);
	return NULL;
}

static int worker_init(struct worker *w, struct restore *rs, unsigned int depth)
{
	const struct target *t = rs->job->target;
	size_t frame_max = image_reader_frame_max(rs->job->reader);
	struct disk_writer_options o = {
		.fd = t->fd,
		.direct_fd = t->direct_fd,
		.align = t->align,
		.size = image_reader_manifest(rs->job->reader)->chunk_size,
		.depth = depth,
	};
	int r;

	w->rs = rs;
	w->buffer_len = o.size;
	w->frame = malloc(MAX(frame_max, (size_t)1));
	if (!w->frame)
		return -ENOMEM;
	r = codec_new(CODEC_LEVEL_DEFAULT, &w->codec);
	if (r < 0)
		return r;
	return disk_writer_new(&o, &w->writer);
}

static int restore_init(struct restore *rs, const struct restore_job *j, struct err *e)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int n = j->threads ? j->threads : (unsigned int)MAX(cpus, 1L);
	pthread_condattr_t attr;
	int r;

	rs->job = j;
	pthread_mutex_init(&rs->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&rs->ended, &attr);
	pthread_condattr_destroy(&attr);
	n = MIN(n, THREADS_MAX);
	rs->workers = calloc(n, sizeof(*rs->workers));
	if (!rs->workers)
		return err_oom(e);
	for (rs->n_workers = 0; rs->n_workers < n;) {
		r = worker_init(&rs->workers[rs->n_workers++], rs, MAX(DEPTH_TOTAL / n, DEPTH_MIN));
		if (r < 0)
			return err_set_errno(e, r, "making the buffers of %u threads", n);
	}
	return 0;
}

static void restore_done(struct restore *rs)
{
	for (unsigned int i = 0; i < rs->n_workers; i++) {
		disk_writer_free(rs->workers[i].writer);
		codec_free(rs->workers[i].codec);
		free(rs->workers[i].frame);
	}
	free(rs->workers);
	free(rs->damages);
	pthread_cond_destroy(&rs->ended);
	pthread_mutex_destroy(&rs->lock);
}

static void restore_tick(const struct restore *rs)
{
	const struct restore_job *j = rs->job;

	if (j->tick) {
		j->tick(j->ctx, rs->verifying ? "verify" : "write",
			atomic_load(rs->verifying ? &rs->read_back : &rs->done), rs->total);
	}
}

static void restore_wait(struct restore *rs)
{
	struct timespec until;

	pthread_mutex_lock(&rs->lock);
	while (rs->running) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += TICK_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_cond_timedwait(&rs->ended, &rs->lock, &until);
		pthread_mutex_unlock(&rs->lock);
		restore_tick(rs);
		pthread_mutex_lock(&rs->lock);
	}
	pthread_mutex_unlock(&rs->lock);
}

/* One part of the plan, written or read back, and on the medium at the end. */
static int restore_pass(struct restore *rs, enum restore_part part, bool verify, struct err *e)
{
	unsigned int n = part == RESTORE_BODY ? rs->n_workers : 1, begun;
	int r = 0;

	rs->verifying = verify;
	/* what is read back is read from the target */
	restore_plan_begin(rs->job->plan, part, verify ? RESTORE_AS_ON_DISK : RESTORE_AS_STORED);
	if (verify)
		target_drop_cache(rs->job->target);
	for (begun = 0; begun < n && r == 0; begun += r == 0) {
		pthread_mutex_lock(&rs->lock);
		rs->running++;
		pthread_mutex_unlock(&rs->lock);
		r = -pthread_create(&rs->workers[begun].thread, NULL, worker_main,
				    &rs->workers[begun]);
	}
	if (r < 0) {
		struct err failed;

		pthread_mutex_lock(&rs->lock);
		rs->running--;
		pthread_mutex_unlock(&rs->lock);
		/* fewer threads than wished for will do */
		if (!begun) {
			err_set_errno(&failed, r, "starting a thread");
			restore_fail(rs, &failed);
		}
	}
	restore_wait(rs);
	for (unsigned int i = 0; i < begun; i++)
		pthread_join(rs->workers[i].thread, NULL);
	if (rs->first.code)
		return err_set(e, rs->first.code, "%s", rs->first.text);
	return verify ? 0 : target_flush(rs->job->target, e);
}

/* ---- the whole ---------------------------------------------------------------------------------- */

static int restore_zero_edges(const struct restore *rs, struct err *e)
{
	struct target *t = rs->job->target;
	uint64_t size = restore_plan_size(rs->job->plan);
	const uint64_t ends[] = { MIN(size, RESTORE_EDGE), size, t->size };
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		uint64_t start = ends[i] > RESTORE_EDGE ? ends[i] - RESTORE_EDGE : 0;

		r = target_zero(t, start, ends[i] - start, e);
		if (r < 0)
			return r;
	}
	return target_flush(t, e);
}

static int restore_discard_behind(struct restore *rs, struct err *e)
{
	struct target *t = rs->job->target;
	uint64_t at = restore_plan_size(rs->job->plan);
	uint64_t end = t->size > RESTORE_EDGE ? t->size - RESTORE_EDGE : 0;
	int r;

	while (!rs->job->no_discard && at < end) {
		uint64_t n = MIN(end - at, DISCARD_PIECE);

		r = target_discard(t, at, n, e);
		if (r < 0)
			return r;
		if (r > 0)
			atomic_fetch_add(&rs->discarded, n);
		at += n;
	}
	return 0;
}

/* It cannot be more than tried: whoever asked hears of the first error anyhow. */
static void restore_behead(struct restore *rs)
{
	struct err e = { 0 };

	/* what was empty is so no more */
	rs->job->target->fresh = false;
	(void)restore_zero_edges(rs, &e);
}

static int restore_passes(struct restore *rs, struct restore_result *ret, struct err *e)
{
	static const struct {
		enum restore_part part;
		bool verify;
	} passes[] = {
		{ RESTORE_BODY, false },  { RESTORE_TAIL, false }, { RESTORE_BODY, true },
		{ RESTORE_TAIL, true },	  { RESTORE_HEAD, false }, { RESTORE_HEAD, true },
		{ RESTORE_FIRST, false }, { RESTORE_FIRST, true },
	};
	const struct restore_job *j = rs->job;
	int r;

	ret->touched = true;
	r = target_begin(j->target, restore_plan_size(j->plan), e);
	if (r >= 0)
		r = restore_zero_edges(rs, e);
	if (r >= 0)
		r = restore_discard_behind(rs, e);
	for (size_t i = 0; i < ARRAY_SIZE(passes) && r >= 0; i++) {
		if (passes[i].verify && !j->verify)
			continue;
		r = restore_pass(rs, passes[i].part, passes[i].verify, e);
		if (r < 0 && (passes[i].part == RESTORE_HEAD || passes[i].part == RESTORE_FIRST))
			restore_behead(rs);
	}
	return r;
}

int restore_run(const struct restore_job *j, struct restore_result *ret, struct err *e)
{
	struct restore rs = { 0 };
	int r;

	*ret = (struct restore_result){ 0 };
	rs.total = restore_plan_total(j->plan, RESTORE_DATA) +
		   restore_plan_total(j->plan, RESTORE_ZERO) +
		   restore_plan_total(j->plan, RESTORE_BAD);
	target_require_unit(j->target, restore_plan_unit(j->plan));
	r = restore_init(&rs, j, e);
	if (r >= 0)
		r = restore_passes(&rs, ret, e);
	ret->written = atomic_load(&rs.written);
	ret->zeroed = atomic_load(&rs.zeroed);
	ret->discarded = atomic_load(&rs.discarded);
	ret->bad = atomic_load(&rs.bad);
	ret->verified = atomic_load(&rs.verified);
	ret->damages = TAKE_PTR(rs.damages);
	ret->n_damages = rs.n_damages;
	restore_done(&rs);
	return r;
}

void restore_result_done(struct restore_result *r)
{
	free(r->damages);
	*r = (struct restore_result){ 0 };
}
