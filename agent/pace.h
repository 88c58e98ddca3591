/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pace - the processor while file systems stand still.
 *
 * Whoever holds a file system frozen should not queue for a processor behind those that do not: the thread that
 * freezes has a real-time priority, the lowest, until it has thawed. On a machine with more to do than
 * processors this is most of the frozen time.
 *
 * XFS needs more. The end of its FIFREEZE writes the superblock and waits for the kernel's thread of that file
 * system (xfsaild/NAME) to have pushed it out. That thread wakes up by itself when the superblock is logged,
 * finds that it need not do anything yet, and lies down for 50 ms; a request that arrives before it sleeps is
 * lost (Linux 6.18: in 10 of 1200 freezes of an idle disk; in none of 1200 on one processor). Two threads with the
 * same real-time priority on the same processor run one after the other, so the request comes either before it
 * looks or when it sleeps. pace_join() makes it so for the time of one FIFREEZE.
 *
 * All of this may be denied (CAP_SYS_NICE, real-time groups); then it takes longer and nothing else.
 */
#pragma once

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

/* A thread's place: which processors, in which manner. */
struct pace_place {
	int policy, priority;
	cpu_set_t processors;
};

/*
 * A kernel thread that was moved, and where it was before. Shared with the guardian, which puts it back when
 * we die.
 */
struct pace_pusher {
	atomic_int pid; /* 0: none is moved */
	struct pace_place was;
};

/* The thread that empties the log of the XFS on @device, or 0. Reads /proc; blocks shortly. */
pid_t pace_find_pusher(dev_t device);

/* The calling thread goes before all others until pace_relax(). @ret_was is where it was. False: denied. */
bool pace_hurry(struct pace_place *ret_was);
void pace_relax(const struct pace_place *was);

/*
 * Put @pid and the calling thread, which is in a hurry, on one processor. False: not done, *slot is unused. One
 * pair at a time in a process: others do without.
 */
bool pace_join(struct pace_pusher *slot, pid_t pid);
/* Both back to where they were. For the calling thread of pace_join(). */
void pace_part(struct pace_pusher *slot);
/* Only the kernel thread, if one is moved; by the guardian. */
void pace_put_back(struct pace_pusher *slot);
