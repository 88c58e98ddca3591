/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * job - one capture: what was asked, how far it is, how it ended. Knows nothing of D-Bus or the loop.
 *
 *	  job_new() ──► RUNNING ──► DONE | FAILED | CANCELED
 *			job_run()   job_end()
 *
 * job_run() belongs to a thread of its own; everything else to the loop's. While the thread runs they share
 * only `status` (atomics) and `cancel`; `result` and `err` are the thread's until it was joined.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "agent/capture.h"
#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/base/newfile.h"

enum job_state {
	JOB_RUNNING,
	JOB_DONE,
	JOB_FAILED,
	JOB_CANCELED,
};

#define JOB_SAMPLES 16

struct job {
	TAILQ_ENTRY(job) link;
	uint64_t id;
	char name[24];	/* the id in decimal */
	uint64_t owner; /* connection that it ends with; 0: none */
	uid_t uid;	/* who asked */
	enum job_state state;
	uint64_t started_ns, ended_ns; /* CLOCK_MONOTONIC */

	struct capture_request request; /* source and descriptors owned here */
	struct newfile *file; /* behind output_fd when it is the agent's own file, or NULL */
	struct capture_status status;
	struct cancel cancel;
	int result;
	struct err err; /* words once ended, if it failed */

	/* the loop's, by job_sample() */
	struct job_sample {
		uint64_t ns, read;
	} samples[JOB_SAMPLES];
	unsigned int n_samples;
	uint64_t rate; /* bytes read per second over the samples */
	int seen_phase;
	uint64_t seen_sum;
};
TAILQ_HEAD(job_list, job);

/*
 * A job for @request, whose source is copied and whose parent_fd and output_fd are taken over (also on failure; the latter when
 * @file is NULL). With @file, which is taken over too, the output is its descriptor and it is published
 * at the end. Returns 0 or a negative errno.
 */
int job_new(const struct capture_request *request, struct newfile *file, struct job **ret);
/* Not while its thread runs. */
void job_free(struct job *j);
DEFINE_CLEANUP(struct job, job_free);

/* In its thread: capture, publish, close the output. */
void job_run(struct job *j);
/* In the loop's, after the thread was joined. */
void job_end(struct job *j);

/* Take a sample of the status. */
enum job_news {
	JOB_NEWS_NONE,
	JOB_NEWS_PROGRESS, /* numbers have changed */
	JOB_NEWS_PHASE,	   /* and so has the phase */
};
enum job_news job_sample(struct job *j);

const char *job_state_name(enum job_state s); /* "running", "done", "failed", "canceled" */
