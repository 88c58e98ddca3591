/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/store_stop.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/repo/store.h"

/* Written before there are threads, but for @steps. */
static struct {
	atomic_uint_least64_t steps;
	uint64_t at; /* 0: at none */
	int error;   /* what that step returns */
	bool kill, cut;
	int count_fd;
} stop = { .count_fd = -EBADF };

static void stop_cut_writes(void)
{
	const struct rlimit most = { STORE_STOP_SHORT, STORE_STOP_SHORT };

	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &most);
}

static int stop_step(const char *step)
{
	uint64_t n = atomic_fetch_add(&stop.steps, 1) + 1;

	if (stop.count_fd >= 0)
		dprintf(stop.count_fd, "%s\n", step);
	if (n != stop.at)
		return 0;
	if (stop.kill) {
		kill(getpid(), SIGKILL);
		/* another thread may get the signal */
		for (;;)
			pause();
	}
	if (stop.cut)
		stop_cut_writes();
	return stop.error;
}

/* "ENOSPC" */
static int stop_error(const char *name)
{
	static const struct {
		const char *name;
		int error;
	} known[] = { { "ENOSPC", ENOSPC }, { "EIO", EIO }, { "EOPNOTSUPP", EOPNOTSUPP } };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (!strcmp(name, known[i].name))
			return -known[i].error;
	}
	return 0;
}

/* "kill:N", "short:N", "fail:N:ERROR" */
static int stop_parse(const char *text)
{
	const char *number = strchr(text, ':');
	char *end;

	stop.kill = !strncmp(text, "kill:", 5);
	stop.cut = !strncmp(text, "short:", 6);
	if (!number || (!stop.kill && !stop.cut && strncmp(text, "fail:", 5) != 0))
		return -EINVAL;
	stop.at = strtoull(number + 1, &end, 10);
	if (!stop.at)
		return -EINVAL;
	if (stop.kill || stop.cut)
		return *end ? -EINVAL : 0;
	stop.error = *end == ':' ? stop_error(end + 1) : 0;
	return stop.error ? 0 : -EINVAL;
}

int store_stop_set_up(struct err *e)
{
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads yet */
	const char *wanted = getenv("AMBRO_TEST_STORE_STEP");

	if (!wanted || store_dir_step)
		return 0;
	if (!strncmp(wanted, "count:", 6)) {
		stop.count_fd = open(wanted + 6, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (stop.count_fd < 0)
			return err_set_errno(e, -errno, "cannot write %s", wanted + 6);
	} else if (stop_parse(wanted) < 0) {
		return err_set(e, -EINVAL, "AMBRO_TEST_STORE_STEP=%s: no such step", wanted);
	}
	store_dir_step = stop_step;
	return 0;
}
