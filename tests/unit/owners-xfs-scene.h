/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners-xfs-scene - real file systems for test-owners-xfs: made by mkfs.xfs and the kernel, and what the kernel's own
 * reverse map (GETFSMAP: a tree apart from all that is tested) says of them. Included once.
 */
#pragma once

#include <sys/ioctl.h>

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/fsmap.h>

#include "tests/unit/owners-scene.h"

#define SCENE_BYTES (UINT64_C(320) << 20)
#define UNIT	    512

/* What is known of one unit of the disk, or of as much of it as is a file's. */
struct bit {
	uint64_t at, inode, offset, length;
	uint64_t kind;
};
struct bits {
	struct bit *items;
	size_t count, allocated;
};

struct scene {
	struct scene_disk disk;
	struct bits truth;	  /* sorted; without inodes */
	struct extent_set inodes; /* where they are */
};

static int bit_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct bit));
}

/* big-endian, so that they sort as they compare: by place, inode, offset */
static void bits_add(struct bits *b, const struct bit *all)
{
	for (uint64_t done = 0; done < all->length;) {
		const uint64_t at = all->at + done;
		const uint64_t n = MIN(UNIT - at % UNIT, all->length - done);
		const bool data = all->kind == OWNER_DATA;

		assert_int_equal(ARRAY_ROOM(b->items, b->count, b->allocated, 4096), 0);
		b->items[b->count++] = (struct bit){
			.at = htobe64(at),
			.inode = htobe64(all->inode),
			.offset = htobe64(data ? all->offset + done : 0),
			.length = htobe64(n),
			.kind = htobe64(all->kind),
		};
		done += n;
	}
}

static void bits_sort(struct bits *b)
{
	if (b->count)
		qsort(b->items, b->count, sizeof(*b->items), bit_compare);
}

static void bits_done(struct bits *b)
{
	free(b->items);
	*b = (struct bits){ 0 };
}

/* ---- what is in it ---------------------------------------------------------------------------------------- */

static void scene_extents(unsigned int pieces, size_t block)
{
	int fd, clone;

	scene_scatter(pieces, block);
	scene_write("sparse", 5000, 0);
	scene_write("sparse", 100, INT64_C(1) << 40);
	scene_write("ahead", 3000, 0);
	scene_reserve();
	scene_write("shared", 100000, 0);
	fd = scene_open("shared");
	clone = scene_open("clone");
	assert_int_equal(ioctl(clone, FICLONE, fd), 0);
	close(fd);
	close(clone);
	scene_write("clone", 9000, 40000);
}

/* In the working directory. */
static void scene_fill(const struct scene *s, unsigned int many, size_t block)
{
	scene_names(many);
	scene_extents(many, block);
	scene_tag("tag", 1, 20, "");
	scene_tag("tags", 3, 900, "");
	scene_tag("large-tag", 1, 60000, "");
	scene_tag("many-tags", many / 5, 100, "");
	assert_int_equal(symlink("few/target", "short-link"), 0);
	scene_link("long-link", 1000);
	scene_rest(&s->disk);
}

/* How many pieces are @length bytes from @offset on in? */
static unsigned int scene_pieces(int fd, off_t offset, off_t length)
{
	struct fiemap m = { .fm_start = (uint64_t)offset, .fm_length = (uint64_t)length };

	assert_int_equal(ioctl(fd, FS_IOC_FIEMAP, &m), 0);
	return m.fm_mapped_extents;
}

/*
 * Leave nothing free but pieces of one to a few blocks: chunks of inodes have holes, directory blocks are in several places.
 * What the file system keeps back is free as well, and in one piece: it is taken at last, for pieces of what was taken first.
 */
static void scene_fragment(size_t block)
{
	const off_t span = 128 << 20;
	int fd = scene_open("fill"), rest = scene_open("rest");
	off_t at = 0;

	assert_int_equal(fallocate(fd, 0, 0, span), 0);
	for (off_t n = span; n >= (off_t)block; n /= 2) {
		while (fallocate(rest, FALLOC_FL_KEEP_SIZE, at, n) == 0)
			at += n;
	}
	for (off_t i = 0, n = (off_t)block; i < span; i += 2 * n) {
		n = (off_t)block * (i < span / 8 ? 1 : 41);
		assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i, n),
				 0);
	}
	while (fallocate(rest, FALLOC_FL_KEEP_SIZE, at, 65536) == 0 &&
	       scene_pieces(rest, at, 65536) < 2)
		at += 65536;
	close(fd);
	close(rest);
}

/* ---- what the kernel says of it ---------------------------------------------------------------------------- */

static void scene_take(struct scene *s, const struct fsmap *m)
{
	struct bit b = {
		.at = m->fmr_physical,
		.inode = m->fmr_owner,
		.offset = m->fmr_offset,
		.length = m->fmr_length,
		.kind = OWNER_DATA,
	};
	const struct name *n;

	if (m->fmr_flags & FMR_OF_SPECIAL_OWNER) {
		if (m->fmr_owner == FMR_OWNER('X', 5))
			assert_int_equal(extent_set_add(&s->inodes, b.at, b.length), 0);
		return;
	}
	n = scene_name(&s->disk, b.inode);
	assert_non_null(n);
	if (m->fmr_flags & FMR_OF_EXTENT_MAP) {
		b.kind = OWNER_MAP;
	} else if (m->fmr_flags & FMR_OF_ATTR_FORK) {
		b.kind = OWNER_ATTRIBUTES;
	} else if (S_ISDIR(n->mode)) {
		b.kind = OWNER_DIRECTORY;
	} else if (S_ISLNK(n->mode)) {
		b.kind = OWNER_LINK;
	} else {
		if (m->fmr_flags & FMR_OF_PREALLOC || b.offset >= n->size)
			return;
		b.length = MIN(b.length, n->size - b.offset);
	}
	bits_add(&s->truth, &b);
}

static void scene_ask_kernel(struct scene *s)
{
	struct fsmap_head *h = calloc(1, fsmap_sizeof(1024));
	int fd = open(s->disk.mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_non_null(h);
	assert_true(fd >= 0);
	h->fmh_count = 1024;
	memset(&h->fmh_keys[1], 0xff, sizeof(h->fmh_keys[1]));
	h->fmh_keys[1].fmr_length = 0;
	memset(h->fmh_keys[1].fmr_reserved, 0, sizeof(h->fmh_keys[1].fmr_reserved));
	for (bool last = false; !last;) {
		assert_int_equal(ioctl(fd, FS_IOC_GETFSMAP, h), 0);
		assert_true(h->fmh_entries);
		for (unsigned int i = 0; i < h->fmh_entries; i++)
			scene_take(s, &h->fmh_recs[i]);
		last = h->fmh_recs[h->fmh_entries - 1].fmr_flags & FMR_OF_LAST;
		fsmap_advance(h);
	}
	close(fd);
	free(h);
	bits_sort(&s->truth);
	extent_set_normalise(&s->inodes);
}

/* ---- its life ------------------------------------------------------------------------------------------------ */

static void scene_mkfs(struct scene *s, const char *options)
{
	scene_disk_begin(&s->disk, scene_room(), "xfs", "xfs", SCENE_BYTES);
	scene_run("mkfs.xfs -q -f %s %s 2>/dev/null", options, s->disk.file);
}

/* Read-only again for the questions: what the kernel only means to do when it unmounts is done by then. */
static void scene_finish(struct scene *s)
{
	struct scene_disk *d = &s->disk;

	scene_run("umount %s && mount -o loop,ro %s %s", d->mnt, d->file, d->mnt);
	scene_note_names(d);
	scene_ask_kernel(s);
	scene_run("umount %s", d->mnt);
	scene_map(d);
}

/* With a file that lives only as long as it is open. */
static void scene_finish_frozen(struct scene *s)
{
	struct scene_disk *d = &s->disk;
	char name[100];

	snprintf(name, sizeof(name), "%s/nameless", d->mnt);
	d->nameless = scene_open(name);
	assert_int_equal(fallocate(d->nameless, 0, 0, 5000), 0);
	assert_int_equal(pwrite(d->nameless, name, 50, 4000), 50);
	assert_int_equal(unlink(name), 0);
	scene_freeze(d);
	scene_ask_kernel(s);
	scene_thaw(d);
}

/* @many: how large it all is. @block: of the file system, bytes. */
static void scene_begin(struct scene *s, const char *options, unsigned int many, size_t block,
			bool fragmented)
{
	scene_mkfs(s, options);
	scene_mount(&s->disk);
	if (fragmented)
		scene_fragment(block);
	scene_fill(s, many, block);
	assert_int_equal(chdir("/"), 0);
}

static void scene_done(struct scene *s)
{
	scene_disk_end(&s->disk);
	bits_done(&s->truth);
	extent_set_done(&s->inodes);
	*s = (struct scene){ 0 };
}
