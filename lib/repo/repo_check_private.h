/* SPDX-License-Identifier: GPL-2.0-or-later */
/* repo_check_private - what the files of repo_check share. Nobody else includes it. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "lib/repo/repo_check.h"
#include "lib/repo/repo_image.h"

struct check_pack {
	uint8_t hash[REPO_NAME_HASH];
	uint64_t size;
	bool stored;
	bool chosen; /* its data is to be read */
	atomic_bool damaged;
};

struct check {
	struct repo *repo;
	const struct repo_check_settings *settings;
	struct repo_check_result *result;
	bool indexed;		  /* repo->index is there */
	struct check_pack *packs; /* by hash: all that are stored or named by the index */
	size_t n_packs;
	uint32_t *of_index; /* number in the index: which of packs */
	uint64_t *bad;	    /* bits by ordinal: entries that cannot be used */
	uint64_t *seen;	    /* bits by ordinal: pages of which all below was found right */
	/* of images whose bytes do not have their names, which was reported */
	uint8_t (*bad_images)[REPO_NAME_HASH];
	size_t n_bad_images, bad_images_allocated;
	unsigned int part;    /* that is read */
	int state;	      /* the file, -EBADF: none is kept */
	bool resumed;	      /* it is of this check, interrupted */
	bool state_broken;    /* nothing more is noted in it; guarded by lock */
	pthread_mutex_t lock; /* guards the calls of report, and result */
};

void check_report(struct check *c, const struct repo_damage *d);
void check_report_object(struct check *c, const char *object, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
struct check_pack *check_pack_find(const struct check *c, const uint8_t hash[REPO_NAME_HASH]);
bool check_is_bad(const struct check *c, uint64_t ordinal);
void check_set_bad(struct check *c, uint64_t ordinal);

/* Do the keys allow to look into packs? */
bool check_can_open(const struct check *c);
/* repo_check_state.c, in this order. Refuses a file that is no state; sets c->part. */
int check_state_open(struct check *c, struct err *e);
/* Packs that are noted are chosen no more. */
int check_state_take(struct check *c, struct err *e);
/* This one is good. Best effort: what was not noted is read again. From any thread. */
void check_state_note(struct check *c, const struct check_pack *p);
/* The check came to its end. */
int check_state_end(struct check *c, struct err *e);
/* Read the chosen packs (repo_check_packs.c). Fills c->bad. */
int check_packs(struct check *c, struct err *e);
/* Walk all images (repo_check_images.c). */
int check_images(struct check *c, struct err *e);
