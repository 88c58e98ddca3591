/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * restore - an image's bytes onto a target, checked before they are written.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl/restore_plan.h"
#include "ctl/target.h"
#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/image/image_reader.h"

struct restore_job {
	const struct image_reader *reader;
	struct restore_plan *plan;
	struct target *target;
	struct cancel *cancel; /* may be NULL */
	unsigned int threads;  /* 0: one per CPU */
	bool no_discard;       /* leave free space as it is */
	bool skip_damaged;     /* zeros where the image is damaged, and go on */
	bool verify;	       /* read everything back */
	/* may be NULL; called some times a second from the calling thread; @phase: "write" or "verify" */
	void (*tick)(void *ctx, const char *phase, uint64_t done, uint64_t total);
	void *ctx;
};

struct restore_damage {
	uint32_t region;
	uint64_t offset, length; /* bytes of the target */
};

/* Bytes, unless the name says otherwise. */
struct restore_result {
	uint64_t written;		/* data */
	uint64_t zeroed;		/* with those of bad and damaged chunks */
	uint64_t discarded;		/* given back */
	uint64_t bad;			/* the capture could not read them */
	uint64_t verified;		/* read back and found right */
	struct restore_damage *damages; /* skipped, in no order */
	size_t n_damages;
	bool touched; /* the target is not what it was */
};

/*
 * Blocks; makes threads. Returns 0; -EBADMSG when the image is damaged (nothing of that chunk has been
 * written); -ECANCELED; or another negative errno. @ret is filled in every case and freed by
 * restore_result_done(). After a failure the target, if it was touched at all, has no valid beginning.
 */
int restore_run(const struct restore_job *j, struct restore_result *ret, struct err *e);
void restore_result_done(struct restore_result *r);
