/* SPDX-License-Identifier: GPL-2.0-or-later */
/* import_args - what the verbs that add images to a repository have in common: tags. */
#pragma once

#include <string.h>

#include "ctl/verb.h"
#include "lib/base/cleanup.h"
#include "lib/repo/repo_image.h"

#define TAG_LIST_MAX 32u

struct tag_list {
	const char *items[TAG_LIST_MAX + 1]; /* borrowed, NULL-terminated */
	unsigned int count;
};

/* 0, or -EINVAL after telling the user. */
static inline int tag_list_add(struct tag_list *l, const char *verb, const char *tag)
{
	_cleanup_free_ char *word = repo_image_word(tag);

	if (l->count < TAG_LIST_MAX && word && *tag && !strcmp(word, tag)) {
		l->items[l->count++] = tag;
		return 0;
	}
	verb_usage(verb,
		   "--tag: %s is not made of letters, digits, '_', '-' and '.', or there are more "
		   "than %u",
		   tag, TAG_LIST_MAX);
	return -EINVAL;
}
