/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/pace.h"

#include <ctype.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/layout/sysblock.h"

#define PACE_PRIORITY 1
#define PATH_ROOM     64
/* "xfsaild/" and a disk's name; the kernel keeps 15 characters of it, newer ones all */
#define NAME_ROOM 64
#define NAME_KEPT 15
/* the parent of all kernel threads */
#define KTHREADD 2

/* While one thread is moved nobody else may note where it "was". */
static pthread_mutex_t pace_pair = PTHREAD_MUTEX_INITIALIZER;
/* Of the thread that holds it: where it was before it joined. */
static cpu_set_t pace_pair_processors;

static bool pace_is_kernel_thread(const char *pid)
{
	char path[PATH_ROOM], line[256];
	const char *after;

	snprintf(path, sizeof(path), "/proc/%.16s/stat", pid);
	if (io_read_line(path, line, sizeof(line)) < 0)
		return false;
	/* PID (NAME) STATE PARENT …; a name may hold anything */
	after = strrchr(line, ')');
	return after && strlen(after) > 4 && strtol(after + 4, NULL, 10) == KTHREADD;
}

pid_t pace_find_pusher(dev_t device)
{
	char disk[NAME_ROOM], wanted[NAME_ROOM + 16], name[NAME_ROOM + 16], path[PATH_ROOM];
	_cleanup_dir_ DIR *proc = opendir("/proc");
	const struct dirent *entry;

	if (!proc || sysblock_name(device, disk, sizeof(disk)) < 0)
		return 0;
	snprintf(wanted, sizeof(wanted), "xfsaild/%s", disk);
	while ((entry = readdir(proc))) { /* NOLINT(concurrency-mt-unsafe): a stream of our own */
		ssize_t n;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%.16s/comm", entry->d_name);
		n = io_read_line(path, name, sizeof(name));
		if (n < 0 || (strcmp(name, wanted) != 0 &&
			      (n != NAME_KEPT || strncmp(name, wanted, NAME_KEPT) != 0)))
			continue;
		if (pace_is_kernel_thread(entry->d_name))
			return (pid_t)strtol(entry->d_name, NULL, 10);
	}
	return 0;
}

static bool pace_where(pid_t pid, struct pace_place *ret)
{
	struct sched_param param = { 0 };

	ret->policy = sched_getscheduler(pid);
	if (ret->policy < 0 || sched_getparam(pid, &param) < 0 ||
	    sched_getaffinity(pid, sizeof(ret->processors), &ret->processors) < 0)
		return false;
	ret->priority = param.sched_priority;
	return true;
}

static bool pace_go(pid_t pid, int policy, int priority)
{
	struct sched_param param = { .sched_priority = priority };

	return sched_setscheduler(pid, policy, &param) == 0;
}

static bool pace_is_real_time(const struct pace_place *place)
{
	int policy = place->policy & ~SCHED_RESET_ON_FORK;

	return policy == SCHED_FIFO || policy == SCHED_RR;
}

bool pace_hurry(struct pace_place *ret_was)
{
	/* one that is real-time already, by the administrator's will, stays what it is */
	if (!pace_where(0, ret_was) || pace_is_real_time(ret_was))
		return false;
	return pace_go(0, SCHED_FIFO, PACE_PRIORITY);
}

void pace_relax(const struct pace_place *was)
{
	pace_go(0, was->policy, was->priority);
}

void pace_put_back(struct pace_pusher *slot)
{
	pid_t pid = atomic_exchange(&slot->pid, 0);

	if (!pid)
		return;
	pace_go(pid, slot->was.policy, slot->was.priority);
	sched_setaffinity(pid, sizeof(slot->was.processors), &slot->was.processors);
}

bool pace_join(struct pace_pusher *slot, pid_t pid)
{
	int here = sched_getcpu();
	cpu_set_t one;

	if (here < 0 || here >= CPU_SETSIZE || pthread_mutex_trylock(&pace_pair) != 0)
		return false;
	CPU_ZERO(&one);
	CPU_SET((size_t)here, &one);
	/* a real-time one has been given that by somebody who knows why, or by another agent just now */
	if (!pace_where(pid, &slot->was) || pace_is_real_time(&slot->was) ||
	    !CPU_ISSET((size_t)here, &slot->was.processors) ||
	    sched_getaffinity(0, sizeof(pace_pair_processors), &pace_pair_processors) < 0 ||
	    sched_setaffinity(0, sizeof(one), &one) < 0) {
		pthread_mutex_unlock(&pace_pair);
		return false;
	}
	atomic_store(&slot->pid, pid);
	if (sched_setaffinity(pid, sizeof(one), &one) < 0 ||
	    !pace_go(pid, SCHED_FIFO, PACE_PRIORITY)) {
		pace_part(slot);
		return false;
	}
	return true;
}

void pace_part(struct pace_pusher *slot)
{
	pace_put_back(slot);
	sched_setaffinity(0, sizeof(pace_pair_processors), &pace_pair_processors);
	pthread_mutex_unlock(&pace_pair);
}
