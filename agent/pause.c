/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/pause.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void pause_at(const char *step)
{
	const char *wanted =
		getenv("AMBRO_TEST_PAUSE"); /* NOLINT(concurrency-mt-unsafe): never set by us */
	size_t n = strlen(step);
	unsigned long ms;
	struct timespec t;

	if (!wanted || strncmp(wanted, step, n) != 0 || wanted[n] != ':')
		return;
	ms = strtoul(wanted + n + 1, NULL, 10);
	t = (struct timespec){ .tv_sec = (time_t)(ms / 1000),
			       .tv_nsec = (long)(ms % 1000) * 1000000 };
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}
