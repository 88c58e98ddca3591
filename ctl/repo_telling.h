/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_telling - what `repo check` and `repo repair` tell while they work, and what they have in common beside that.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "ctl/hurt_files.h"
#include "ctl/hurt_report.h"
#include "ctl/render.h"
#include "lib/repo/repo.h"
#include "lib/repo/repo_check.h"

/* Damages said one by one; all of them are in the JSON. */
#define REPO_TELLING_SHOWN 50

struct repo_telling {
	struct render_bar bar;
	const char *verb, *phase;
	json_t *damages; /* array */
	uint64_t said;
	struct hurt_files *files; /* NULL: files are not asked for, or there is no memory */
	struct hurt_report report;
};

/* @files: which files are hurt is to be told. */
void repo_telling_begin(struct repo_telling *t, const char *verb, const char *phase, bool files);
void repo_telling_done(struct repo_telling *t);
/* For settings of a check and a repair; the context is the telling. */
void repo_telling_progress(void *ctx, uint64_t done, uint64_t total);
void repo_telling_damage(void *ctx, const struct repo_damage *d);
void repo_telling_repaired(void *ctx, const char *object, const char *what);
/*
 * All damages are told: say how many were left out, and which files they hurt. 0; -ECANCELED: not of all, which was said;
 * other errors are no failure of the check, and were said, too.
 */
int repo_telling_files(struct repo_telling *t, struct repo *r, struct cancel *c);
/* The members "files" and "file_systems", where they were asked for. */
void repo_telling_add_files(const struct repo_telling *t, json_t *result);

/* Open --repo, without its index: that may be what is damaged. */
int repo_telling_open(bool no_key, struct repo **ret, struct err *e);
