/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hurt_report - what hurt_files.h found out, for people and for programs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "ctl/hurt_files.h"

/* Lines of files, and as many about file systems; all is in the JSON. */
#define HURT_REPORT_SHOWN 50

struct hurt_report {
	const char *verb;
	/* with --json, and NULL without: arrays of objects, ambroctl-repo(1) */
	json_t *files, *file_systems;
	uint64_t file_lines, system_lines; /* said, or left out as too many */
	struct hurt_said *said; /* texts, so that one that is as another's is said once */
	size_t n_said, said_allocated;
};

void hurt_report_begin(struct hurt_report *r, const char *verb, bool json);
void hurt_report_done(struct hurt_report *r);
/* Say what is in @a, or add it to the JSON. The progress bar is taken away already. */
void hurt_report_answer(struct hurt_report *r, const struct hurt_answer *a);
/* How many lines were left out, if any were. */
void hurt_report_end(const struct hurt_report *r);
