/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * read_threads - a read queue by threads that each call pread().
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/ioprio.h>

#include "agent/read_queue.h"

/* Each has one read under way; a thread beyond that gains nothing that its stack is worth. */
#define THREADS 16u
/* They call pread() and nothing else. */
#define STACK_BYTES (64u << 10)

struct read_job {
	unsigned int number;
	void *buffer;
	uint32_t length;
	uint64_t offset;
	uint16_t priority;
};

struct read_threads {
	struct read_queue base;
	int fd;
	pthread_t threads[THREADS];
	unsigned int n_threads;

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t work, finished;
	struct read_job jobs[READ_QUEUE_DEPTH]; /* a ring */
	unsigned int first_job, n_jobs;
	struct read_done done[READ_QUEUE_DEPTH];
	unsigned int n_done;
	bool ended;
};

static struct read_threads *threads_of(struct read_queue *q)
{
	return (struct read_threads *)q; /* base is first */
}

/* Of this thread alone; what it may not do it does at the priority that it has. */
static void job_priority(const struct read_job *job, uint16_t *mine)
{
	if (*mine == job->priority)
		return;
	syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, job->priority);
	*mine = job->priority;
}

static int job_read(int fd, const struct read_job *job)
{
	ssize_t n;

	do {
		n = pread(fd, job->buffer, job->length, (off_t)job->offset);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (int)n;
}

static void *threads_main(void *arg)
{
	struct read_threads *t = arg;
	uint16_t priority = 0;

	pthread_mutex_lock(&t->lock);
	for (;;) {
		struct read_job job;
		int result;

		while (!t->n_jobs && !t->ended)
			pthread_cond_wait(&t->work, &t->lock);
		if (!t->n_jobs)
			break;
		job = t->jobs[t->first_job];
		t->first_job = (t->first_job + 1) % READ_QUEUE_DEPTH;
		t->n_jobs--;
		pthread_mutex_unlock(&t->lock);
		job_priority(&job, &priority);
		result = job_read(t->fd, &job);
		pthread_mutex_lock(&t->lock);
		t->done[t->n_done++] = (struct read_done){ job.number, result };
		pthread_cond_signal(&t->finished);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static void threads_start(struct read_queue *q, unsigned int number, void *buffer, uint32_t length,
			  uint64_t offset)
{
	struct read_threads *t = threads_of(q);

	pthread_mutex_lock(&t->lock);
	t->jobs[(t->first_job + t->n_jobs++) % READ_QUEUE_DEPTH] =
		(struct read_job){ number, buffer, length, offset, q->priority };
	pthread_cond_signal(&t->work);
	pthread_mutex_unlock(&t->lock);
}

static int threads_reap(struct read_queue *q, bool wait, struct read_done *ret)
{
	struct read_threads *t = threads_of(q);
	unsigned int n;

	pthread_mutex_lock(&t->lock);
	while (wait && !t->n_done)
		pthread_cond_wait(&t->finished, &t->lock);
	n = t->n_done;
	for (unsigned int i = 0; i < n; i++)
		ret[i] = t->done[i];
	t->n_done = 0;
	pthread_mutex_unlock(&t->lock);
	return (int)n;
}

static void threads_free(struct read_queue *q)
{
	struct read_threads *t = threads_of(q);

	pthread_mutex_lock(&t->lock);
	t->ended = true;
	pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->lock);
	while (t->n_threads > 0)
		pthread_join(t->threads[--t->n_threads], NULL);
	pthread_cond_destroy(&t->finished);
	pthread_cond_destroy(&t->work);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static const struct read_queue_ops threads_ops = {
	.name = "threads",
	.start = threads_start,
	.reap = threads_reap,
	.free = threads_free,
};

int read_threads_new(const struct read_queue_settings *settings, struct read_queue **ret)
{
	struct read_threads *t = calloc(1, sizeof(*t));
	pthread_attr_t attributes;
	int r = 0;

	if (!t)
		return -ENOMEM;
	t->base.ops = &threads_ops;
	t->fd = settings->fd;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work, NULL);
	pthread_cond_init(&t->finished, NULL);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	while (t->n_threads < THREADS && r == 0) {
		r = -pthread_create(&t->threads[t->n_threads], &attributes, threads_main, t);
		t->n_threads += r == 0;
	}
	pthread_attr_destroy(&attributes);
	/* where a limit allows only a few, a few will do */
	if (t->n_threads == 0) {
		threads_free(&t->base);
		return r;
	}
	*ret = &t->base;
	return 0;
}
