/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tracker - which granules of a disk were written, and when: eras, not bits.
 *
 * A tracked disk has a BPF array of one u32 per granule: the era in which it was last written (0: not
 * since tracking began). The programs (ebpf/track.bpf.c), their links, the array and a header are pinned
 * under /sys/fs/bpf/ambro/<disk>/, so tracking goes on without any process of ours.
 *
 * What holds (numbers are used in tracker*.c, track.bpf.c and in the tests):
 *  T1. Every write, discard, write-zeroes, secure erase to the disk or to a partition of it is marked at
 *      its submission and again at its completion. Zone commands raise doubt instead.
 *  T2. tracker_open_era() returns only after every mark that may still carry an older era is visible (an
 *      RCU grace period). A mark may be overwritten by an older era only inside that call, and only by a
 *      write that was submitted before it returned. In two halves it is one call from the beginning of
 *      tracker_begin_era() to the end of tracker_settle_era(). A write whose data was not yet
 *      on the medium when the first half began has a mark of the new era, or one that was overwritten so.
 *  T3. Hence: let B = tracker_open_era() at some time, then s = tracker_scan(since A) with A < B, then read
 *      the granules in s. Whatever is not in tracker_scan(since B) afterwards has, in what was read, all
 *      writes completed up to that second scan.
 *  T4. Anything that could have been missed raises `unknown`, which never goes away for that
 *      tracker: tracker_doubt() says why, and its owner must re-read everything.
 *  T5. A machine can be taken back to an earlier state of its memory: a virtual one that is reverted to a
 *      snapshot. Boot id, id and marks are what they were then, and eras go on from there, so they are
 *      given out a second time. Hence stamps: if tracker_stamped() knows one, this memory has lived through
 *      the tracker_stamp() that gave it, and its marks tell of all that was written from then on, and of
 *      all that had been written by then.
 *
 *      What no tracepoint can tell: a passthrough command that changes the medium without sending data to
 *      it (FORMAT UNIT, NVMe Write Zeroes by ioctl), and stores through DAX, so a disk that offers DAX
 *      is doubted from the start. So is one that passes bios on unchanged (NVMe's multipath head). Nor what was
 *      written while this kernel slept: hibernated, or saved and resumed with another state of the disk.
 *
 * Identity: a pin is reused only if boot id, disk number, disk sequence number, size, and granule agree
 * and every program is still attached; otherwise it is removed and tracking starts anew.
 *
 * Needs Linux 5.17 (bpf_loop), BTF, CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN. A bpffs that an agent mounts in a
 * mount namespace of its own goes with it, and so does tracking: the system should mount it. Calls may block shortly; not thread-safe per tracker.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/base/extent.h"

#define TRACKER_STAMPS	   4096 /* the latest so many are known */
#define TRACKER_STAMP_SIZE 16

struct tracker;

/*
 * Track the whole disk @disk (a gendisk's number, never a partition's), or take up the pinned tracker.
 * Mounts a bpffs on /sys/fs/bpf when there is none. -ENOTSUP with words when the kernel has no BTF, no BPF
 * or locks it down.
 */
int tracker_open(dev_t disk, struct tracker **ret, struct err *e);
/* The same, and a tracker in doubt, which is worth nothing to anybody, is replaced by a new one. */
int tracker_open_sure(dev_t disk, struct tracker **ret, struct err *e);
/* Lets go of this process's handles; tracking goes on. Accepts NULL. */
void tracker_free(struct tracker *t);
DEFINE_CLEANUP(struct tracker, tracker_free);
/* End tracking of @disk: detach and unpin. 0 also when there was none. */
int tracker_remove(dev_t disk, struct err *e);

/*
 * End tracking of disks that are no longer there (their numbers have no device any more). Best effort; for
 * the agent's start.
 */
void tracker_prune(void);

/* Era that marks made from now on carry; starts at 1. Lock-free. */
uint32_t tracker_era(const struct tracker *t);
/*
 * Begin the next era (T2). Never allocates, so it may be called while a file system is frozen; waits for one
 * RCU grace period: 5 ms to tens of ms, or 0.02 ms while /sys/kernel/rcu_expedited is 1.
 */
int tracker_open_era(struct tracker *t, uint32_t *ret_era, struct err *e);
/*
 * The same in two halves, for who can do something else in between: the first does not wait. Not before the second may
 * anything be concluded from the era, or be read for what is to be whole by T3.
 */
int tracker_begin_era(struct tracker *t, uint32_t *ret_era, struct err *e);
int tracker_settle_era(struct tracker *t, struct err *e);
/*
 * Add to @ret (normalised afterwards; bytes of the disk) every granule whose era is >= @since. The
 * last granule is cut at the disk's end. Fails only for lack of memory.
 */
int tracker_scan(const struct tracker *t, uint32_t since, struct extent_set *ret);
/* The same while a file system is frozen: never allocates; -ENOBUFS when there is no room in @ret. */
int tracker_scan_fixed(const struct tracker *t, uint32_t since, struct extent_set *ret);
/*
 * Does any granule that overlaps [start, start + length) have an era >= @since? Never allocates.
 */
bool tracker_touched(const struct tracker *t, uint32_t since, uint64_t start, uint64_t length);

/* Of this tracker and no other, for as long as it is pinned. 16 bytes each, owned by the tracker. */
const uint8_t *tracker_id(const struct tracker *t);
const uint8_t *tracker_boot_id(const struct tracker *t);

/*
 * T5: a random name of something that is complete by now and refers to @era, for tracker_stamped() later. Of 128 bits,
 * no two alike, even if the kernel's random numbers were taken back with its memory: the time of day is in it. Known
 * for TRACKER_STAMPS - 1 further ones, to other processes too. Never allocates. 0 or a negative errno.
 */
int tracker_stamp(struct tracker *t, uint32_t era, uint8_t ret[TRACKER_STAMP_SIZE], struct err *e);
/* Was @stamp made for @era, in what this memory has lived through? */
bool tracker_stamped(const struct tracker *t, uint32_t era,
		     const uint8_t stamp[TRACKER_STAMP_SIZE]);

/* A write was found that it had not marked: raise doubt, for everyone who uses it, for ever. */
void tracker_distrust(struct tracker *t);
/* Can "unchanged" be believed? Fills @ret_why (may be NULL) when not. Cheap; call it at every scan. */
bool tracker_doubt(struct tracker *t, struct err *ret_why);
uint64_t tracker_size(const struct tracker *t);		     /* of the disk, bytes */
unsigned int tracker_granule_shift(const struct tracker *t); /* log2 of bytes */
bool tracker_resumed(const struct tracker *t);		     /* taken up from a pin */
