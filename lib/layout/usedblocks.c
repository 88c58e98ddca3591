/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/usedblocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/layout/tool.h"
#include "lib/layout/usedblocks_btrfs.h"
#include "lib/layout/usedblocks_check.h"
#include "lib/layout/usedblocks_ext.h"
#include "lib/layout/usedblocks_xfs.h"

/* One number of a domain file: "0x" and hexadecimal digits. Moves @at behind it. */
static int domain_number(const char **at, uint64_t *ret)
{
	const char *p = *at + strspn(*at, " \t");
	uint64_t v = 0;
	int digits = 0;

	if (p[0] != '0' || (p[1] != 'x' && p[1] != 'X'))
		return -EBADMSG;
	for (p += 2;; p++, digits++) {
		unsigned int d;

		if (*p >= '0' && *p <= '9') {
			d = (unsigned int)(*p - '0');
		} else if ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f') {
			d = (unsigned int)((*p | 0x20) - 'a' + 10);
		} else {
			break;
		}
		if (v >> 60)
			return -EBADMSG;
		v = v << 4 | d;
	}
	if (!digits)
		return -EBADMSG;
	*at = p;
	*ret = v;
	return 0;
}

/* The status letter and nothing more on the line. */
static int domain_status(const char **at, char *ret)
{
	const char *p = *at + strspn(*at, " \t");

	if (*p != '+' && *p != '?')
		return -EBADMSG;
	*ret = *p++;
	p += strspn(p, " \t\r");
	if (*p != '\n' && *p != '\0')
		return -EBADMSG;
	*at = p;
	return 0;
}

struct domain {
	uint64_t position; /* the first line's: where the tool ended */
	uint64_t end;	   /* ranges so far cover [0, end) */
	bool started;
};

static int domain_line(struct domain *d, const char **at, uint64_t length, struct extent_set *used)
{
	uint64_t start, size;
	char status;
	int r;

	r = domain_number(at, &start);
	if (r < 0)
		return r;
	if (!d->started) {
		d->started = true;
		d->position = start;
		return domain_status(at, &status);
	}
	r = domain_number(at, &size);
	if (r < 0)
		return r;
	r = domain_status(at, &status);
	if (r < 0)
		return r;
	/* each range begins where the one before ended, so they are sorted, disjoint, and leave no hole */
	if (start != d->end || !size || size > length - start)
		return -EBADMSG;
	d->end = start + size;
	return status == '+' ? extent_set_add(used, start, size) : 0;
}

int usedblocks_parse_domain(const char *text, uint64_t length, struct extent_set *ret)
{
	_cleanup_extents_ struct extent_set used = { 0 };
	struct domain d = { 0 };
	int r;

	for (const char *at = text; *at;) {
		at += strspn(at, " \t\r\n");
		if (*at == '#') {
			at += strcspn(at, "\n");
		} else if (*at) {
			r = domain_line(&d, &at, length, &used);
			if (r < 0)
				return r;
		}
	}
	if (!d.end || d.position != d.end)
		return -EBADMSG;
	/*
	 * What lies behind the file system's end is in use: NTFS has its second boot sector there, and of the
	 * rest nothing is known.
	 */
	r = extent_set_add(&used, d.end, length - d.end);
	if (r < 0)
		return r;
	*ret = used;
	used = (struct extent_set){ 0 };
	return 0;
}

static int partclone_map(const char *tool, const char *path, uint64_t length, bool ignore_dirty,
			 struct extent_set *ret, struct err *e)
{
	/*
	 * -L: without it a log file stays behind in /var/log. -O: partclone.exfat also prints other things.
	 * -f 0: otherwise its progress thread sleeps two seconds before it lets go. Ends in -I and NULL, or in
	 * NULL and NULL.
	 */
	const char *argv[] = { tool,
			       "-D",
			       "-q",
			       "-B",
			       "-L",
			       "/dev/null",
			       "-a",
			       "0",
			       "-f",
			       "0",
			       "-s",
			       path,
			       "-O",
			       TOOL_ANSWER_PATH,
			       ignore_dirty ? "-I" : NULL,
			       NULL };
	_cleanup_free_ char *text = NULL;
	int r;

	r = tool_run(argv, true, &text, e);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	r = usedblocks_parse_domain(text, length, ret);
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0) {
		err_set(e, 0, "what %s said does not cover the file system", tool);
		return 0;
	}
	return 1;
}

static int xfs_map(const char *path, uint64_t length, bool frozen, struct extent_set *ret,
		   struct err *e)
{
	const char *argv[] = { "xfs_logprint", "-t", path, NULL };
	_cleanup_free_ char *text = NULL;
	int r;

	if (frozen)
		return usedblocks_xfs(path, length, ret, e);
	r = tool_run(argv, false, &text, e);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	if (!strstr(text, "state: <CLEAN>")) {
		err_set(e, 0, "its log is not replayed");
		return 0;
	}
	return usedblocks_xfs(path, length, ret, e);
}

static int btrfs_map(const char *path, uint64_t length, struct extent_set *ret, struct err *e)
{
	_cleanup_extents_ struct extent_set used = { 0 };
	const char *why = usedblocks_check_btrfs(path);
	int r;

	if (why) {
		err_set(e, 0, "%s", why);
		return 0;
	}
	r = partclone_map("partclone.btrfs", path, length, false, &used, e);
	if (r > 0)
		r = usedblocks_btrfs_add_copies(path, length, &used, e);
	if (r > 0) {
		*ret = used;
		used = (struct extent_set){ 0 };
	}
	return r;
}

static int f2fs_map(const char *path, uint64_t length, struct extent_set *ret, struct err *e)
{
	const char *why = usedblocks_check_f2fs(path, length);

	if (why) {
		err_set(e, 0, "%s", why);
		return 0;
	}
	return partclone_map("partclone.f2fs", path, length, false, ret, e);
}

/* Mounted (@live), it is marked as such on the medium: no reason to doubt its table. */
static int table_map(const char *tool, const char *path, uint64_t length, bool live,
		     struct extent_set *ret, struct err *e)
{
	uint64_t tail = length;
	const char *why = NULL;
	int r;

	if (!strcmp(tool, "partclone.vfat")) {
		why = usedblocks_check_vfat(path);
	} else if (!strcmp(tool, "partclone.exfat")) {
		why = usedblocks_exfat_tail(path, length, &tail);
	}
	if (why) {
		err_set(e, 0, "%s", why);
		return 0;
	}
	r = partclone_map(tool, path, length, live, ret, e);
	if (r > 0 && extent_set_add(ret, tail, length - tail) < 0)
		return err_oom(e);
	return r;
}

/* The file systems whose only allocation map is one table that is valid at every moment. */
static const char *table_tool(const char *fs_type)
{
	static const char *const tools[][2] = {
		{ "vfat", "partclone.vfat" },
		{ "exfat", "partclone.exfat" },
		{ "ntfs", "partclone.ntfs" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(tools); i++) {
		if (!strcmp(fs_type, tools[i][0]))
			return tools[i][1];
	}
	return NULL;
}

/* NOLINTBEGIN(readability-function-size): one parameter too many, all of them different */

static int clean_map(const char *path, const char *fs_type, uint64_t length, bool frozen,
		     struct extent_set *ret, const char **source, struct err *e)
{
	if (!strcmp(fs_type, "xfs")) {
		*source = "xfs-free-space";
		return xfs_map(path, length, frozen, ret, e);
	}
	if (!strcmp(fs_type, "btrfs")) {
		*source = "partclone.btrfs";
		return btrfs_map(path, length, ret, e);
	}
	if (!strcmp(fs_type, "f2fs")) {
		*source = "partclone.f2fs";
		return f2fs_map(path, length, ret, e);
	}
	err_set(e, 0, "no map of used blocks is known for %s", fs_type);
	return 0;
}

int usedblocks_map(const char *path, const char *fs_type, uint64_t length,
		   enum usedblocks_state state, struct extent_set *ret, const char **ret_source,
		   struct err *e)
{
	const bool live = state == USEDBLOCKS_LIVE;
	_cleanup_extents_ struct extent_set used = { 0 };
	const char *source = table_tool(fs_type);
	int r;

	if (source) {
		r = table_map(source, path, length, live, &used, e);
	} else if (!strcmp(fs_type, "ext2") || !strcmp(fs_type, "ext3") ||
		   !strcmp(fs_type, "ext4")) {
		source = "ext-bitmaps";
		r = usedblocks_ext(path, length, live, &used, e);
	} else if (live) {
		err_set(e, 0, "a mounted %s has no map that is valid at every moment", fs_type);
		r = 0;
	} else {
		r = clean_map(path, fs_type, length, state == USEDBLOCKS_FROZEN, &used, &source, e);
	}
	if (r <= 0)
		return r;
	extent_set_normalise(&used);
	*ret = used;
	used = (struct extent_set){ 0 };
	*ret_source = source;
	return 1;
}

/* NOLINTEND(readability-function-size) */
