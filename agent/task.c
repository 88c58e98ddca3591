/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/task.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

struct task {
	struct task_pool *pool;
	pthread_t thread;
	int ended_fd;
	sd_event_source *source;
	void (*run)(void *userdata);
	void (*done)(void *userdata);
	void *userdata;
};

static void task_free(struct task *t)
{
	if (!t)
		return;
	sd_event_source_disable_unref(t->source);
	close_fd(t->ended_fd);
	free(t);
}
DEFINE_CLEANUP(struct task, task_free);

static void *task_thread(void *arg)
{
	struct task *t = arg;

	t->run(t->userdata);
	/* cannot fail: the counter is 0 */
	return eventfd_write(t->ended_fd, 1) < 0 ? t : NULL;
}

static int task_ended(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct task *t = userdata;
	void (*done)(void *userdata) = t->done;
	void *done_userdata = t->userdata;

	(void)s, (void)fd, (void)revents;
	pthread_join(t->thread, NULL);
	t->pool->running--;
	task_free(t);
	done(done_userdata);
	return 0;
}

int task_start(struct task_pool *pool, void (*run)(void *userdata), void (*done)(void *userdata),
	       void *userdata)
{
	_cleanup_(task_freep) struct task *t = malloc(sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	*t = (struct task){
		.pool = pool,
		.ended_fd = eventfd(0, EFD_CLOEXEC),
		.run = run,
		.done = done,
		.userdata = userdata,
	};
	if (t->ended_fd < 0)
		return -errno;
	r = sd_event_add_io(pool->event, &t->source, t->ended_fd, EPOLLIN, task_ended, t);
	if (r < 0)
		return r;
	r = pthread_create(&t->thread, NULL, task_thread, t);
	if (r != 0)
		return -r;
	pool->running++;
	TAKE_PTR(t);
	return 0;
}
