/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/usedblocks_btrfs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/layout/tool.h"

/* "… length N … type T" of a chunk, then "stripe I devid D offset O" for each of its places. */
struct chunk {
	uint64_t length;
	bool wanted;
	unsigned int stripes; /* seen, of all chunks */
};

/* The number behind @key on the line [at, end). */
static bool line_number(const char *at, const char *end, const char *key, uint64_t *ret)
{
	const char *p = memmem(at, (size_t)(end - at), key, strlen(key));
	uint64_t v = 0;

	if (!p)
		return false;
	p += strlen(key);
	if (p == end || *p < '0' || *p > '9')
		return false;
	for (; p < end && *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (unsigned int)(*p - '0'), &v))
			return false;
	}
	*ret = v;
	return true;
}

static bool line_has(const char *at, const char *end, const char *word)
{
	return memmem(at, (size_t)(end - at), word, strlen(word)) != NULL;
}

static int chunk_line(struct chunk *c, const char *at, const char *end, uint64_t length,
		      struct extent_set *used)
{
	uint64_t offset, devid;

	if (line_has(at, end, " stripe_len ")) {
		if (!line_number(at, end, "length ", &c->length) || !c->length)
			return -EBADMSG;
		/* plain data, in one place: partclone's finer map is right */
		c->wanted = !line_has(at, end, " type DATA|single");
		return 0;
	}
	if (!line_has(at, end, "stripe ") || !line_has(at, end, " devid "))
		return 0;
	if (!line_number(at, end, " devid ", &devid) || !line_number(at, end, " offset ", &offset))
		return -EBADMSG;
	if (!c->length || offset > length || c->length > length - offset)
		return -EBADMSG;
	c->stripes++;
	return c->wanted ? extent_set_add(used, offset, c->length) : 0;
}

int usedblocks_btrfs_parse_chunks(const char *text, uint64_t length, struct extent_set *used)
{
	struct chunk c = { 0 };

	while (*text) {
		const char *end = text + strcspn(text, "\n");
		int r = chunk_line(&c, text, end, length, used);

		if (r < 0)
			return r;
		text = *end ? end + 1 : end;
	}
	return c.stripes ? 0 : -EBADMSG;
}

int usedblocks_btrfs_add_copies(const char *path, uint64_t length, struct extent_set *used,
				struct err *e)
{
	const char *argv[] = { "btrfs", "inspect-internal", "dump-tree", "-t", "chunk", path, NULL };
	_cleanup_free_ char *text = NULL;
	int r;

	r = tool_run(argv, false, &text, e);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	r = usedblocks_btrfs_parse_chunks(text, length, used);
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0) {
		err_set(e, 0, "its chunk tree cannot be understood");
		return 0;
	}
	return 1;
}
