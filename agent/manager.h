/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * manager - the one object that owns the loop, the jobs and the limits.
 *
 * All of it runs in the loop's thread and never blocks: what may take long is a task (agent/task.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <systemd/sd-event.h>

#include "agent/job.h"
#include "agent/task.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"

/* Two disks at a time keep most machines busy; more only makes all of them slower. */
#define MANAGER_MAX_JOBS 4u
/* Ended jobs that can still be looked at. */
#define MANAGER_MAX_ENDED 16u
/* Lists and the like that are being worked on, jobs included. */
#define MANAGER_MAX_TASKS 16u

/* Whoever tells the world. Called from the loop. */
struct manager_listener {
	void (*job_progress)(struct job *j, void *userdata);
	void (*job_phase)(struct job *j, void *userdata);
	void (*job_ended)(struct job *j, void *userdata);
	void *userdata;
};

struct manager {
	sd_event *event;
	struct task_pool tasks;
	struct job_list jobs; /* oldest first */
	unsigned int n_running, n_ended;
	uint64_t last_job;
	sd_event_source *ticker; /* while jobs run */
	bool stopping;
	struct manager_listener listener;
};

/* The calling thread's loop; SIGTERM and SIGINT, which must be blocked, stop it. */
int manager_new(struct manager **ret);
void manager_free(struct manager *m);
DEFINE_CLEANUP(struct manager, manager_free);
/* Until a signal; returns when every job was cancelled and every thread joined. */
int manager_run(struct manager *m);

/* Is there room for another job (or task)? -EAGAIN and the reason, or -ESHUTDOWN. */
int manager_admit_job(const struct manager *m, struct err *e);
int manager_admit_task(const struct manager *m, struct err *e);
/* Takes over @j. On failure it is freed. */
int manager_start_job(struct manager *m, struct job *j);
/* Cancel what was started by the connection @owner. */
void manager_cancel_owned(struct manager *m, uint64_t owner);
