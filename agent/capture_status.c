/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/capture_status.h"

#include <errno.h>
#include <string.h>

#include "lib/base/cleanup.h"

static const char *const phase_names[] = {
	[PHASE_PREPARE] = "prepare", [PHASE_READ] = "read",   [PHASE_REREAD] = "re-read",
	[PHASE_FREEZE] = "freeze",   [PHASE_WRITE] = "write", [PHASE_DONE] = "done",
};

static const char *const strategy_names[] = {
	[CAPTURE_AUTO] = "auto",   [CAPTURE_PRECOPY] = "precopy", [CAPTURE_OFFLINE] = "offline",
	[CAPTURE_STILL] = "still", [CAPTURE_DM] = "dm",		  [CAPTURE_KMOD] = "kmod",
};

static const char *const increment_names[] = {
	[INCREMENT_FULL] = "full",
	[INCREMENT_COMPARED] = "compared",
	[INCREMENT_TRACKED] = "tracked",
};

const char *capture_increment_name(enum increment_kind k)
{
	return increment_names[k];
}

const char *capture_phase_name(enum capture_phase p)
{
	return phase_names[p];
}

const char *capture_strategy_name(enum capture_strategy s)
{
	return strategy_names[s];
}

int capture_strategy_parse(const char *text, enum capture_strategy *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(strategy_names); i++) {
		if (strcmp(text, strategy_names[i]) == 0) {
			*ret = (enum capture_strategy)i;
			return 0;
		}
	}
	return -EINVAL;
}

int hook_policy_parse(const char *text, enum hook_policy *ret)
{
	static const char *const names[] = {
		[HOOKS_ABORT] = "abort",
		[HOOKS_CONTINUE] = "continue",
		[HOOKS_OFF] = "off",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(text, names[i]) == 0) {
			*ret = (enum hook_policy)i;
			return 0;
		}
	}
	return -EINVAL;
}
