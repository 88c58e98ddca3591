/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_repair - a new index made of what the packs hold.
 *
 * Every pack is read whole. What is damaged in one is left out of the index: so the next capture that meets such a chunk
 * stores it again, and every image that lacked it is whole again. What no capture can bring back stays lost, and
 * repo_check() names it. No pack, and no image, is deleted or changed.
 *
 * Notes of gc that are damaged are made anew: an image or pack that was let go stays let go, its grace period begins again.
 *
 * Needs full rights. It leaves a note because of which images are looked at before increments build on them (repo_whole.h).
 * Captures may go on meanwhile. A prune and a repair hinder each other (gc_turn.h).
 *
 * It may be stopped at any point and begun again: old index files are deleted after all new ones are there.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/repo/repo.h"

struct repo_repair_settings {
	bool dry_run; /* only find out */
	bool alone; /* no other repair or prune is at work: what killed ones left is no hindrance */
	uint64_t now_ns;       /* for notes of gc; 0: CLOCK_REALTIME */
	struct cancel *cancel; /* may be NULL */
	/* something that is damaged and what was done with it, from the calling thread; may be NULL */
	void (*report)(void *ctx, const char *object, const char *what);
	/* now and then: bytes of packs read and to be read; may be NULL */
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

struct repo_repair_result {
	uint64_t packs, packs_damaged;
	uint64_t entries;	/* in the new index */
	uint64_t entries_lost;	/* of packs whose list could be read: what was left out */
	uint64_t index_files;	/* made */
	uint64_t index_deleted; /* old ones */
	uint64_t notes;		/* made anew or deleted */
};

/*
 * Blocks. r->index is freed: load it again. 0 whether or not something was damaged, or a negative errno. -EBUSY: a prune is at
 * work, or was killed: nothing was changed. -ESTALE: it took longer than GC_TURN_REPAIR_NS.
 */
int repo_repair(struct repo *r, const struct repo_repair_settings *s,
		struct repo_repair_result *ret, struct err *e);
