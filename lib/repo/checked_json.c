/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/checked_json.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/hex.h"
#include "lib/image/digest.h"

#define END_BEFORE ",\n \"check\": \""
#define END_BEHIND "\"\n}"

static_assert(sizeof(END_BEFORE) - 1 + 2 * sizeof(uint8_t[DIGEST_SIZE]) + sizeof(END_BEHIND) - 1 ==
		      CHECKED_JSON_END,
	      "the object's end");

char *checked_json_end(const char *name, const char *text, size_t len,
		       char ret[CHECKED_JSON_END + 1])
{
	const struct iovec parts[] = { { (void *)name, strlen(name) }, { (void *)text, len } };
	char digits[2 * DIGEST_SIZE + 1];
	uint8_t hash[DIGEST_SIZE];

	digest_of(parts, ARRAY_SIZE(parts), hash);
	snprintf(ret, CHECKED_JSON_END + 1, END_BEFORE "%s" END_BEHIND,
		 hex_encode(hash, sizeof(hash), digits));
	return ret;
}

char *checked_json_dump(const char *name, const json_t *o)
{
	_cleanup_free_ char *bare = json_dumps(o, JSON_INDENT(1));
	char end[CHECKED_JSON_END + 1], *text = NULL;
	size_t len;

	if (!bare)
		return NULL;
	/* "check" goes before the end of the object */
	len = strlen(bare) - strlen("\n}");
	assert(!strcmp(bare + len, "\n}"));
	bare[len] = '\0';
	checked_json_end(name, bare, len, end);
	return asprintf(&text, "%s%s", bare, end) < 0 ? NULL : text;
}

json_t *checked_json_load(const char *name, const char *text, size_t len)
{
	char end[CHECKED_JSON_END + 1];

	if (len < CHECKED_JSON_END)
		return NULL;
	checked_json_end(name, text, len - CHECKED_JSON_END, end);
	if (memcmp(text + len - CHECKED_JSON_END, end, CHECKED_JSON_END) != 0)
		return NULL;
	return json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
}
