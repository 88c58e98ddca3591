/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners-xfs-scene - real file systems for test-owners-xfs: made by mkfs.xfs and the kernel, and what the kernel's own
 * reverse map (GETFSMAP: a tree apart from all that is tested) says of them. Included once.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/fsmap.h>

#include <cmocka.h>

#include "lib/base/array.h"
#include "lib/base/extent.h"
#include "lib/layout/owners.h"

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

struct name {
	uint64_t inode, size;
	mode_t mode;
	char *path;
};

struct scene {
	char dir[64], disk[80], mnt[80];
	uint8_t *image;
	uint64_t size;
	struct bits truth;	  /* sorted; without inodes */
	struct extent_set inodes; /* where they are */
	struct name *names;	  /* sorted by inode */
	size_t n_names, names_allocated;
	int nameless; /* a file that is open and has no name any more; 0: there is none */
};

/* ftw() has no argument for it */
static struct scene *naming;

static void scene_run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void scene_run(const char *format, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	if (system(command) != 0) /* NOLINT(cert-env33-c) */
		fail_msg("%s", command);
}

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

static int scene_open(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	return fd;
}

static void scene_write(const char *name, size_t bytes, off_t offset)
{
	_cleanup_free_ char *data = malloc(bytes + 1);
	int fd = scene_open(name);

	assert_non_null(data);
	memset(data, name[0], bytes);
	assert_int_equal(pwrite(fd, data, bytes, offset), (ssize_t)bytes);
	close(fd);
}

static void scene_tag(const char *name, unsigned int count, size_t bytes)
{
	_cleanup_free_ char *value = calloc(1, bytes);
	char key[32];

	assert_non_null(value);
	scene_write(name, 10, 0);
	for (unsigned int i = 0; i < count; i++) {
		snprintf(key, sizeof(key), "user.tag%u", i);
		assert_int_equal(setxattr(name, key, value, bytes, 0), 0);
	}
}

static void scene_extents(unsigned int pieces, size_t block)
{
	int fd, clone;

	for (unsigned int i = 0; i < pieces; i++)
		scene_write("pieces", block, (off_t)(2 * i * block));
	scene_write("sparse", 5000, 0);
	scene_write("sparse", 100, INT64_C(1) << 40);
	scene_write("ahead", 3000, 0);
	fd = scene_open("ahead");
	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 200000), 0);
	close(fd);
	fd = scene_open("unwritten");
	assert_int_equal(fallocate(fd, 0, 0, 200000), 0);
	close(fd);
	scene_write("unwritten", 5000, 70000);
	scene_write("shared", 100000, 0);
	fd = scene_open("shared");
	clone = scene_open("clone");
	assert_int_equal(ioctl(clone, FICLONE, fd), 0);
	close(fd);
	close(clone);
	scene_write("clone", 9000, 40000);
}

static void scene_deep(const char *mnt)
{
	for (unsigned int i = 0; i < 60; i++) {
		char name[80];

		snprintf(name, sizeof(name), "%060u", i);
		assert_int_equal(mkdir(name, 0755), 0);
		assert_int_equal(chdir(name), 0);
	}
	scene_write("end", 20000, 0);
	assert_int_equal(chdir(mnt), 0);
}

/* In the working directory. */
static void scene_fill(const char *mnt, unsigned int many, size_t block)
{
	char name[256], target[1001];

	assert_int_equal(mkdir("small", 0755) | mkdir("names", 0755) | mkdir("few", 0755), 0);
	for (unsigned int i = 0; i < many / 10; i++) {
		snprintf(name, sizeof(name), "small/%u", i);
		scene_write(name, 1 + i * 37 % 9000, 0);
	}
	for (unsigned int i = 0; i < many; i++) {
		snprintf(name, sizeof(name), "names/%0*u", 50 + (int)(i * 7 % 150), i);
		scene_write(name, i % 50 ? 0 : 100, 0);
	}
	for (unsigned int i = 0; i < many; i += 3) {
		snprintf(name, sizeof(name), "names/%0*u", 50 + (int)(i * 7 % 150), i);
		assert_int_equal(unlink(name), 0);
	}
	scene_extents(many, block);
	scene_tag("tag", 1, 20);
	scene_tag("tags", 3, 900);
	scene_tag("large-tag", 1, 60000);
	scene_tag("many-tags", many / 5, 100);
	memset(target, 't', sizeof(target) - 1);
	target[sizeof(target) - 1] = '\0';
	assert_int_equal(symlink("few/target", "short-link") | symlink(target, "long-link"), 0);
	scene_write("few/first-name", 30000, 0);
	assert_int_equal(link("few/first-name", "second-name"), 0);
	assert_int_equal(mkfifo("few/pipe", 0644) | mknod("few/null", S_IFCHR | 0600, 0x103), 0);
	scene_deep(mnt);
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

static int name_compare(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static void scene_add_name(struct scene *s, const struct stat *st, const char *path)
{
	assert_int_equal(ARRAY_ROOM(s->names, s->n_names, s->names_allocated, 1024), 0);
	s->names[s->n_names++] = (struct name){
		.inode = st->st_ino,
		.size = (uint64_t)st->st_size,
		.mode = st->st_mode,
		.path = strdup(path),
	};
}

static int scene_note_name(const char *path, const struct stat *st, int type, struct FTW *f)
{
	const char *inside = path + strlen(naming->mnt);

	(void)type;
	(void)f;
	scene_add_name(naming, st, *inside ? inside : "/");
	return 0;
}

static void scene_note_names(struct scene *s)
{
	struct stat st;

	naming = s;
	assert_int_equal(nftw(s->mnt, scene_note_name, 16, FTW_PHYS), 0);
	if (s->nameless) {
		assert_int_equal(fstat(s->nameless, &st), 0);
		scene_add_name(s, &st, "");
	}
	qsort(s->names, s->n_names, sizeof(*s->names), name_compare);
}

/* One of the names of @inode. */
static const struct name *scene_name(const struct scene *s, uint64_t inode)
{
	const struct name key = { .inode = inode };

	return bsearch(&key, s->names, s->n_names, sizeof(key), name_compare);
}

/* @path: NULL where it has none. */
static bool scene_has(const struct scene *s, uint64_t inode, const char *path)
{
	const struct name *n = scene_name(s, inode), *end = s->names + s->n_names;

	while (n && n > s->names && n[-1].inode == inode)
		n--;
	for (; n && n < end && n->inode == inode; n++) {
		if (!strcmp(n->path, path ? path : ""))
			return true;
	}
	return false;
}

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
	n = scene_name(s, b.inode);
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
	int fd = open(s->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

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
	int fd;

	s->size = SCENE_BYTES;
	snprintf(s->dir, sizeof(s->dir), "%s/test-owners-xfs-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/var/tmp");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->disk, sizeof(s->disk), "%s/disk", s->dir);
	snprintf(s->mnt, sizeof(s->mnt), "%s/mnt", s->dir);
	assert_int_equal(mkdir(s->mnt, 0755), 0);
	fd = scene_open(s->disk);
	assert_int_equal(ftruncate(fd, (off_t)s->size), 0);
	close(fd);
	scene_run("mkfs.xfs -q -f %s %s 2>/dev/null", options, s->disk);
}

static void scene_map_image(struct scene *s)
{
	int fd = open(s->disk, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	s->image = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_true(s->image != MAP_FAILED);
	close(fd);
}

/* Read-only again for the questions: what the kernel only means to do when it unmounts is done by then. */
static void scene_finish(struct scene *s)
{
	scene_run("umount %s && mount -o loop,ro %s %s", s->mnt, s->disk, s->mnt);
	scene_note_names(s);
	scene_ask_kernel(s);
	scene_run("umount %s", s->mnt);
	scene_map_image(s);
}

/* As images are made, with a file that lives only as long as it is open. */
static void scene_finish_frozen(struct scene *s)
{
	char name[100];

	snprintf(name, sizeof(name), "%s/nameless", s->mnt);
	s->nameless = scene_open(name);
	assert_int_equal(fallocate(s->nameless, 0, 0, 5000), 0);
	assert_int_equal(pwrite(s->nameless, name, 50, 4000), 50);
	assert_int_equal(unlink(name), 0);
	scene_run("fsfreeze -f %s", s->mnt);
	scene_note_names(s);
	scene_ask_kernel(s);
	scene_run("cp --sparse=always %s %s.copy; fsfreeze -u %s", s->disk, s->disk, s->mnt);
	close(s->nameless);
	scene_run("umount %s && mv %s.copy %s", s->mnt, s->disk, s->disk);
	scene_map_image(s);
}

/* @many: how large it all is. @block: of the file system, bytes. */
static void scene_begin(struct scene *s, const char *options, unsigned int many, size_t block,
			bool fragmented)
{
	scene_mkfs(s, options);
	scene_run("mount -o loop %s %s", s->disk, s->mnt);
	assert_int_equal(chdir(s->mnt), 0);
	if (fragmented)
		scene_fragment(block);
	scene_fill(s->mnt, many, block);
	assert_int_equal(chdir("/"), 0);
}

static void scene_done(struct scene *s)
{
	if (s->image)
		munmap(s->image, s->size);
	if (s->disk[0])
		unlink(s->disk);
	if (s->mnt[0]) {
		/* only after a test that went wrong is anything mounted there */
		umount2(s->mnt, MNT_DETACH);
		rmdir(s->mnt);
	}
	if (s->dir[0])
		rmdir(s->dir);
	bits_done(&s->truth);
	extent_set_done(&s->inodes);
	for (size_t i = 0; i < s->n_names; i++)
		free(s->names[i].path);
	free(s->names);
	*s = (struct scene){ 0 };
}

/* ---- the question -------------------------------------------------------------------------------------------- */

struct scene_disk {
	const struct scene *s;
	const struct extent_set *lost; /* NULL: nothing */
};

static int scene_read(void *ctx, void *buf, size_t len, uint64_t offset, struct err *e)
{
	const struct scene_disk *d = ctx;

	assert_true(offset <= d->s->size && len <= d->s->size - offset);
	if (d->lost && extent_set_overlaps(d->lost, offset, len))
		return err_set(e, -EBADMSG, "lost on purpose");
	memcpy(buf, d->s->image + offset, len);
	return 0;
}

static int scene_find(const struct scene *s, const struct extent_set *wanted,
		      const struct extent_set *lost, struct owners *ret, struct err *e)
{
	struct scene_disk d = { s, lost };
	const struct owners_io io = { scene_read, &d, s->size };
	_cleanup_(cancel_done) struct cancel c;

	assert_int_equal(cancel_init(&c), 0);
	return owners_find("xfs", &io, wanted, &c, ret, e);
}

static int scene_find_all(const struct scene *s, const struct extent_set *lost, struct owners *ret,
			  struct err *e)
{
	struct extent all = { 0, s->size };
	const struct extent_set wanted = { .items = &all, .count = 1 };

	return scene_find(s, &wanted, lost, ret, e);
}
