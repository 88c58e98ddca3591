/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The entries of directories. Blocks of a directory's hash tree look like blocks with no entries but "." and "..", so
 * all blocks are read as if there were no tree: one of the tree that is lost costs no name.
 */
#include <errno.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/layout/owners_ext.h"

#define INLINE_AT     44u /* in the inode, behind the parent's number */
#define INLINE_PARENT 4u  /* bytes of that, which count as the directory's */
#define INLINE_BYTES  56u
/* An attribute in the name space "system.". */
#define SPACE_SYSTEM 7u
#define TAIL_TYPE    0xdeu
/* Entries of a hash tree's root and of its other nodes begin here. */
#define TREE_ROOT_AT 32u
#define TREE_NODE_AT 8u

struct entry {
	le32_t inode;
	le16_t length;
	uint8_t name_len, type;
};
struct tail {
	struct entry as_entry;
	le32_t check;
};
struct tree_count {
	le16_t limit, count;
};
struct tree_tail {
	le32_t reserved, check;
};
#define TREE_ENTRY_BYTES 8u
_Static_assert(sizeof(struct entry) == 8, "as on disk");
_Static_assert(sizeof(struct tail) == 12, "as on disk");

struct directory {
	struct ext *x;
	struct ext_inode i;
	uint64_t next; /* block of it */
	struct err *e;
};

static void directory_lost(const struct directory *d)
{
	owners_walk_lost(d->x->w, "names in directory %u", d->i.number);
}

static struct entry entry_at(const uint8_t *p, size_t at)
{
	struct entry n;

	memcpy(&n, p + at, sizeof(n));
	return n;
}

/* With blocks of 64 KiB lengths do not fit: their lowest two bits, which are zeros, are the highest. */
static size_t entry_length(const struct ext *x, const struct entry *n)
{
	const size_t length = le16_get(n->length);

	if (x->block_size < 65536)
		return length;
	return !length || length == 65535 ? 65536 : (length & 65532) | (length & 3) << 16;
}

static bool entries_valid(const struct ext *x, const uint8_t *p, size_t bytes)
{
	size_t at = 0;

	while (at < bytes) {
		struct entry n;
		size_t length;

		if (bytes - at < sizeof(n))
			return false;
		n = entry_at(p, at);
		length = entry_length(x, &n);
		if (length % 4 || length > bytes - at || length < sizeof(n) + n.name_len ||
		    le32_get(n.inode) > x->fs->super->s_inodes_count)
			return false;
		at += length;
	}
	return true;
}

static int number_compare(const void *a, const void *b)
{
	const uint32_t m = *(const uint32_t *)a, n = *(const uint32_t *)b;

	return m < n ? -1 : m > n;
}

/* Only what is one, whatever the entry says: there may be any number of these. */
static bool is_directory(const struct ext *x, const struct entry *n)
{
	const uint32_t inode = le32_get(n->inode);

	if (ext2fs_has_feature_filetype(x->fs->super) && n->type != EXT2_FT_UNKNOWN &&
	    n->type != EXT2_FT_DIR)
		return false;
	return x->n_directories &&
	       bsearch(&inode, x->directories, x->n_directories, sizeof(inode), number_compare);
}

static bool is_dots(const char *name, size_t len)
{
	return len <= 2 && !memcmp(name, "..", len);
}

static int tell_entries(struct directory *d, const uint8_t *p, size_t bytes)
{
	const struct owner_id parent = { .inode = d->i.number };
	struct ext *x = d->x;
	struct entry n;

	if (!entries_valid(x, p, bytes)) {
		directory_lost(d);
		return 0;
	}
	for (size_t at = 0; at < bytes; at += entry_length(x, &n)) {
		struct owner_id child;
		const char *name = (const char *)p + at + sizeof(n);
		int r;

		n = entry_at(p, at);
		child = (struct owner_id){ .inode = le32_get(n.inode) };
		if (!child.inode || is_dots(name, n.name_len))
			continue;
		r = owners_walk_entry(x->w, parent, child, is_directory(x, &n), name, n.name_len);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- blocks and their check values ---------------------------------------------------------------------- */

static uint32_t crc_at(const uint8_t *p)
{
	le32_t v;

	memcpy(&v, p, sizeof(v));
	return le32_get(v);
}

/* Is its last entry one with a check value? A root of a tree keeps the bytes of one, below an entry that is longer. */
static bool has_tail(const struct ext *x, const uint8_t *p)
{
	const size_t tail = x->block_size - sizeof(struct tail);
	struct entry n;
	size_t length;

	for (size_t at = 0; at < tail; at += length) {
		n = entry_at(p, at);
		length = entry_length(x, &n);
		if (!length || length > tail - at)
			return false;
	}
	n = entry_at(p, tail);
	return !le32_get(n.inode) && le16_get(n.length) == sizeof(struct tail) && !n.name_len &&
	       n.type == TAIL_TYPE;
}

/* As a block of the hash tree. */
static bool tree_check(const struct directory *d, const uint8_t *p)
{
	static const uint8_t zeros[4];
	const size_t size = d->x->block_size;
	const struct entry n = entry_at(p, 0);
	const size_t at = entry_length(d->x, &n) == size ? TREE_NODE_AT : TREE_ROOT_AT;
	struct tree_count c;
	size_t tail;
	uint32_t crc;

	memcpy(&c, p + at, sizeof(c));
	tail = at + le16_get(c.limit) * (size_t)TREE_ENTRY_BYTES;
	if (tail > size - sizeof(struct tree_tail) || le16_get(c.count) > le16_get(c.limit))
		return false;
	crc = ext2fs_crc32c_le(d->i.seed, p, at + le16_get(c.count) * (size_t)TREE_ENTRY_BYTES);
	crc = ext2fs_crc32c_le(crc, p + tail, sizeof(le32_t));
	crc = ext2fs_crc32c_le(crc, zeros, sizeof(zeros));
	return crc == crc_at(p + tail + offsetof(struct tree_tail, check));
}

static bool block_check(const struct directory *d, const uint8_t *p)
{
	const size_t tail = d->x->block_size - sizeof(struct tail);

	if (!d->x->checks)
		return true;
	if (!has_tail(d->x, p))
		return d->i.flags & EXT2_INDEX_FL && tree_check(d, p);
	return ext2fs_crc32c_le(d->i.seed, p, tail) ==
	       crc_at(p + tail + offsetof(struct tail, check));
}

/* At most EXT_READ_BYTES. */
static int tell_blocks(struct directory *d, uint64_t block, uint32_t count)
{
	struct ext *x = d->x;
	bool lost[EXT_READ_BLOCKS];
	int r;

	/* more than the file system has: only hostile directories share blocks */
	if (x->visits < count) {
		directory_lost(d);
		return 0;
	}
	x->visits -= count;
	r = ext_read_blocks(x, x->names, block, count, lost, d->e);
	for (uint32_t n = 0; r >= 0 && n < count; n++) {
		const uint8_t *p = x->names + (size_t)n * x->block_size;

		if (lost[n] || !block_check(d, p)) {
			directory_lost(d);
		} else {
			r = tell_entries(d, p, x->block_size);
		}
	}
	return r;
}

static int tell_run(void *ctx, const struct ext_run *run)
{
	struct directory *d = ctx;
	const uint64_t unit = EXT_READ_BYTES / d->x->block_size;
	const uint64_t end = d->i.size / d->x->block_size;
	uint64_t count;
	int r = 0;

	/* it has no holes */
	if (run->logical != d->next)
		directory_lost(d);
	d->next = run->logical + run->count;
	if (run->logical >= end)
		return 0;
	count = MIN(run->count, end - run->logical);
	for (uint64_t n = 0; r >= 0 && n < count; n += unit)
		r = tell_blocks(d, run->block + n, (uint32_t)MIN(unit, count - n));
	return r;
}

static int tell_node(void *ctx, uint64_t block)
{
	(void)ctx;
	(void)block;
	return 0;
}

/* ---- directories ---------------------------------------------------------------------------------------- */

/* What has no room where a map would be; false: there is no such. */
static bool inline_rest(const struct directory *d, struct ext_attr *ret)
{
	struct ext_attrs a;

	if (!ext_attrs_in_inode(d->x, &d->i, &a))
		return false;
	while (ext_attrs_next(&a, ret)) {
		if (ret->space == SPACE_SYSTEM && ret->name_len == 4 &&
		    !memcmp(ret->name, "data", 4) && ret->value && ret->value_len)
			return true;
	}
	return false;
}

static int tell_inline(struct directory *d)
{
	struct ext_attr n;
	const size_t rest = inline_rest(d, &n) ? n.value_len : 0;
	int r = tell_entries(d, d->i.raw + INLINE_AT, INLINE_BYTES);

	if (d->i.size != INLINE_PARENT + INLINE_BYTES + rest)
		directory_lost(d);
	return r < 0 || !rest ? r : tell_entries(d, n.value, rest);
}

static int tell_mapped(struct directory *d)
{
	const struct ext_map_seen seen = {
		.run = tell_run,
		.node = tell_node,
		.ctx = d,
	};
	int r = ext_map_walk(d->x, &d->i, &seen, d->e);

	if (r >= 0 && d->next != d->i.size / d->x->block_size)
		directory_lost(d);
	return r;
}

static int directory_entries(struct ext *x, uint32_t number, struct err *e)
{
	struct directory d = { .x = x, .e = e };
	int r = ext_inode_load(x, number, &d.i, e);

	if (r < 0)
		return r;
	if (!r || !ext_inode_sound(x, &d.i) || !LINUX_S_ISDIR(d.i.mode)) {
		directory_lost(&d);
		return 0;
	}
	/* these names are not the ones that anybody knows */
	if (d.i.flags & EXT4_ENCRYPT_FL)
		return 0;
	return ext_inode_inline(x, &d.i) ? tell_inline(&d) : tell_mapped(&d);
}

int ext_entries(struct ext *x, struct err *e)
{
	int r = 0;

	/* blocks of directories and of their maps, each once */
	x->visits = x->blocks;
	for (size_t n = 0; r >= 0 && n < x->n_directories; n++)
		r = directory_entries(x, x->directories[n], e);
	return r;
}
