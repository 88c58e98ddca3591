/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners-scene - a file system in a file for the tests of owners_find(): its life, what the several kinds have in common
 * of what is in it, which names the kernel says there are, and the question, with bytes lost. Included once.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/array.h"
#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/extent.h"
#include "lib/base/io.h"
#include "lib/layout/owners.h"

struct name {
	uint64_t inode, size;
	mode_t mode;
	char *path; /* NULL: it has none any more */
};

/* The first member of each kind's `struct scene`. */
struct scene_disk {
	const char *type; /* as owners_find() is told */
	char dir[64], file[96],
		mnt[80]; /* a scratch folder, the disk in it, and where that is mounted */
	uint8_t *image;	 /* private: what is changed here is changed for this process alone */
	uint64_t size;
	struct name *names; /* by inode */
	size_t n_names, names_allocated;
	int nameless; /* a file that is open and has no name any more; 0: there is none */
};

/* ftw() has no argument for it */
static struct scene_disk *naming;

static unsigned int seed = 1;

static inline uint64_t any(uint64_t below)
{
	const uint64_t n = ((uint64_t)rand_r(&seed) << 31) ^ (uint64_t)rand_r(&seed);

	return below ? n % below : 0;
}

static inline void scene_run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline void scene_run(const char *format, ...)
{
	char command[2048];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	if (system(command) != 0) /* NOLINT(cert-env33-c) */
		fail_msg("%s", command);
}

/* ---- what is in it: in the working directory --------------------------------------------------------------- */

static inline int scene_open(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0)
		fail_msg("cannot open %s", name);
	return fd;
}

static inline void scene_write(const char *name, size_t bytes, off_t offset)
{
	_cleanup_free_ char *data = malloc(bytes + 1);
	int fd = scene_open(name);

	assert_non_null(data);
	memset(data, name[0], bytes);
	assert_int_equal(pwrite(fd, data, bytes, offset), (ssize_t)bytes);
	close(fd);
}

/* @mark: at each multiple of 256 of a value, if all of these 256 bytes are in it; the rest is zeros. */
static inline void scene_tag(const char *name, unsigned int count, size_t bytes, const char *mark)
{
	_cleanup_free_ char *value = calloc(1, bytes);
	char key[32];

	assert_non_null(value);
	scene_write(name, 10, 0);
	for (size_t i = 0; i + 256 <= bytes; i += 256)
		memcpy(value + i, mark, strlen(mark));
	for (unsigned int i = 0; i < count; i++) {
		snprintf(key, sizeof(key), "user.tag%u", i);
		assert_int_equal(setxattr(name, key, value, bytes, 0), 0);
	}
}

/* To a target of @length bytes. */
static inline void scene_link(const char *name, size_t length)
{
	_cleanup_free_ char *target = malloc(length + 1);

	assert_non_null(target);
	memset(target, 't', length);
	target[length] = '\0';
	assert_int_equal(symlink(target, name), 0);
}

/* Small files, and a directory of @many names of which a third went again. */
static inline void scene_names(unsigned int many)
{
	char name[256];

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
}

/* A file that has every other of its blocks. */
static inline void scene_scatter(unsigned int blocks, uint64_t block)
{
	for (unsigned int i = 0; i < blocks; i++)
		scene_write("pieces", block, (off_t)(2 * i * block));
}

/* Blocks of a file behind its end, and blocks of one in which nothing was written. */
static inline void scene_reserve(void)
{
	int fd = scene_open("ahead");

	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 200000), 0);
	close(fd);
	fd = scene_open("unwritten");
	assert_int_equal(fallocate(fd, 0, 0, 200000), 0);
	close(fd);
	scene_write("unwritten", 5000, 70000);
}

/* A file with two names, what has no bytes of its own, and a file with a very long path. */
static inline void scene_rest(const struct scene_disk *d)
{
	scene_write("few/first-name", 30000, 0);
	assert_int_equal(link("few/first-name", "second-name"), 0);
	assert_int_equal(mkfifo("few/pipe", 0644) | mknod("few/null", S_IFCHR | 0600, 0x103), 0);
	for (unsigned int i = 0; i < 60; i++) {
		char name[80];

		snprintf(name, sizeof(name), "%060u", i);
		assert_int_equal(mkdir(name, 0755), 0);
		assert_int_equal(chdir(name), 0);
	}
	scene_write("end", 20000, 0);
	assert_int_equal(chdir(d->mnt), 0);
}

/* ---- its names ------------------------------------------------------------------------------------------------ */

static inline int name_compare(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static inline void scene_add_name(struct scene_disk *d, const struct stat *st, const char *path)
{
	assert_int_equal(ARRAY_ROOM(d->names, d->n_names, d->names_allocated, 1024), 0);
	d->names[d->n_names++] = (struct name){
		.inode = st->st_ino,
		.size = (uint64_t)st->st_size,
		.mode = st->st_mode,
		.path = path ? strdup(path) : NULL,
	};
}

static inline int scene_note_name(const char *path, const struct stat *st, int type, struct FTW *f)
{
	const char *inside = path + strlen(naming->mnt);

	(void)type;
	(void)f;
	scene_add_name(naming, st, *inside ? inside : "/");
	return 0;
}

/* Of what is mounted. */
static inline void scene_note_names(struct scene_disk *d)
{
	struct stat st;

	naming = d;
	assert_int_equal(nftw(d->mnt, scene_note_name, 16, FTW_PHYS), 0);
	if (d->nameless) {
		assert_int_equal(fstat(d->nameless, &st), 0);
		scene_add_name(d, &st, NULL);
	}
	qsort(d->names, d->n_names, sizeof(*d->names), name_compare);
}

/* One of the names of @inode. */
static inline const struct name *scene_name(const struct scene_disk *d, uint64_t inode)
{
	const struct name key = { .inode = inode };

	return bsearch(&key, d->names, d->n_names, sizeof(key), name_compare);
}

static inline const struct name *scene_named(const struct scene_disk *d, const char *path)
{
	for (size_t i = 0; i < d->n_names; i++) {
		if (d->names[i].path && !strcmp(d->names[i].path, path))
			return &d->names[i];
	}
	fail_msg("no %s", path);
	return NULL;
}

/* Is @path one of the names of @inode? NULL: has it none? */
static inline bool scene_has(const struct scene_disk *d, uint64_t inode, const char *path)
{
	const struct name *n = scene_name(d, inode), *end = d->names + d->n_names;

	while (n && n > d->names && n[-1].inode == inode)
		n--;
	for (; n && n < end && n->inode == inode; n++) {
		if (path && n->path ? !strcmp(n->path, path) : path == n->path)
			return true;
	}
	return false;
}

/* ---- its life ------------------------------------------------------------------------------------------------- */

/* Where folders of scenes are: in memory, if that can be. */
static inline const char *scene_room(void)
{
	return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/var/tmp";
}

/* An empty disk, in a folder @room/test-owners-@test-XXXXXX. */
static inline void scene_disk_begin(struct scene_disk *d, const char *room, const char *test,
				    const char *type, uint64_t size)
{
	int fd;

	d->type = type;
	d->size = size;
	snprintf(d->dir, sizeof(d->dir), "%s/test-owners-%s-XXXXXX", room, test);
	assert_non_null(mkdtemp(d->dir));
	snprintf(d->file, sizeof(d->file), "%s/disk", d->dir);
	snprintf(d->mnt, sizeof(d->mnt), "%s/mnt", d->dir);
	assert_int_equal(mkdir(d->mnt, 0755), 0);
	fd = scene_open(d->file);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

/* And go there. */
static inline void scene_mount(const struct scene_disk *d)
{
	scene_run("mount -o loop %s %s", d->file, d->mnt);
	assert_int_equal(chdir(d->mnt), 0);
}

static inline void scene_map(struct scene_disk *d)
{
	_cleanup_close_ int fd = open(d->file, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(io_size(fd, &d->size), 0);
	d->image = mmap(NULL, d->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
	assert_true(d->image != MAP_FAILED);
}

/* As images are made: from here to scene_thaw() the kernel can be asked about just what the image will have. */
static inline void scene_freeze(struct scene_disk *d)
{
	scene_run("fsfreeze -f %s", d->mnt);
	scene_note_names(d);
}

static inline void scene_thaw(struct scene_disk *d)
{
	scene_run("cp --sparse=always %s %s.copy; fsfreeze -u %s", d->file, d->file, d->mnt);
	close(d->nameless);
	scene_run("umount %s && mv %s.copy %s", d->mnt, d->file, d->file);
	scene_map(d);
}

static inline void scene_disk_end(struct scene_disk *d)
{
	if (d->image)
		munmap(d->image, d->size);
	if (d->file[0])
		unlink(d->file);
	if (d->mnt[0]) {
		/* only after a test that went wrong is anything mounted there */
		umount2(d->mnt, MNT_DETACH);
		rmdir(d->mnt);
	}
	if (d->dir[0])
		rmdir(d->dir);
	for (size_t i = 0; i < d->n_names; i++)
		free(d->names[i].path);
	free(d->names);
	*d = (struct scene_disk){ 0 };
}

/* ---- the question ----------------------------------------------------------------------------------------------- */

struct scene_reader {
	const struct scene_disk *disk;
	const struct extent_set *lost; /* NULL: nothing */
};

static inline int scene_read(void *ctx, void *buf, size_t len, uint64_t offset, struct err *e)
{
	const struct scene_reader *r = ctx;

	assert_true(offset <= r->disk->size && len <= r->disk->size - offset);
	if (r->lost && extent_set_overlaps(r->lost, offset, len))
		return err_set(e, -EBADMSG, "lost on purpose");
	memcpy(buf, r->disk->image + offset, len);
	return 0;
}

static inline int scene_find(const struct scene_disk *d, const struct extent_set *wanted,
			     const struct extent_set *lost, struct owners *ret, struct err *e)
{
	struct scene_reader r = { d, lost };
	const struct owners_io io = { scene_read, &r, d->size };
	_cleanup_(cancel_done) struct cancel c;

	assert_int_equal(cancel_init(&c), 0);
	return owners_find(d->type, &io, wanted, &c, ret, e);
}

static inline int scene_find_at(const struct scene_disk *d, struct extent x,
				const struct extent_set *lost, struct owners *ret, struct err *e)
{
	const struct extent_set wanted = { .items = &x, .count = 1 };

	return scene_find(d, &wanted, lost, ret, e);
}

static inline int scene_find_all(const struct scene_disk *d, const struct extent_set *lost,
				 struct owners *ret, struct err *e)
{
	return scene_find_at(d, (struct extent){ 0, d->size }, lost, ret, e);
}

/* @n stretches with or near something that is told in @all; normalised. */
static inline void scene_stretches(const struct owners *all, unsigned int n, struct extent_set *ret)
{
	while (n--) {
		const struct owner *near = &all->items[any(all->count)];
		const uint64_t from = near->at - MIN(near->at, any(9000));

		assert_int_equal(extent_set_add(ret, from, 1 + any(50000)), 0);
	}
	extent_set_normalise(ret);
}
