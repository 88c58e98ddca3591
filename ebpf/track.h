/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * track - what the tracking programs and the agent share: small memories beside the array of eras.
 *
 * Each has one writer side, so none needs a lock: `control` and `stamps` are written by user space
 * only, `report` by the programs only. All are mapped by user space and pinned. Change a structure
 * here: raise TRACK_VERSION, so that pins made by an older agent are not taken up.
 */
#pragma once

#include <linux/types.h>

#define TRACK_MAGIC   0x6b727441 /* "Atrk" */
#define TRACK_VERSION 4

/*
 * Eras per entry of the array map: a map's values are rounded up to 8 bytes, so they come in pages.
 */
#define TRACK_PAGE_SHIFT 10
#define TRACK_PAGE_ERAS	 (1 << TRACK_PAGE_SHIFT)

/* So many images of one disk are known at a time; a new one takes the oldest one's place. */
#define TRACK_STAMPS 4096

/* Programs; the order of control.program_id and control.misses */
enum track_hook {
	TRACK_BIO_QUEUE,
	TRACK_RQ_ISSUE,	    /* blk-mq disks */
	TRACK_RQ_COMPLETE,  /* blk-mq disks */
	TRACK_BIO_COMPLETE, /* the others: device-mapper, md, zram */
	TRACK_HOOKS,
};

/* Why "unchanged" cannot be believed any more. One memory cell each: no read-modify-write races. */
enum track_reason {
	/* seen by the programs */
	TRACK_BEYOND_END,      /* a write behind the size that the map was made for */
	TRACK_PASSTHROUGH,     /* a command with data out that names no sectors to us */
	TRACK_STRANGE_OP,      /* zone commands, and operations newer than this program */
	TRACK_INFLIGHT_FULL,   /* no room to remember a write until its completion */
	TRACK_LOST_COMPLETION, /* a bio came again that we never saw complete */
	TRACK_LONG_CHAIN,      /* a discard of more ranges than can be walked */
	TRACK_UNMARKED,	       /* a range could not be marked to its end */
	/* seen by user space */
	TRACK_MISSED_EVENTS, /* the kernel skipped a program that was already running on that CPU */
	TRACK_RESIZED,
	TRACK_REPLACED,	 /* another disk under the same number */
	TRACK_DAX,	 /* stores reach the medium without any bio */
	TRACK_RETARGETS, /* the disk passes bios on as they are: their completion is not seen */
	TRACK_UNSEEN,	 /* something had changed on the disk that no mark tells of */
	TRACK_REASONS,
};

struct track_control {
	__u32 magic;
	__u32 version;
	__u8 boot_id[16];
	__u8 id[16]; /* random: of this tracker, and of none before or after it */
	__u32 disk;  /* as the kernel writes it: major << 20 | minor */
	__u32 granule_shift;
	__u64 disk_sequence; /* 0 before Linux 5.15 */
	__u64 size;	     /* of the disk, bytes */
	__u32 era;	     /* that marks carry from now on */
	__u32 hooks;	     /* bit n: enum track_hook n is attached */
	__u32 program_id[TRACK_HOOKS];
	__u64 misses[TRACK_HOOKS]; /* recursion_misses of each program when tracking began */
	__u64 doubt[TRACK_REASONS];
	__u32 stamps; /* made so far, modulo 2^32: the next one's place, modulo TRACK_STAMPS */
	__u32 reserved;
};

/* An entry of the array map `stamps`: of a complete image (T5 of agent/tracker.h). */
struct track_stamp {
	__u32 era; /* 0: none, or being written */
	__u32 reserved;
	__u8 nonce[16];
};

struct track_report {
	/*
	 * Era in which a write completed on a bio-based disk that had been submitted before
	 * tracking began: nobody knows where it went, so the whole disk counts as written in that
	 * era.
	 */
	__u32 stranger_era;
	__u32 reserved;
	__u64 doubt[TRACK_REASONS]; /* how often */
};
