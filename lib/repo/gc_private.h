/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Of gc.c, gc_plan.c and gc_gather.c alone. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/repo/gc_turn.h"
#include "lib/repo/gc_view.h"

struct gc_settings;
struct gc_result;

/* What becomes of a pack in this run. */
enum fate {
	FATE_KEEP,
	FATE_DEAD,   /* mark it */
	FATE_REPACK, /* copy and mark it */
	FATE_JOIN,   /* likewise, with others that are as small */
	FATE_GATHER, /* likewise, because what the newest images need lies apart (gc_gather.c) */
	FATE_WAIT,   /* marked or noted, not ripe */
	FATE_SWEEP,  /* ripe: copy what is live, delete it */
	FATE_GONE,   /* marked and deleted: note it */
	FATE_RETIRE, /* deleted long ago: its mark and note */
	FATE_STRAY,  /* note it */
	FATE_STRAY_SWEEP, /* delete it and its note */
	FATE_CLEAR,	  /* nothing is left but notes */
};

static inline bool fate_is_copy(enum fate f)
{
	return f == FATE_REPACK || f == FATE_JOIN || f == FATE_GATHER;
}

struct gc {
	struct repo *repo;
	const struct gc_settings *settings;
	const struct gc_turn *turn; /* NULL: of a dry run */
	struct gc_result *result;
	struct gc_view view;
	uint8_t *fates; /* enum fate, by place in view.packs */
	bool *copied;	/* likewise: to be copied, then: was copied */
	bool merge;	/* an index file names a pack that is swept */
	bool changed;
};

/* Packs from that size on are gathered, smaller ones joined. */
uint64_t gc_small_pack(const struct gc *g);
/*
 * Decide on every pack of g->view, which was walked: fills fates, copied, merge, and what the result says of them. 0 or
 * -ENOMEM.
 */
int gc_plan(struct gc *g, struct err *e);
/* A part of it: FATE_GATHER for some of those that were to be kept, within *@repack_left, which becomes less. Likewise. */
int gc_gather(struct gc *g, uint64_t *repack_left, struct err *e);
