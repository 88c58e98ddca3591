/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_check - is a repository whole? What is damaged, and which images and which bytes of which disks that hurts.
 *
 * Structure, always: every object has a proper name; index files and notes are whole; every pack that the index names is
 * there with the size and the entries that the index says; every image can be read, every page of its trees is right, and
 * every chunk is in some pack that is there.
 *
 * Data, as asked: packs are read whole. Their SHA-256 is their name; every entry decrypts, decodes, and is what its name
 * says.
 *
 * How much can be found out depends on the keys: with none, only that bytes are as they were written (every object's name or
 * check); with write rights also what the index says; with full rights all of it.
 *
 * Nothing is changed. Captures and prunes may go on meanwhile: what they delete is not missed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/repo/repo.h"

struct repo_image;

/* One thing that is wrong. All pointers are valid during the call only. */
struct repo_damage {
	const char *object; /* its name, "packs/4f/4f0c…"; NULL: seen from an image */
	const char *what;   /* in words, beginning with a verb or adjective: "is missing" */
	/* a stretch of an image that cannot be restored: */
	const char *image;	     /* HOST/DISK/TIME; NULL: not (yet) known to hurt one */
	const struct repo_image *of; /* the image itself; NULL where there is no name */
	uint32_t region;
	unsigned int partition;	 /* 0: none */
	uint64_t offset, length; /* bytes of the disk; length 0: the whole image */
};

struct repo_check_settings {
	/* packs are read of which the name's first four bytes, as a number, modulo @parts is @part. parts 0: none, 1: all */
	unsigned int parts, part;
	/*
	 * A file of the caller's, in which the packs found good are noted, so that a check that was interrupted goes on
	 * where it was; removed when it came to its end. NULL: none. One of another repository or part, or of a check by
	 * names only where the keys now allow more, is begun anew. What is no such state is refused (-EEXIST) and left as
	 * it is; -EBUSY: another check has it.
	 */
	const char *state;
	/*
	 * With a state, parts > 1: @part is for a new one; otherwise it says itself which part is next, and stays at the
	 * end, for the part behind this one. So @parts checks read all, whenever they are. @parts is at most 9999 then.
	 */
	bool rotate;
	unsigned int threads;  /* 0: one per CPU, at most 4; each holds a pack */
	struct cancel *cancel; /* may be NULL */
	/* from any thread, one at a time */
	void (*report)(void *ctx, const struct repo_damage *d);
	/* now and then from the calling thread, bytes of packs read and to be read; may be NULL */
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

struct repo_check_result {
	uint64_t objects, packs, images;
	uint64_t packs_read, bytes_read,
		packs_skipped;	  /* skipped: read by the check that was interrupted */
	uint64_t entries_checked; /* decoded and compared */
	uint64_t damages;	  /* reports */
	uint64_t images_hurt;
	unsigned int part; /* that was read, from 0 */
	bool decoded;	   /* what packs hold was looked at: the keys allow it */
	bool walked;	   /* images were looked at, likewise */
};

#define REPO_CHECK_PARTS_OF_DAYS_MAX 100
/*
 * For who keeps no state: the part, of 1 to 100 @parts, whose turn it is on @day. Of @parts days that begin at a multiple of
 * @parts each has another; the order is another one each time, so that no rhythm of days meets the same parts again and again.
 */
unsigned int repo_check_part_of_day(uint64_t day, unsigned int parts);

/*
 * Blocks. r->index is loaded anew, with nothing excluded. 0: nothing is wrong; -EBADMSG: something is, all of it was
 * reported, and @ret is filled; -ECANCELED; or another negative errno: it could not be finished.
 */
int repo_check(struct repo *r, const struct repo_check_settings *s, struct repo_check_result *ret,
	       struct err *e);
