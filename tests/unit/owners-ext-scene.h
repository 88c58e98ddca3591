/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners-ext-scene - real file systems for test-owners-ext: made by mke2fs and the kernel, copied while they are frozen. What is
 * true of them is said by the kernel (FIEMAP), and where it says nothing by debugfs. Included once.
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
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/fs.h>

#include <cmocka.h>

#include "lib/base/array.h"
#include "lib/base/cancel.h"
#include "lib/base/extent.h"
#include "lib/base/io.h"
#include "lib/layout/owners.h"

#define FIEMAP_PIECES 512u
/* What begins each block of a large attribute, and nothing else. */
#define VALUE_MARK "value of an attribute: "

struct piece {
	uint64_t at, inode, kind, offset, length;
};

struct pieces {
	struct piece *items;
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
	uint64_t size, block;
	struct pieces truth; /* in order, what can be merged is */
	struct name *names;  /* by inode */
	size_t n_names, names_allocated;
	int nameless; /* open, unlinked */
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

static int piece_compare(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	if (x->inode != y->inode)
		return x->inode < y->inode ? -1 : 1;
	return x->kind < y->kind ? -1 : x->kind > y->kind;
}

static void pieces_add(struct pieces *p, const struct piece *one)
{
	assert_int_equal(ARRAY_ROOM(p->items, p->count, p->allocated, 4096), 0);
	p->items[p->count] = *one;
	if (one->kind != OWNER_DATA)
		p->items[p->count].offset = 0;
	p->count++;
}

/* In order, and merged where that is possible. */
static void pieces_sort(struct pieces *p)
{
	size_t kept = 0;

	if (!p->count)
		return;
	qsort(p->items, p->count, sizeof(*p->items), piece_compare);
	for (size_t i = 1; i < p->count; i++) {
		struct piece *a = &p->items[kept];
		const struct piece *b = &p->items[i];

		if (a->inode == b->inode && a->kind == b->kind && a->at + a->length == b->at &&
		    (a->kind != OWNER_DATA || a->offset + a->length == b->offset)) {
			a->length += b->length;
		} else {
			p->items[++kept] = *b;
		}
	}
	p->count = kept + 1;
}

static void pieces_done(struct pieces *p)
{
	free(p->items);
	*p = (struct pieces){ 0 };
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
	for (size_t i = 0; i + 256 <= bytes; i += 256)
		memcpy(value + i, VALUE_MARK, strlen(VALUE_MARK));
	for (unsigned int i = 0; i < count; i++) {
		snprintf(key, sizeof(key), "user.tag%u", i);
		assert_int_equal(setxattr(name, key, value, bytes, 0), 0);
	}
}

/* Every other block of it, and where a block map has all of its levels. */
static void scene_extents(const struct scene *s, unsigned int pieces, bool extents)
{
	const off_t b = (off_t)s->block;

	for (unsigned int i = 0; i < pieces; i++)
		scene_write("pieces", s->block, 2 * i * b);
	scene_write("sparse", 5000, 0);
	scene_write("sparse", 100, 50 * b);
	scene_write("sparse", 100000, 5000 * b);
	scene_write("sparse", 77777, (b / 4 + b / 4 * b / 4) * b + 12 * b - 3333);
	if (!extents)
		return;
	int fd = scene_open("ahead");
	assert_int_equal(pwrite(fd, "x", 1, 2999), 1);
	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 200000), 0);
	close(fd);
	fd = scene_open("unwritten");
	assert_int_equal(fallocate(fd, 0, 0, 200000), 0);
	close(fd);
	scene_write("unwritten", 5000, 70000);
}

static void scene_deep(const struct scene *s)
{
	for (unsigned int i = 0; i < 60; i++) {
		char name[80];

		snprintf(name, sizeof(name), "%060u", i);
		assert_int_equal(mkdir(name, 0755), 0);
		assert_int_equal(chdir(name), 0);
	}
	scene_write("end", 20000, 0);
	assert_int_equal(chdir(s->mnt), 0);
}

static void scene_names(unsigned int many)
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

/* In the working directory. @value: of one attribute, bytes. */
static void scene_fill(struct scene *s, unsigned int many, size_t value, bool extents)
{
	char target[201];

	scene_names(many);
	scene_extents(s, many, extents);
	scene_tag("tag", 1, 20);
	scene_tag("tags", 2, 300);
	/* the same: they share a block */
	scene_tag("tags-again", 2, 300);
	scene_tag("large-tag", 1, value);
	scene_tag("large-tag-again", 1, value);
	memset(target, 't', sizeof(target) - 1);
	target[sizeof(target) - 1] = '\0';
	assert_int_equal(symlink("few/target", "short-link") | symlink(target, "long-link"), 0);
	target[60] = '\0';
	assert_int_equal(symlink(target, "link-60"), 0);
	target[59] = '\0';
	assert_int_equal(symlink(target, "link-59"), 0);
	scene_write("few/first-name", 30000, 0);
	assert_int_equal(link("few/first-name", "second-name"), 0);
	assert_int_equal(mkfifo("few/pipe", 0644) | mknod("few/null", S_IFCHR | 0600, 0x103), 0);
	scene_deep(s);
	scene_write("nameless", 40000, 0);
	s->nameless = scene_open("nameless");
	assert_int_equal(unlink("nameless"), 0);
}

/* ---- what is true of it ------------------------------------------------------------------------------------- */

static int name_compare(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static int scene_note_name(const char *path, const struct stat *st, int type, struct FTW *f)
{
	struct scene *s = naming;
	const char *inside = path + strlen(s->mnt);

	(void)type;
	(void)f;
	assert_int_equal(ARRAY_ROOM(s->names, s->n_names, s->names_allocated, 1024), 0);
	s->names[s->n_names++] = (struct name){
		.inode = st->st_ino,
		.size = (uint64_t)st->st_size,
		.mode = st->st_mode,
		.path = strdup(*inside ? inside : "/"),
	};
	return 0;
}

static const struct name *scene_name(const struct scene *s, uint64_t inode)
{
	const struct name key = { .inode = inode };

	return bsearch(&key, s->names, s->n_names, sizeof(key), name_compare);
}

static bool scene_has(const struct scene *s, uint64_t inode, const char *path)
{
	const struct name *n = scene_name(s, inode), *end = s->names + s->n_names;

	while (n && n > s->names && n[-1].inode == inode)
		n--;
	for (; n && n < end && n->inode == inode; n++) {
		if (n->path && !strcmp(n->path, path))
			return true;
	}
	return false;
}

/* Of a file or a directory: where the kernel has it. */
static void scene_ask_kernel(struct scene *s, int fd, const struct name *n)
{
	_cleanup_free_ struct fiemap *m =
		calloc(1, sizeof(*m) + FIEMAP_PIECES * sizeof(struct fiemap_extent));
	bool last = false;

	assert_non_null(m);
	while (!last) {
		m->fm_length = FIEMAP_MAX_OFFSET - m->fm_start;
		m->fm_extent_count = FIEMAP_PIECES;
		m->fm_flags = FIEMAP_FLAG_SYNC;
		assert_int_equal(ioctl(fd, FS_IOC_FIEMAP, m), 0);
		last = !m->fm_mapped_extents;
		for (unsigned int i = 0; i < m->fm_mapped_extents; i++) {
			const struct fiemap_extent *x = &m->fm_extents[i];
			struct piece p = { x->fe_physical, n->inode, OWNER_DATA, x->fe_logical,
					   x->fe_length };

			last |= x->fe_flags & FIEMAP_EXTENT_LAST;
			m->fm_start = x->fe_logical + x->fe_length;
			if (x->fe_flags & (FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_DATA_INLINE))
				continue;
			if (S_ISDIR(n->mode)) {
				p.kind = OWNER_DIRECTORY;
			} else if (p.offset >= n->size) {
				continue;
			} else {
				p.length = MIN(p.length, n->size - p.offset);
			}
			pieces_add(&s->truth, &p);
		}
	}
}

/* Of one inode what follows "(ETB0):", "(DIND):" and so on; of a link also its block. */
static void scene_take_words(struct scene *s, const struct name *n, char *words)
{
	char *rest = NULL;

	for (char *w = strtok_r(words, ", \n", &rest); w; w = strtok_r(NULL, ", \n", &rest)) {
		const char *number = strchr(w, ':');
		struct piece p = { .inode = n->inode, .kind = OWNER_MAP, .length = s->block };

		if (w[0] != '(' || !number)
			continue;
		p.at = strtoull(number + 1, NULL, 10) * s->block;
		if (S_ISLNK(n->mode) && !strncmp(w, "(0)", 3)) {
			p.kind = OWNER_LINK;
			p.length = n->size;
		} else if (!strstr(w, "ETB") && !strstr(w, "IND")) {
			continue;
		}
		pieces_add(&s->truth, &p);
	}
}

static void scene_take_line(struct scene *s, const struct name *n, char *line)
{
	struct piece p = { .inode = n->inode };
	unsigned long long block;
	unsigned int offset;
	char *acl = strstr(line, "File ACL: ");

	if (sscanf(line, " located at block %llu, offset %x", &block, &offset) == 2) {
		p.at = block * s->block + offset;
		p.kind = OWNER_MAP;
		p.length = s->image[1024 + 0x58] | s->image[1024 + 0x59] << 8;
		pieces_add(&s->truth, &p);
	} else if (acl) {
		p.at = strtoull(acl + 10, NULL, 10) * s->block;
		p.kind = OWNER_ATTRIBUTES;
		p.length = s->block;
		if (p.at)
			pieces_add(&s->truth, &p);
	} else if (line[0] == '(') {
		scene_take_words(s, n, line);
	}
}

/* What the kernel does not say: inodes, maps, links, blocks of attributes. */
static void scene_ask_debugfs(struct scene *s)
{
	char path[96], line[65536];
	FILE *f;
	size_t at = 0;

	snprintf(path, sizeof(path), "%s/asked", s->dir);
	f = fopen(path, "we");
	assert_non_null(f);
	for (size_t i = 0; i < s->n_names; i++) {
		const uint64_t n = s->names[i].inode;

		if (i && s->names[i - 1].inode == n)
			continue;
		fprintf(f, "imap <%llu>\nstat <%llu>\n", (unsigned long long)n,
			(unsigned long long)n);
	}
	fclose(f);
	/* with -f the commands are printed as well */
	snprintf(line, sizeof(line), "debugfs -f %s %s 2>/dev/null", path, s->disk);
	f = popen(line, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long n;

		if (sscanf(line, "debugfs: imap <%llu>", &n) == 1) {
			while (at < s->n_names && s->names[at].inode != n)
				at++;
		}
		assert_true(at < s->n_names);
		scene_take_line(s, &s->names[at], line);
	}
	assert_int_equal(pclose(f), 0);
	unlink(path);
}

static void scene_ask(struct scene *s)
{
	struct stat st;

	naming = s;
	assert_int_equal(nftw(s->mnt, scene_note_name, 16, FTW_PHYS), 0);
	assert_int_equal(fstat(s->nameless, &st), 0);
	assert_int_equal(ARRAY_ROOM(s->names, s->n_names, s->names_allocated, 1024), 0);
	s->names[s->n_names++] = (struct name){ .inode = st.st_ino,
						.size = (uint64_t)st.st_size,
						.mode = st.st_mode };
	qsort(s->names, s->n_names, sizeof(*s->names), name_compare);
	for (size_t i = 0; i < s->n_names; i++) {
		const struct name *n = &s->names[i];
		char path[8192];
		int fd;

		if ((i && n[-1].inode == n->inode) || (!S_ISREG(n->mode) && !S_ISDIR(n->mode)))
			continue;
		snprintf(path, sizeof(path), "%s%s", s->mnt, n->path ? n->path : "");
		/* too long a path for open() is none of these */
		fd = n->path ? open(path, O_RDONLY | O_CLOEXEC) : dup(s->nameless);
		assert_true(fd >= 0);
		scene_ask_kernel(s, fd, n);
		close(fd);
	}
}

/* ---- its life ------------------------------------------------------------------------------------------------ */

/* Frozen, so that what is on the disk is what the kernel knows. */
static void scene_copy(struct scene *s)
{
	int mnt = open(s->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int disk = open(s->disk, O_RDONLY | O_CLOEXEC);

	assert_true(mnt >= 0 && disk >= 0);
	s->image = malloc(s->size);
	assert_non_null(s->image);
	assert_int_equal(ioctl(mnt, FIFREEZE, 0), 0);
	scene_ask(s);
	assert_int_equal(io_pread_all(disk, s->image, s->size, 0), 0);
	scene_ask_debugfs(s);
	assert_int_equal(ioctl(mnt, FITHAW, 0), 0);
	close(mnt);
	close(disk);
	pieces_sort(&s->truth);
}

struct scene_plan {
	const char *type, *options;
	uint64_t size, block;
	unsigned int many;
	size_t value;
	bool extents;
};

static void scene_make(struct scene *s, const struct scene_plan *p)
{
	int fd;

	s->size = p->size;
	s->block = p->block;
	snprintf(s->dir, sizeof(s->dir), "/var/tmp/test-owners-ext-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->disk, sizeof(s->disk), "%.60s/disk", s->dir);
	snprintf(s->mnt, sizeof(s->mnt), "%.60s/mnt", s->dir);
	assert_int_equal(mkdir(s->mnt, 0755), 0);
	fd = scene_open(s->disk);
	assert_int_equal(ftruncate(fd, (off_t)s->size), 0);
	close(fd);
	scene_run("mkfs.%s -q -F -b %llu %s %s", p->type, (unsigned long long)p->block, p->options,
		  s->disk);
	scene_run("mount -o loop %s %s", s->disk, s->mnt);
	assert_int_equal(chdir(s->mnt), 0);
	scene_fill(s, p->many, p->value, p->extents);
	assert_int_equal(chdir("/"), 0);
	scene_copy(s);
	close(s->nameless);
	scene_run("umount %s", s->mnt);
}

static void scene_done(struct scene *s)
{
	free(s->image);
	if (s->disk[0])
		unlink(s->disk);
	if (s->mnt[0])
		rmdir(s->mnt);
	if (s->dir[0])
		rmdir(s->dir);
	pieces_done(&s->truth);
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
	return owners_find("ext4", &io, wanted, &c, ret, e);
}

static int scene_find_all(const struct scene *s, const struct extent_set *lost, struct owners *ret,
			  struct err *e)
{
	struct extent all = { 0, s->size };
	const struct extent_set wanted = { .items = &all, .count = 1 };

	return scene_find(s, &wanted, lost, ret, e);
}
