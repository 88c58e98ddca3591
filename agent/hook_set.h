/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hook_set - what all hooks of one freeze are told. */
#pragma once

#include <stdint.h>

enum hook_phase {
	HOOK_FREEZE,
	HOOK_THAW,
};

/* What all hooks of one freeze share. */
struct hook_set {
	const char *dir, *source, *mounts; /* AMBRO_SOURCE, AMBRO_MOUNTS: one path a line */
	uint64_t job;
	unsigned int timeout_ms; /* of each call */
};
