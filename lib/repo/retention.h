/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * retention - which images stay: a policy over times and tags, and nothing else.
 *
 * Each group (a disk of a host) is looked at on its own, from its newest image to its oldest. An image stays when one
 * rule or more keeps it:
 *
 *	last N			the N newest
 *	hourly … yearly N	the newest image of each of the N latest periods that have images
 *	within			not older than the group's newest by more than so long
 *	tag			it bears one of the tags
 *
 * Periods are those of UTC (days from 00:00Z, weeks of ISO 8601, which begin on Monday), the same for every host and in
 * summer. The present time plays no part: a server that stopped making images loses none by the passing of time.
 * A period that has no image does not count, so "daily 7" of a weekly capture is seven weeks. One image may stand for
 * several rules.
 *
 * Images of equal time are ordered by their ids, so that the answer does not depend on the order of the array.
 *
 * Pure: nothing blocks, nothing is read but the arguments; thread-safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

enum retention_rule {
	RETENTION_LAST,
	RETENTION_HOURLY,
	RETENTION_DAILY,
	RETENTION_WEEKLY,
	RETENTION_MONTHLY,
	RETENTION_YEARLY,
	RETENTION_WITHIN,
	RETENTION_TAG,
	RETENTION_RULES
};

#define RETENTION_ALL	     UINT32_MAX /* more than there ever are */
#define RETENTION_REASON_MAX 96

struct retention_policy {
	uint32_t keep[RETENTION_YEARLY + 1]; /* by rule; 0: this rule keeps nothing */
	uint64_t keep_within_s;		     /* 0: no such rule */
	const char *const *keep_tags;
	size_t n_keep_tags;
};

struct retention_image {
	uint64_t time_ns;  /* since 1970 */
	const char *group; /* "HOST/DISK"; equal strings are one group */
	const char *id;
	const char *const *tags;
	size_t n_tags;
};

struct retention_verdict {
	uint32_t rules; /* bit 1 << RULE: kept by it; 0: to be forgotten */
	size_t tag;	/* RETENTION_TAG: the one of the image's tags that kept it */
};

/*
 * A verdict for each of the @n @images, at the same place in @ret.
 * -EINVAL: the policy has no rule, or would forget every image of a group (only one of tags alone can): such an answer
 * is never given, whoever means it names the images. @ret is not written then. -ENOMEM.
 */
int retention_apply(const struct retention_policy *policy, const struct retention_image *images,
		    size_t n, struct retention_verdict *ret, struct err *e);

/*
 * Why @rule, a bit of @verdict, kept @image: "last", "hourly 2026-11-21 13:00", "daily 2026-11-21", "weekly 2026-W47",
 * "monthly 2026-11", "yearly 2026", "within", "tag NAME" (cut to fit). Returns @buf.
 */
char *retention_reason(const struct retention_image *image, const struct retention_verdict *verdict,
		       enum retention_rule rule, char buf[static RETENTION_REASON_MAX]);
