/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Three walks (owners_fs.h). The first finds who holds the bytes. The second finds in which directory each of these, and
 * each directory, is; so it is known which directories are on the way from the root to any of them. The third notes the
 * names of those. So of a million directories that are not on the way nothing is kept but two numbers each.
 *
 * A damaged file system may say anything: a path is made only where the way up ends at the root, within DEPTH_MAX steps.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/cleanup.h"
#include "lib/base/text.h"
#include "lib/layout/owners.h"
#include "lib/layout/owners_fs.h"

#define LINKS_MAX	8 /* names of a file that are looked at */
#define DEPTH_MAX	4096
#define PATH_BYTES_MAX	65536
#define GROWN_FIRST	((size_t)65536)
#define NAME_BYTES_MAX	4096
#define PATHS_BYTES_MAX ((size_t)64 << 20) /* of all together */

/* Where an inode is: of directories all, of others those that hold what was asked for. */
struct link {
	struct owner_id child, parent;
	bool directory;
	bool wanted; /* its name is needed */
	char *name;  /* allocated, when it is known */
};

struct owners_walk {
	const struct owners_io *io;
	const struct extent_set *wanted;
	struct cancel *cancel;
	struct owners *found;
	struct extent_set named;  /* bytes that have an owner */
	size_t named_most;	  /* extents, before they are merged again */
	struct owner_id *holders; /* of found->items, sorted, each once */
	size_t n_holders;
	struct link *links; /* sorted by child once they are complete */
	size_t n_links, links_allocated, links_most;
	bool naming; /* the third walk */
};

const char *owner_kind_name(enum owner_kind k)
{
	static const char *const names[] = {
		[OWNER_DATA] = "data", [OWNER_DIRECTORY] = "directory",
		[OWNER_LINK] = "link", [OWNER_ATTRIBUTES] = "attributes",
		[OWNER_MAP] = "map",
	};

	return names[k];
}

void owners_done(struct owners *o)
{
	for (size_t i = 0; i < o->count; i++)
		free(o->items[i].path);
	free(o->items);
	extent_set_done(&o->others);
	*o = (struct owners){ 0 };
}

int owner_id_compare(const void *a, const void *b)
{
	const struct owner_id *x = a, *y = b;

	if (x->tree != y->tree)
		return x->tree < y->tree ? -1 : 1;
	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static struct owner_id owner_id_of(const struct owner *o)
{
	return (struct owner_id){ .tree = o->tree, .inode = o->inode };
}

/* ---- what a file system tells ------------------------------------------------------------------------- */

uint64_t owners_walk_size(const struct owners_walk *w)
{
	return w->io->size;
}

int owners_walk_read(struct owners_walk *w, void *buf, size_t len, uint64_t offset, struct err *e)
{
	int r;

	if (cancel_raised(w->cancel))
		return err_set(e, -ECANCELED, "interrupted");
	if (offset > w->io->size || len > w->io->size - offset) {
		return err_set(e, -EBADMSG, "byte %" PRIu64 " lies outside the file system",
			       offset);
	}
	r = w->io->read(w->io->ctx, buf, len, offset, e);
	return r == -EIO ? -EBADMSG : r;
}

bool owners_walk_wants(const struct owners_walk *w, uint64_t at, uint64_t length)
{
	return length && at < w->io->size &&
	       extent_set_overlaps(w->wanted, at, MIN(length, w->io->size - at));
}

static int walk_add_piece(struct owners_walk *w, const struct owner *o)
{
	struct owners *found = w->found;

	if (extent_set_add(&w->named, o->at, o->length) < 0)
		return -ENOMEM;
	/* however often the same is told, it takes no more room than what it is told of */
	if (w->named.count > w->named_most) {
		extent_set_normalise(&w->named);
		w->named_most = MAX(2 * w->named.count, GROWN_FIRST);
	}
	if (found->count == OWNERS_MAX) {
		found->more = true;
		return 0;
	}
	if (ARRAY_ROOM(found->items, found->count, found->allocated, 64) < 0)
		return -ENOMEM;
	found->items[found->count++] = *o;
	return 0;
}

/* What of @piece is wanted; @packed: each part of it holds all that the whole holds. */
static int walk_take_piece(struct owners_walk *w, const struct owner *piece, bool packed)
{
	const uint64_t at = piece->at;
	uint64_t end;

	if (cancel_raised(w->cancel))
		return -ECANCELED;
	if (at >= w->io->size || !piece->length)
		return 0;
	end = at + MIN(piece->length, w->io->size - at);
	for (size_t i = extent_set_find(w->wanted, at);
	     i < w->wanted->count && w->wanted->items[i].start < end; i++) {
		const struct extent *x = &w->wanted->items[i];
		const uint64_t from = MAX(x->start, at), to = MIN(extent_end(x), end);
		struct owner o = *piece;
		int r;

		o.at = from;
		o.length = to - from;
		if (!packed) {
			o.offset += from - at;
			o.held = o.length;
		}
		r = walk_add_piece(w, &o);
		if (r < 0)
			return r;
	}
	return 0;
}

int owners_walk_piece(struct owners_walk *w, struct owner_id id, enum owner_kind kind, uint64_t at,
		      uint64_t length, uint64_t offset)
{
	const struct owner piece = {
		.tree = id.tree,
		.inode = id.inode,
		.kind = kind,
		.at = at,
		.length = length,
		.offset = offset,
	};

	return walk_take_piece(w, &piece, false);
}

int owners_walk_packed(struct owners_walk *w, struct owner_id id, uint64_t at, uint64_t length,
		       uint64_t offset, uint64_t held)
{
	const struct owner piece = {
		.tree = id.tree,
		.inode = id.inode,
		.kind = OWNER_DATA,
		.at = at,
		.length = length,
		.offset = offset,
		.held = held,
	};

	return walk_take_piece(w, &piece, true);
}

const struct owner_id *owners_walk_holders(const struct owners_walk *w, size_t *ret_n)
{
	*ret_n = w->n_holders;
	return w->holders;
}

static bool walk_holds(const struct owners_walk *w, const struct owner_id *id)
{
	return w->n_holders && bsearch(id, w->holders, w->n_holders, sizeof(*id), owner_id_compare);
}

static int link_compare(const void *a, const void *b)
{
	const struct link *x = a, *y = b;
	const int r = owner_id_compare(&x->child, &y->child);

	return r ? r : owner_id_compare(&x->parent, &y->parent);
}

/* The first of @child's, which are one behind the other; NULL: it has none. */
static struct link *walk_link(const struct owners_walk *w, const struct owner_id *child)
{
	size_t low = 0, high = w->n_links;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (owner_id_compare(&w->links[middle].child, child) < 0) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low < w->n_links && !owner_id_compare(&w->links[low].child, child) ? &w->links[low]
										  : NULL;
}

/* The next one of the same child. */
static struct link *walk_next_link(const struct owners_walk *w, struct link *l)
{
	return l + 1 < w->links + w->n_links && !owner_id_compare(&l[1].child, &l->child) ? l + 1
											  : NULL;
}

/*
 * A directory has one, a file as many as are needed: of some the way to the root may be lost. The same in the same directory
 * counts once.
 */
static void walk_sort_links(struct owners_walk *w)
{
	size_t kept = 0, same = 1;

	if (!w->n_links)
		return;
	qsort(w->links, w->n_links, sizeof(*w->links), link_compare);
	for (size_t i = 1; i < w->n_links; i++) {
		const struct link *l = &w->links[i];

		if (owner_id_compare(&w->links[kept].child, &l->child) != 0) {
			same = 0;
		} else if (l->directory || same == LINKS_MAX ||
			   !owner_id_compare(&w->links[kept].parent, &l->parent)) {
			continue;
		}
		same++;
		w->links[++kept] = *l;
	}
	w->n_links = kept + 1;
}

/* A name that no file can have is damage; the entry names nothing. */
static bool name_valid(const char *name, size_t len)
{
	return len && len <= NAME_BYTES_MAX && !memchr(name, '/', len) && !memchr(name, 0, len);
}

/* The third walk: is it a name that is needed? */
static int walk_name(struct owners_walk *w, const struct owner_id *parent,
		     const struct owner_id *child, const char *name, size_t len)
{
	struct link *l = walk_link(w, child);

	while (l && owner_id_compare(&l->parent, parent) != 0)
		l = walk_next_link(w, l);
	if (!l || !l->wanted || l->name)
		return 0;
	l->name = text_of(name, len);
	return l->name ? 0 : -ENOMEM;
}

int owners_walk_entry(struct owners_walk *w, struct owner_id parent, struct owner_id child,
		      bool directory, const char *name, size_t len)
{
	if (cancel_raised(w->cancel))
		return -ECANCELED;
	if (!name_valid(name, len))
		return 0;
	if (w->naming)
		return walk_name(w, &parent, &child, name, len);
	if (!directory && !walk_holds(w, &child))
		return 0;
	/* as with `named` */
	if (w->n_links > w->links_most) {
		walk_sort_links(w);
		w->links_most = MAX(2 * w->n_links, GROWN_FIRST);
	}
	if (ARRAY_ROOM(w->links, w->n_links, w->links_allocated, 1024) < 0)
		return -ENOMEM;
	w->links[w->n_links++] =
		(struct link){ .child = child, .parent = parent, .directory = directory };
	return 0;
}

int owners_walk_check(const struct owners_walk *w)
{
	return cancel_raised(w->cancel) ? -ECANCELED : 0;
}

void owners_walk_lost(struct owners_walk *w, const char *format, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	w->found->incomplete = true;
	if (w->found->lost.code)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	err_set(&w->found->lost, -EBADMSG, "%s", text);
}

/* ---- names ---------------------------------------------------------------------------------------------- */

static int walk_make_holders(struct owners_walk *w)
{
	const struct owners *o = w->found;

	w->holders = reallocarray(NULL, o->count + 1, sizeof(*w->holders));
	if (!w->holders)
		return -ENOMEM;
	for (size_t i = 0; i < o->count; i++)
		w->holders[i] = owner_id_of(&o->items[i]);
	qsort(w->holders, o->count, sizeof(*w->holders), owner_id_compare);
	for (size_t i = 0; i < o->count; i++) {
		if (!w->n_holders ||
		    owner_id_compare(&w->holders[w->n_holders - 1], &w->holders[i]) != 0)
			w->holders[w->n_holders++] = w->holders[i];
	}
	return 0;
}

/* Mark all that is on the ways from the root to @id. */
static void walk_want(struct owners_walk *w, struct owner_id id)
{
	for (struct link *l = walk_link(w, &id); l; l = walk_next_link(w, l)) {
		struct link *up = l;

		for (unsigned int depth = 0; up && !up->wanted && depth < DEPTH_MAX; depth++) {
			up->wanted = true;
			up = walk_link(w, &up->parent);
		}
	}
}

/* The path by way of @l, written from the end of @path on, of PATH_BYTES_MAX bytes; NULL: it does not lead to the root. */
static const char *walk_way(const struct owners_walk *w, struct owner_id root, const struct link *l,
			    char *path)
{
	size_t at = PATH_BYTES_MAX - 1;

	path[at] = '\0';
	for (unsigned int depth = 0; depth < DEPTH_MAX; depth++) {
		const size_t len = l && l->name ? strlen(l->name) : 0;

		if (!len || len + 1 > at)
			return NULL;
		at -= len;
		memcpy(path + at, l->name, len);
		path[--at] = '/';
		if (!owner_id_compare(&l->parent, &root))
			return path + at;
		l = walk_link(w, &l->parent);
	}
	return NULL;
}

/* The path of @id, allocated; NULL in *@ret: it has none. @room: PATH_BYTES_MAX bytes. 0 or -ENOMEM. */
static int walk_path(const struct owners_walk *w, struct owner_id root, struct owner_id id,
		     char *room, char **ret)
{
	const char *path = owner_id_compare(&id, &root) ? NULL : "/";

	for (struct link *l = walk_link(w, &id); l && !path; l = walk_next_link(w, l))
		path = walk_way(w, root, l, room);
	*ret = path ? strdup(path) : NULL;
	return path && !*ret ? -ENOMEM : 0;
}

/* Deep directories make long paths of many files; what does not fit any more is left out. */
static int walk_make_paths(const struct owners_walk *w, struct owner_id root)
{
	_cleanup_free_ char *room = malloc(PATH_BYTES_MAX);
	struct owners *o = w->found;
	size_t bytes = 0;

	if (!room)
		return -ENOMEM;
	for (size_t i = 0; i < o->count; i++) {
		const struct owner_id id = owner_id_of(&o->items[i]);
		int r = owners_walk_check(w);

		if (r >= 0)
			r = walk_path(w, root, id, room, &o->items[i].path);
		if (r < 0)
			return r;
		bytes += o->items[i].path ? strlen(o->items[i].path) : 0;
		if (bytes > PATHS_BYTES_MAX && i + 1 < o->count) {
			o->count = i + 1;
			o->more = true;
		}
	}
	return 0;
}

static int owner_compare(const void *a, const void *b)
{
	const struct owner *x = a, *y = b;
	const struct owner_id p = owner_id_of(x), q = owner_id_of(y);

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return owner_id_compare(&p, &q);
}

static bool owner_continues(const struct owner *a, const struct owner *b)
{
	return a->tree == b->tree && a->inode == b->inode && a->kind == b->kind &&
	       a->at + a->length == b->at &&
	       (a->kind != OWNER_DATA || a->offset + a->held == b->offset);
}

/* In order, and what a file holds in one piece as one. */
static void owners_sort(struct owners *o)
{
	size_t kept = 0;

	if (!o->count)
		return;
	qsort(o->items, o->count, sizeof(*o->items), owner_compare);
	for (size_t i = 1; i < o->count; i++) {
		if (owner_continues(&o->items[kept], &o->items[i])) {
			o->items[kept].length += o->items[i].length;
			o->items[kept].held += o->items[i].held;
		} else {
			o->items[++kept] = o->items[i];
		}
	}
	o->count = kept + 1;
}

static int walk_name_all(struct owners_walk *w, const struct owners_fs *fs, void *state,
			 struct err *e)
{
	const struct owner_id root = fs->root(state);
	int r = walk_make_holders(w);

	if (r >= 0 && w->n_holders)
		r = fs->entries(state, e);
	if (r < 0 || !w->n_holders)
		return r;
	walk_sort_links(w);
	for (size_t i = 0; i < w->n_holders; i++)
		walk_want(w, w->holders[i]);
	w->naming = true;
	r = fs->entries(state, e);
	return r < 0 ? r : walk_make_paths(w, root);
}

/* ---- all of it ------------------------------------------------------------------------------------------ */

static const struct owners_fs *owners_fs_of(const char *type)
{
	if (!strcmp(type, "ext2") || !strcmp(type, "ext3") || !strcmp(type, "ext4"))
		return &owners_ext;
	if (!strcmp(type, "xfs"))
		return &owners_xfs;
	return !strcmp(type, "btrfs") ? &owners_btrfs : NULL;
}

static void walk_done(struct owners_walk *w)
{
	for (size_t i = 0; i < w->n_links; i++)
		free(w->links[i].name);
	free(w->links);
	free(w->holders);
	extent_set_done(&w->named);
}

static int walk_all(struct owners_walk *w, const struct owners_fs *fs, void *state, struct err *e)
{
	int r = fs->pieces(state, e);

	if (r < 0)
		return r;
	owners_sort(w->found);
	extent_set_normalise(&w->named);
	r = extent_set_subtract(w->wanted, &w->named, &w->found->others);
	return r < 0 ? r : walk_name_all(w, fs, state, e);
}

int owners_find(const char *fs_type, const struct owners_io *io, const struct extent_set *wanted,
		struct cancel *c, struct owners *ret, struct err *e)
{
	_cleanup_(walk_done) struct owners_walk w = {
		.io = io,
		.wanted = wanted,
		.cancel = c,
		.found = ret,
	};
	const struct owners_fs *fs = owners_fs_of(fs_type);
	struct err own = { 0 };
	void *state = NULL;
	int r;

	*ret = (struct owners){ 0 };
	if (!fs)
		return err_set(e, -ENOTSUP, "%s is not understood", fs_type);
	r = fs->open(&w, &state, &own);
	if (r >= 0) {
		r = walk_all(&w, fs, state, &own);
		fs->close(state);
	}
	if (r >= 0)
		return 0;
	if (r == -ENOMEM)
		return err_oom(e);
	if (r == -ECANCELED)
		return err_set(e, r, "interrupted");
	if (own.code)
		return err_set(e, r, "%s", own.text);
	return err_set_errno(e, r, "cannot read the %s", fs_type);
}
