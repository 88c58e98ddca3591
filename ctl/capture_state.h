/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * capture_state - the local directory in which a client keeps what it needs to know of the last image of each disk
 * (lib/repo/last_image.h): STATE/REPOSITORY-ID/HOST/DISK.
 *
 * It is a help and never a condition: whatever is wrong with it is said in a line, and the capture goes on without.
 * Directories are made for their owner alone, and one that others may write to is not believed: who can change what is kept
 * there decides what the next image takes over unread.
 */
#pragma once

#include <stdbool.h>

#include "lib/base/err.h"
#include "lib/repo/last_image.h"
#include "lib/repo/repo.h"

struct capture_state {
	struct last_image *last;  /* NULL: nothing is kept */
	struct repo_image *found; /* owned: that one, as the repository has it */
	int lock;		  /* one capture of a disk at a time */
	bool pages;		  /* keep them: the repository cannot be read */
	bool there;		  /* the last image is in the repository, and not forgotten */
	bool lost; /* the last image is not in the repository any more, though nobody has forgotten it */
};

/*
 * @dir: --state-dir; NULL: AMBRO_STATE_DIR or the usual place; "": keep nothing. @r is unlocked, its index loaded. Fails only
 * when the repository does, or memory is out. capture_state_done() after either.
 */
int capture_state_open(struct capture_state *s, const char *dir, struct repo *r, const char *host,
		       const char *disk, struct err *e);
/* The last image as the repository has it, when it is there, not forgotten, and can be read, or NULL. */
const struct repo_image *capture_state_image(const struct capture_state *s);
/* The same, when it can be a parent for who cannot read it there: its pages are kept. */
const struct repo_image *capture_state_parent(const struct capture_state *s);
/* @i was committed. */
void capture_state_keep(struct capture_state *s, const struct repo_image *i);
/* Accepts a zeroed one. */
void capture_state_done(struct capture_state *s);
