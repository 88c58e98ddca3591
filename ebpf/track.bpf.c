// SPDX-License-Identifier: GPL-2.0-only
/*
 * track - mark the granules of one disk that are written (T1 of agent/tracker.h).
 *
 * One instance of this object is loaded per disk. It is attached to tracepoints by BTF: unlike
 * fentry they are allowed under kernel lockdown, need no kprobes, and give typed pointers that are
 * read without bpf_probe_read_kernel(), which a "confidential" lockdown refuses.
 *
 * Where a write is seen:
 *  - block_bio_queue: once per bio on whatever disk it is submitted to, before merging and
 *    splitting. The sector is already absolute on the whole disk although bi_bdev is still the
 *    partition.
 *  - block_rq_complete: when a blk-mq disk has finished (a part of) a request, before the submitter
 *    hears of it.
 *  - block_bio_complete: the same for disks without requests. blk-mq disks never get there, because
 *    the block layer clears the flag that this tracepoint depends on. The bio's iterator has been
 *    advanced by then, so the range is remembered from its submission.
 * The status of a write is of no interest: a failed one may have reached the medium in part.
 *
 * A mark is "if lower, store": no atomics, and a granule that is written again and again in one era
 * dirties no cache line. See T2 and T3 of agent/tracker.c for why the race in it is harmless.
 */
#include "ebpf/track.h"

#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

/* Only the members that are read; CO-RE finds where the running kernel keeps them. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct block_device;

struct gendisk {
	struct block_device *part0;
};

struct block_device {
	struct gendisk *bd_disk;
	__u32 bd_dev;
};

struct bvec_iter {
	__u64 bi_sector;
	__u32 bi_size;
};

struct bio {
	struct bio *bi_next;
	struct block_device *bi_bdev;
	__u32 bi_opf;
	struct bvec_iter bi_iter;
	void *bi_private;
};

struct request_queue {
	struct gendisk *disk;
};

struct request {
	struct request_queue *q;
	__u32 cmd_flags;
	__u64 __sector;
	struct bio *bio;
};

#pragma clang attribute pop

/*
 * `enum req_opf` before Linux 6.0; these values never changed, so they serve there as they stand
 * here
 */
enum req_op {
	REQ_OP_READ = 0,
	REQ_OP_WRITE = 1,
	REQ_OP_FLUSH = 2,
	REQ_OP_DISCARD = 3,
	REQ_OP_SECURE_ERASE = 5,
	REQ_OP_WRITE_ZEROES = 9,
};

#define OP(name)                                                                                \
	(bpf_core_enum_value_exists(enum req_op, name) ? bpf_core_enum_value(enum req_op, name) \
						       : (name))

#define OP_MASK		  0xff
#define OP_PASSTHROUGH	  32  /* this and above: driver commands; odd ones send data */
#define DISCARD_BIOS_MAX  256 /* no driver takes more ranges in one request */
#define INFLIGHT_BIOS_MAX 65536

const volatile __u32 disk_number;   /* major << 20 | minor */
const volatile __u64 disk_sectors;  /* of 512 bytes */
const volatile __u32 granule_shift; /* of sectors, not bytes */
const volatile __u32 era_pages;	    /* entries of `eras` that hold granules */
const volatile bool bio_based;

SEC(".data.control") volatile struct track_control control;
SEC(".data.report") volatile struct track_report report;

struct era_page {
	__u32 era[TRACK_PAGE_ERAS];
};

/*
 * One era per granule, in pages; behind these, again in pages, one era per page: the latest in it. So that
 * who looks for what was written lately need not look through 16 MiB for each TiB of disk.
 */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* the loader makes it as many as the disk needs */
	__type(key, __u32);
	__type(value, struct era_page);
} eras SEC(".maps");

/* For user space alone, which finds it where all the rest is. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TRACK_STAMPS);
	__type(key, __u32);
	__type(value, struct track_stamp);
} stamps SEC(".maps");

struct range {
	__u64 sector;
	__u64 count;
};

/* Writes between submission and completion, by the address of their bio; bio-based disks only. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, INFLIGHT_BIOS_MAX);
	__type(key, __u64);
	__type(value, struct range);
} inflight SEC(".maps");

static __always_inline void doubt(enum track_reason reason)
{
	__sync_fetch_and_add(&report.doubt[reason], 1);
}

static __always_inline void cell_mark(__u64 n, __u32 key, __u32 era)
{
	struct era_page *page = bpf_map_lookup_elem(&eras, &key);
	volatile __u32 *cell;

	if (!page) {
		doubt(TRACK_UNMARKED);
		return;
	}
	cell = &page->era[n & (TRACK_PAGE_ERAS - 1)];
	if (*cell < era)
		*cell = era;
}

/* The page's era second, and also when the granule's need not be raised: another program may have lowered it. */
static __always_inline void granule_mark(__u64 granule, __u32 era)
{
	__u32 page = granule >> TRACK_PAGE_SHIFT;

	cell_mark(granule, page, era);
	cell_mark(page, era_pages + (page >> TRACK_PAGE_SHIFT), era);
}

struct run {
	__u64 first;
	__u32 era;
};

static long run_mark_one(__u32 i, struct run *run)
{
	granule_mark(run->first + i, run->era);
	return 0;
}

/* A bio carries less than 4 GiB, so a run has at most 16385 granules. */
static __noinline int range_mark(__u64 sector, __u64 count)
{
	__u64 end = sector + count;
	__u64 first, last;
	struct run run;
	long n;

	if (!count)
		return 0;
	if (end > disk_sectors || end < sector) {
		doubt(TRACK_BEYOND_END);
		if (sector >= disk_sectors)
			return 0;
		end = disk_sectors;
	}
	first = sector >> granule_shift;
	last = (end - 1) >> granule_shift;
	run.era = control.era;
	granule_mark(first, run.era);
	if (last == first)
		return 0;
	granule_mark(last, run.era);
	n = last - first - 1;
	if (n <= 0)
		return 0;
	run.first = first + 1;
	if (bpf_loop(n, run_mark_one, &run, 0) != n)
		doubt(TRACK_UNMARKED);
	return 0;
}

static __always_inline bool op_is_harmless(__u32 op)
{
	return op == REQ_OP_READ || op == REQ_OP_FLUSH;
}

static __always_inline bool op_changes_range(__u32 op)
{
	return op == REQ_OP_WRITE || op == OP(REQ_OP_DISCARD) || op == OP(REQ_OP_SECURE_ERASE) ||
	       op == OP(REQ_OP_WRITE_ZEROES);
}

static __always_inline bool bio_is_ours(struct bio *bio)
{
	return bio->bi_bdev->bd_disk->part0->bd_dev == disk_number;
}

static __always_inline bool request_is_ours(struct request *rq)
{
	return rq->q->disk->part0->bd_dev == disk_number;
}

/*
 * Empty flushes are remembered too, so that a completion which is not found here is known to be one
 * that was submitted before tracking began. A bio is queued once (the kernel flags it), so finding
 * it here already means that its last completion went by unseen.
 */
static __always_inline void inflight_add(struct bio *bio, const struct range *range)
{
	__u64 key = (__u64)bio;
	long r = bpf_map_update_elem(&inflight, &key, range, BPF_NOEXIST);

	if (r == -17 /* EEXIST */)
		doubt(TRACK_LOST_COMPLETION);
	else if (r)
		doubt(TRACK_INFLIGHT_FULL);
}

SEC("tp_btf/block_bio_queue")
int BPF_PROG(bio_queue, struct bio *bio)
{
	__u32 op = bio->bi_opf & OP_MASK;
	struct range range;

	if (op_is_harmless(op) || !bio_is_ours(bio))
		return 0;
	if (!op_changes_range(op)) {
		doubt(TRACK_STRANGE_OP);
		return 0;
	}
	range.sector = bio->bi_iter.bi_sector;
	range.count = bio->bi_iter.bi_size >> 9;
	if (bio_based)
		inflight_add(bio, &range);
	range_mark(range.sector, range.count);
	return 0;
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(rq_issue, struct request *rq)
{
	__u32 op = rq->cmd_flags & OP_MASK;

	if (op >= OP_PASSTHROUGH && (op & 1) && request_is_ours(rq))
		doubt(TRACK_PASSTHROUGH);
	return 0;
}

/*
 * Discards are merged although they are not neighbours: the request's own sector and length do not
 * tell.
 */
static __always_inline void chain_mark(struct bio *bio)
{
	for (int i = 0; i < DISCARD_BIOS_MAX && bio; i++) {
		range_mark(bio->bi_iter.bi_sector, bio->bi_iter.bi_size >> 9);
		bio = bio->bi_next;
	}
	if (bio)
		doubt(TRACK_LONG_CHAIN);
}

/* An empty flush has sector -1 and no bytes. */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(rq_complete, struct request *rq, int status, unsigned int bytes)
{
	__u32 op = rq->cmd_flags & OP_MASK;

	if (op_is_harmless(op) || !request_is_ours(rq))
		return 0;
	if (op >= OP_PASSTHROUGH) {
		if (op & 1)
			doubt(TRACK_PASSTHROUGH);
		return 0;
	}
	if (!op_changes_range(op)) {
		doubt(TRACK_STRANGE_OP);
		return 0;
	}
	range_mark(rq->__sector, bytes >> 9);
	if (op != REQ_OP_WRITE)
		chain_mark(rq->bio);
	return 0;
}

SEC("tp_btf/block_bio_complete")
int BPF_PROG(bio_complete, void *queue, struct bio *bio)
{
	__u64 key = (__u64)bio;
	__u32 op = bio->bi_opf & OP_MASK;
	struct range *range;

	if (op_is_harmless(op))
		return 0;
	range = bpf_map_lookup_elem(&inflight, &key);
	if (range) {
		range_mark(range->sector, range->count);
		bpf_map_delete_elem(&inflight, &key);
		return 0;
	}
	if (!bio_is_ours(bio))
		return 0;
	/*
	 * the front part of a bio that was split: its parent completes after it, and marks the
	 * whole
	 */
	key = (__u64)bio->bi_private;
	if (bpf_map_lookup_elem(&inflight, &key))
		return 0;
	if (report.stranger_era < control.era)
		report.stranger_era = control.era;
	return 0;
}
