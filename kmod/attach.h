/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * attach.h - one attached disk. The states, the invariants and who may do what are at the head of
 * attach.c; uapi.h says the same as seen from outside.
 */
#ifndef AMBRO_ATTACH_H
#define AMBRO_ATTACH_H

#include <linux/atomic.h>
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/wait.h>

#include "compat.h"
#include "uapi.h"

/* Counters since ATTACH, one set per CPU. Incremented with this_cpu_inc() in any context. */
struct tally {
	u64 redirected;
	u64 done;
	u64 errors;
	u64 discards;
	u64 passed_by;
	u64 missed;
};

struct attachment {
	/* Set before it is published, then constant. */
	unsigned int id;
	struct compat_opened target; /* the disk, opened read-only and not exclusively */
	struct gendisk *disk;	     /* of target */
	sector_t sectors;
	dev_t dev, front_dev, back_dev;
	struct gendisk *front;
	struct gendisk *back;
	struct bio_set front_clones;
	struct bio_set back_clones; /* its address in bi_pool marks the bios that the hook skips */
	struct tally __percpu *tally;

	struct hlist_node hooked; /* RCU; changed under attach_lock */
	struct kref kref;

	/* Live while ON. Holds one count for each bio on its way through front. */
	struct percpu_ref in_flight;
	wait_queue_head_t drained;
	atomic_t back_users; /* -1: no more */

	struct bio *witness; /* of the self-test; compared by the hook, never followed */
	bool witnessed;	     /* the hook saw it */

	struct mutex lock;	/* serialises ARM, ON, OFF, DISARM, DETACH and the owner's death */
	enum ambro_state state; /* under lock, except DRAINING -> ARMED: attachment_drained() */
	struct file *owner;	/* under lock; compared, never followed */
	bool detached;		/* under lock */
	struct compat_opened armed; /* under lock; constant while ON or DRAINING */
	dev_t armed_dev;	    /* under lock; 0 when not armed */
};

/*
 * All of these may sleep, and return 0 or a negative errno. @file is the control file that asks;
 * the flags and reserved fields were checked by the caller.
 */
int attachment_attach(struct file *file, struct ambro_attach *arg);
int attachment_arm(struct file *file, const struct ambro_arm *arg);
int attachment_on(struct file *file, u32 id);
int attachment_off(struct file *file, u32 id);
int attachment_disarm(struct file *file, u32 id);
int attachment_detach(struct file *file, u32 id);
int attachment_query(struct file *file, struct ambro_query *arg);

/* @file is being closed: whatever it owns is switched off, without waiting for it to drain. */
void attachments_disown(struct file *file);

#endif
