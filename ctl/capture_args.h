/* SPDX-License-Identifier: GPL-2.0-or-later */
/* capture_args - the command line of `ambroctl capture`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Disks at one instant: as many as the agent captures at once. */
#define CAPTURE_PARTS_MAX 4u

struct capture_args {
	const char *sources[CAPTURE_PARTS_MAX]; /* as given, or "" */
	const char *outputs[CAPTURE_PARTS_MAX];
	unsigned int n_sources, n_outputs;
	const char *strategy;
	int level;
	const char *cow, *overflow;		   /* NULL: the agent's default */
	uint64_t max_freeze_ms, threads, cow_size; /* 0: the agent's defaults */
	bool ignore_read_errors, force, progress, quiet;
};

/* Returns an exit code, or -1 to go on. */
int capture_args_parse(int argc, char **argv, struct capture_args *a);
