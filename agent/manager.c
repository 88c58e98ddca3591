/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/manager.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <systemd/sd-daemon.h>

#include "agent/log.h"

/* 5 signals a second are smooth enough for a progress bar. */
#define MANAGER_TICK_USEC 200000u

static void manager_say_status(const struct manager *m)
{
	if (m->stopping) {
		sd_notify(false, "STATUS=stopping");
	} else if (m->n_running) {
		sd_notifyf(false, "STATUS=%u capture%s running", m->n_running,
			   m->n_running == 1 ? "" : "s");
	} else {
		sd_notify(false, "STATUS=idle");
	}
}

static int manager_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct manager *m = userdata;
	struct job *j;

	(void)s, (void)si;
	if (m->stopping)
		return 0;
	m->stopping = true;
	sd_notify(false, "STOPPING=1");
	manager_say_status(m);
	TAILQ_FOREACH(j, &m->jobs, link)
	cancel_raise(&j->cancel);
	return 0;
}

/* After every round of the loop: is there nothing left to wait for? */
static int manager_check_stopped(sd_event_source *s, void *userdata)
{
	struct manager *m = userdata;

	(void)s;
	return m->stopping && !m->tasks.running ? sd_event_exit(m->event, 0) : 0;
}

static int manager_tick(sd_event_source *s, uint64_t now, void *userdata)
{
	struct manager *m = userdata;
	struct job *j;
	int r;

	(void)now;
	TAILQ_FOREACH(j, &m->jobs, link)
	{
		enum job_news news = j->state == JOB_RUNNING ? job_sample(j) : JOB_NEWS_NONE;

		if (news == JOB_NEWS_PHASE)
			m->listener.job_phase(j, m->listener.userdata);
		if (news != JOB_NEWS_NONE)
			m->listener.job_progress(j, m->listener.userdata);
	}
	if (!m->n_running)
		return sd_event_source_set_enabled(s, SD_EVENT_OFF);
	r = sd_event_source_set_time_relative(s, MANAGER_TICK_USEC);
	return r < 0 ? r : sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

int manager_new(struct manager **ret)
{
	_cleanup_(manager_freep) struct manager *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	TAILQ_INIT(&m->jobs);
	r = sd_event_new(&m->event);
	if (r < 0)
		return r;
	m->tasks.event = m->event;
	r = sd_event_add_signal(m->event, NULL, SIGTERM, manager_signal, m);
	if (r < 0)
		return r;
	r = sd_event_add_signal(m->event, NULL, SIGINT, manager_signal, m);
	if (r < 0)
		return r;
	r = sd_event_add_post(m->event, NULL, manager_check_stopped, m);
	if (r < 0)
		return r;
	r = sd_event_add_time_relative(m->event, &m->ticker, CLOCK_MONOTONIC, MANAGER_TICK_USEC, 0,
				       manager_tick, m);
	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(m->ticker, SD_EVENT_OFF);
	if (r < 0)
		return r;
	r = sd_event_set_watchdog(m->event, true);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

void manager_free(struct manager *m)
{
	struct job *j;

	/* with threads still at work (the loop itself has failed) the process is about to end anyway */
	if (!m || m->tasks.running)
		return;
	while ((j = TAILQ_FIRST(&m->jobs))) {
		TAILQ_REMOVE(&m->jobs, j, link);
		job_free(j);
	}
	sd_event_source_disable_unref(m->ticker);
	sd_event_unref(m->event);
	free(m);
}

int manager_run(struct manager *m)
{
	sd_notify(false, "READY=1");
	manager_say_status(m);
	return sd_event_loop(m->event);
}

int manager_admit_task(const struct manager *m, struct err *e)
{
	if (m->stopping)
		return err_set(e, -ESHUTDOWN, "the agent is stopping");
	if (m->tasks.running >= MANAGER_MAX_TASKS) {
		return err_set(e, -EAGAIN, "the agent is busy with %u requests; try again later",
			       m->tasks.running);
	}
	return 0;
}

int manager_admit_job(const struct manager *m, struct err *e)
{
	if (m->n_running >= MANAGER_MAX_JOBS) {
		return err_set(e, -EAGAIN, "%u captures are running already, which is the most",
			       m->n_running);
	}
	return manager_admit_task(m, e);
}

static void manager_forget_old(struct manager *m)
{
	struct job *j, *next;

	for (j = TAILQ_FIRST(&m->jobs); j && m->n_ended > MANAGER_MAX_ENDED; j = next) {
		next = TAILQ_NEXT(j, link);
		if (j->state == JOB_RUNNING)
			continue;
		TAILQ_REMOVE(&m->jobs, j, link);
		job_free(j);
		m->n_ended--;
	}
}

static void manager_log_end(const struct job *j)
{
	static const char *const ids[] = {
		[JOB_DONE] = LOG_ID_JOB_DONE,
		[JOB_FAILED] = LOG_ID_JOB_FAILED,
		[JOB_CANCELED] = LOG_ID_JOB_CANCELED,
	};
	const char *source = j->request.source ? j->request.source : "/";
	const int strategy = atomic_load(&j->status.strategy);
	struct log_fields f = {
		.message_id = ids[j->state],
		.job = j->id,
		.source = source,
		.strategy = strategy == CAPTURE_AUTO
				    ? NULL
				    : capture_strategy_name((enum capture_strategy)strategy),
		.ended = true,
		.read = atomic_load(&j->status.read),
		.written = atomic_load(&j->status.written),
		.freeze_us = atomic_load(&j->status.freeze_us),
		.duration_ms = (j->ended_ns - j->started_ns) / 1000000,
		.error = j->state == JOB_FAILED ? j->err.text : NULL,
	};

	if (j->state == JOB_FAILED) {
		log_message(LOG_ERR, &f, "job %" PRIu64 ": capture of %s failed: %s", j->id, source,
			    j->err.text);
	} else {
		log_message(LOG_INFO, &f,
			    "job %" PRIu64 ": capture of %s %s: %" PRIu64 " bytes read, %" PRIu64
			    " written, frozen for %" PRIu64 " us",
			    j->id, source, job_state_name(j->state),
			    (uint64_t)atomic_load(&j->status.read),
			    (uint64_t)atomic_load(&j->status.written),
			    (uint64_t)atomic_load(&j->status.freeze_us));
	}
}

struct manager_run {
	struct manager *manager;
	struct job *job;
};

static void manager_job_run(void *userdata)
{
	struct manager_run *run = userdata;

	job_run(run->job);
}

static void manager_job_done(void *userdata)
{
	_cleanup_free_ struct manager_run *run = userdata;
	struct manager *m = run->manager;
	struct job *j = run->job;

	job_sample(j);
	job_end(j);
	m->n_running--;
	m->n_ended++;
	manager_log_end(j);
	m->listener.job_ended(j, m->listener.userdata);
	manager_forget_old(m);
	manager_say_status(m);
}

int manager_start_job(struct manager *m, struct job *job)
{
	_cleanup_(job_freep) struct job *j = job;
	_cleanup_free_ struct manager_run *run = malloc(sizeof(*run));
	const char *source = j->request.source ? j->request.source : "/";
	int r;

	if (!run)
		return -ENOMEM;
	*run = (struct manager_run){ m, j };
	r = sd_event_source_set_time_relative(m->ticker, MANAGER_TICK_USEC);
	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(m->ticker, SD_EVENT_ONESHOT);
	if (r < 0)
		return r;
	j->id = m->last_job + 1;
	j->request.job = j->id;
	snprintf(j->name, sizeof(j->name), "%" PRIu64, j->id);
	r = task_start(&m->tasks, manager_job_run, manager_job_done, run);
	if (r < 0)
		return r;
	m->last_job = j->id;
	m->n_running++;
	TAILQ_INSERT_TAIL(&m->jobs, j, link);
	struct log_fields f = { .message_id = LOG_ID_JOB_STARTED, .job = j->id, .source = source };
	log_message(LOG_INFO, &f, "job %" PRIu64 ": capture of %s for uid %u", j->id, source,
		    (unsigned int)j->uid);
	manager_say_status(m);
	TAKE_PTR(run);
	TAKE_PTR(j);
	return 0;
}

void manager_cancel_owned(struct manager *m, uint64_t owner)
{
	struct job *j;

	TAILQ_FOREACH(j, &m->jobs, link)
	if (owner && j->owner == owner && j->state == JOB_RUNNING)
		cancel_raise(&j->cancel);
}
