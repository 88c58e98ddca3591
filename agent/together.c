/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/together.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "lib/base/io.h"

/* How often who waits looks whether it was cancelled. */
#define LOOK_NS 100000000

struct together {
	TAILQ_ENTRY(together) link;
	char name[TOGETHER_NAME_MAX];
	unsigned int count, joined, left;
	unsigned int arrived, round; /* at the meeting; a new round when all have its result */
	void *members[TOGETHER_MAX];
	bool broken, over;
	bool acting; /* all have come: from now on there is no way out until the round is over */
	int result;
	struct err err; /* of the round, or why it was broken */
};

static TAILQ_HEAD(, together) meetings = TAILQ_HEAD_INITIALIZER(meetings);
static pthread_mutex_t meetings_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t meetings_changed = PTHREAD_COND_INITIALIZER;

static struct together *meeting_find(const char *name)
{
	struct together *t;

	TAILQ_FOREACH(t, &meetings, link)
	if (!strcmp(t->name, name))
		return t;
	return NULL;
}

int together_join(const char *name, unsigned int count, struct together **ret, struct err *e)
{
	struct together *t;
	int r = 0;

	if (!count || count > TOGETHER_MAX || strlen(name) >= TOGETHER_NAME_MAX) {
		return err_set(e, -EINVAL, "not 1 … %u disks can be captured together",
			       TOGETHER_MAX);
	}
	pthread_mutex_lock(&meetings_lock);
	t = meeting_find(name);
	if (!t) {
		t = calloc(1, sizeof(*t));
		if (t) {
			memcpy(t->name, name, strlen(name));
			t->count = count;
			TAILQ_INSERT_TAIL(&meetings, t, link);
		}
	}
	if (!t) {
		r = err_oom(e);
	} else if (t->count != count || t->joined == count) {
		r = err_set(e, -EBUSY, "the disks to be captured together are complete already");
	} else {
		t->joined++;
		*ret = t;
	}
	pthread_mutex_unlock(&meetings_lock);
	return r;
}

void together_leave(struct together *t, const struct err *why)
{
	if (!t)
		return;
	pthread_mutex_lock(&meetings_lock);
	if (!t->over && !t->broken) {
		t->broken = true;
		err_set(&t->err, why && why->code < 0 ? why->code : -ECANCELED,
			"another disk of the set failed%s%s", why && why->text[0] ? ": " : "",
			why ? why->text : "");
		pthread_cond_broadcast(&meetings_changed);
	}
	if (++t->left == t->joined) {
		TAILQ_REMOVE(&meetings, t, link);
		free(t);
	}
	pthread_mutex_unlock(&meetings_lock);
}

/* Under the lock, as the last to come. */
static void meeting_act(struct together *t,
			int (*act)(void *const *members, unsigned int count, struct err *e))
{
	t->acting = true;
	/* other meetings go on meanwhile */
	pthread_mutex_unlock(&meetings_lock);
	t->err = (struct err){ 0 };
	t->result = act(t->members, t->count, &t->err);
	pthread_mutex_lock(&meetings_lock);
	t->acting = false;
	t->arrived = 0;
	t->round++;
	pthread_cond_broadcast(&meetings_changed);
}

/* Under the lock: until the round is over. */
static int meeting_wait(struct together *t, unsigned int round, struct cancel *cancel,
			struct err *e)
{
	uint64_t end = io_now_ns() + (uint64_t)TOGETHER_WAIT_MS * 1000000;

	while (t->round == round) {
		struct timespec until;

		if (!t->acting && t->broken) {
			*e = t->err;
			return t->err.code;
		}
		if (!t->acting && cancel_raised(cancel))
			return err_set(e, -ECANCELED, "cancelled");
		if (!t->acting && io_now_ns() > end) {
			return err_set(e, -ETIME,
				       "the other disks of the set were not ready in time");
		}
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += LOOK_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&meetings_changed, &meetings_lock, &until);
	}
	return 0;
}

int together_meet(struct together *t, void *member, struct cancel *cancel,
		  int (*act)(void *const *members, unsigned int count, struct err *e),
		  struct err *e)
{
	unsigned int round;
	int r = 0;

	pthread_mutex_lock(&meetings_lock);
	round = t->round;
	t->members[t->arrived++] = member;
	if (t->arrived == t->count && !t->broken) {
		meeting_act(t, act);
	} else {
		r = meeting_wait(t, round, cancel, e);
	}
	if (r >= 0) {
		r = t->result;
		if (r < 0)
			*e = t->err;
	}
	pthread_mutex_unlock(&meetings_lock);
	return r;
}

void together_over(struct together *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&meetings_lock);
	t->over = true;
	pthread_mutex_unlock(&meetings_lock);
}
