/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * forget_policy - the options that say which images are kept, for all verbs that forget by a policy.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "ctl/verb.h"
#include "lib/repo/retention.h"

enum {
	FORGET_OPTION_LAST = VERB_OPTION_OWN + 50, /* behind what such a verb has of its own */
	FORGET_OPTION_HOURLY,
	FORGET_OPTION_DAILY,
	FORGET_OPTION_WEEKLY,
	FORGET_OPTION_MONTHLY,
	FORGET_OPTION_YEARLY,
	FORGET_OPTION_WITHIN,
	FORGET_OPTION_KEEP_TAG,
	FORGET_OPTION_OWN, /* the first one free */
};

/* clang-format off */
#define FORGET_POLICY_OPTIONS                                              \
	{ "keep-last", required_argument, NULL, FORGET_OPTION_LAST },       \
	{ "keep-hourly", required_argument, NULL, FORGET_OPTION_HOURLY },   \
	{ "keep-daily", required_argument, NULL, FORGET_OPTION_DAILY },     \
	{ "keep-weekly", required_argument, NULL, FORGET_OPTION_WEEKLY },   \
	{ "keep-monthly", required_argument, NULL, FORGET_OPTION_MONTHLY }, \
	{ "keep-yearly", required_argument, NULL, FORGET_OPTION_YEARLY },   \
	{ "keep-within", required_argument, NULL, FORGET_OPTION_WITHIN },   \
	{ "keep-tag", required_argument, NULL, FORGET_OPTION_KEEP_TAG }
/* clang-format on */

#define FORGET_POLICY_HELP                                                                                  \
	"      --keep-last N         keep the N newest images of each disk\n"                               \
	"      --keep-hourly N       the newest of each of the N latest hours that have images; likewise\n" \
	"      --keep-daily N, --keep-weekly N, --keep-monthly N, --keep-yearly N ('all' for no limit)\n"   \
	"      --keep-within TIME    those not older than the newest by more than 36h, 14d, 8w\n"           \
	"      --keep-tag TAG        those with this tag; may be given more than once\n"

#define FORGET_TAGS_MAX 32

/* Zero-initialised. */
struct forget_policy {
	struct retention_policy policy;
	const char *tags[FORGET_TAGS_MAX];
	bool given; /* any of the options */
};

/* One of FORGET_POLICY_OPTIONS, with optarg. 0, or -EINVAL after telling the user. */
int forget_policy_option(struct forget_policy *p, const char *verb, int option);
