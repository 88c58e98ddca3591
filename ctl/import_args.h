/* SPDX-License-Identifier: GPL-2.0-or-later */
/* import_args - what the verbs that add images to a repository have in common: tags. */
#pragma once

#include <errno.h>

#include "ctl/verb.h"

#define TAG_LIST_MAX 32u

struct tag_list {
	const char *items[TAG_LIST_MAX + 1]; /* borrowed, NULL-terminated */
	unsigned int count;
};

/* 0, or -EINVAL after telling the user. */
static inline int tag_list_add(struct tag_list *l, const char *verb, const char *tag)
{
	if (verb_check_name(verb, "--tag", tag) < 0)
		return -EINVAL;
	if (l->count == TAG_LIST_MAX) {
		verb_usage(verb, "--tag: more than %u", TAG_LIST_MAX);
		return -EINVAL;
	}
	l->items[l->count++] = tag;
	return 0;
}
