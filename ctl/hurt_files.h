/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hurt_files - the files that a check's damages hurt: it takes note of these while the check goes on, and looks afterwards
 * whose they are, in each image by the file system in it.
 *
 * Thread-safe as the check is: hurt_files_note() from any thread, one at a time; then the rest from one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/base/extent.h"
#include "lib/image/manifest.h"
#include "lib/layout/owners.h"
#include "lib/repo/repo.h"
#include "lib/repo/repo_check.h"

/* A region of an image, some of which is lost. */
struct hurt_area {
	char *image; /* HOST/DISK/TIME */
	uint8_t hash[REPO_NAME_HASH];
	uint64_t time_ns;
	uint32_t region;
	unsigned int partition; /* 0: none */
	enum region_kind kind;
	uint64_t start;	 /* bytes of the disk */
	uint64_t length; /* bytes */
	char *fs_type;	 /* libblkid's; NULL: none that is known */
	bool log;	 /* something may stand only in the file system's log, which is not read */
	struct chunk_id root;
	struct extent_set lost; /* bytes of the region */
	/* once it was answered: its files can be told; not all of them */
	bool told, incomplete;
};

/* What was found out of one. All of it is valid during the call only. */
struct hurt_answer {
	const struct hurt_area *area;
	/* of another image, answered before: the same bytes with the same damage, so the same files. Nothing else is filled. */
	const struct hurt_area *same;
	const struct owners *owners; /* NULL: they cannot be told */
	const char *why;	     /* then: in words */
};

struct hurt_files_settings {
	struct repo *repo;     /* its index is loaded, and stays */
	struct cancel *cancel; /* may be NULL */
	void (*answer)(void *ctx, const struct hurt_answer *a);
	/* now and then: the area that is being looked at, and the bytes of chunks read so far for all; may be NULL */
	void (*progress)(void *ctx, const struct hurt_area *a, uint64_t read);
	void *ctx;
};

struct hurt_files;

int hurt_files_new(struct hurt_files **ret);
void hurt_files_free(struct hurt_files *h);
DEFINE_CLEANUP(struct hurt_files, hurt_files_free);
/* Damages that hurt no image are left alone. Copies what it keeps; when there is no memory for it, hurt_files_find() says so. */
void hurt_files_note(struct hurt_files *h, const struct repo_damage *d);
/*
 * Blocks. Answers for all that was noted, the newest image first; areas that were not looked at, because it was interrupted
 * say, are answered with the reason, too. 0, -ECANCELED, or another negative errno: not all were looked at, or noted.
 */
int hurt_files_find(struct hurt_files *h, const struct hurt_files_settings *s, struct err *e);
