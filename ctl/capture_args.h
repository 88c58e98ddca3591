/* SPDX-License-Identifier: GPL-2.0-or-later */
/* capture_args - the command line of `ambroctl capture`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ctl/import_args.h"
#include "lib/repo/sealed_head.h"

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
	uint64_t chunk_size;			   /* of outputs; 0: as above */
	const char *hooks;			   /* NULL: the agent's default */
	uint64_t hook_timeout_s, limit_read,
		limit_write; /* limits: bytes per second; 0: as above */
	bool full_speed;
	bool ignore_read_errors, force, progress, quiet;
	/* the outputs are encrypted, for arg_repo's passphrase and these */
	bool encrypt;
	const char *recipients[SEALED_SLOTS_MAX];
	size_t n_recipients;
	/* into a repository (ctl/repo_arg.h) instead of outputs */
	bool to_repo, full;
	const char *disk; /* the name under which it is kept; NULL: as the agent calls it */
	struct tag_list tags;
	const char *state_dir; /* of what is kept of the last image; NULL: the usual one */
};

/* Returns an exit code, or -1 to go on. */
int capture_args_parse(int argc, char **argv, struct capture_args *a);
