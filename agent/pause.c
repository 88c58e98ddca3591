/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/pause.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/io.h"

#define LOOK_NS 5000000

void pause_at(const char *step)
{
	/* NOLINTBEGIN(concurrency-mt-unsafe): never set by us */
	const char *wanted = getenv("AMBRO_TEST_PAUSE"), *go = getenv("AMBRO_TEST_GO");
	/* NOLINTEND(concurrency-mt-unsafe) */
	size_t n = strlen(step);
	uint64_t end;

	if (!wanted || strncmp(wanted, step, n) != 0 || wanted[n] != ':')
		return;
	dprintf(STDERR_FILENO, "pause: %s\n", step);
	end = io_now_ns() + strtoull(wanted + n + 1, NULL, 10) * 1000000;
	while (io_now_ns() < end && (!go || access(go, F_OK) < 0))
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_NS }, NULL);
}
