/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners-ext-scene - real file systems for test-owners-ext: made by mke2fs and the kernel, copied while they are frozen. What is
 * true of them is said by the kernel (FIEMAP), and where it says nothing by debugfs. Included once.
 */
#pragma once

#include <sys/ioctl.h>

#include <linux/fiemap.h>
#include <linux/fs.h>

#include "tests/unit/owners-scene.h"

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

struct scene {
	struct scene_disk disk;
	uint64_t block;
	struct pieces truth; /* in order, what can be merged is */
};

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

/* Also where a block map has all of its levels. */
static void scene_extents(const struct scene *s, unsigned int pieces, bool extents)
{
	const off_t b = (off_t)s->block;
	int fd;

	scene_scatter(pieces, s->block);
	scene_write("sparse", 5000, 0);
	scene_write("sparse", 100, 50 * b);
	scene_write("sparse", 100000, 5000 * b);
	scene_write("sparse", 77777, (b / 4 + b / 4 * b / 4) * b + 12 * b - 3333);
	if (!extents)
		return;
	fd = scene_open("ahead");
	assert_int_equal(pwrite(fd, "x", 1, 2999), 1);
	close(fd);
	scene_reserve();
}

/* In the working directory. @value: of one attribute, bytes. */
static void scene_fill(struct scene *s, unsigned int many, size_t value, bool extents)
{
	scene_names(many);
	scene_extents(s, many, extents);
	scene_tag("tag", 1, 20, VALUE_MARK);
	scene_tag("tags", 2, 300, VALUE_MARK);
	/* the same: they share a block */
	scene_tag("tags-again", 2, 300, VALUE_MARK);
	scene_tag("large-tag", 1, value, VALUE_MARK);
	scene_tag("large-tag-again", 1, value, VALUE_MARK);
	assert_int_equal(symlink("few/target", "short-link"), 0);
	scene_link("long-link", 200);
	scene_link("link-60", 60);
	scene_link("link-59", 59);
	scene_rest(&s->disk);
	scene_write("nameless", 40000, 0);
	s->disk.nameless = scene_open("nameless");
	assert_int_equal(unlink("nameless"), 0);
}

/* ---- what is true of it ------------------------------------------------------------------------------------- */

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
		p.length = s->disk.image[1024 + 0x58] | s->disk.image[1024 + 0x59] << 8;
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

	snprintf(path, sizeof(path), "%s/asked", s->disk.dir);
	f = fopen(path, "we");
	assert_non_null(f);
	for (size_t i = 0; i < s->disk.n_names; i++) {
		const uint64_t n = s->disk.names[i].inode;

		if (i && s->disk.names[i - 1].inode == n)
			continue;
		fprintf(f, "imap <%llu>\nstat <%llu>\n", (unsigned long long)n,
			(unsigned long long)n);
	}
	fclose(f);
	/* with -f the commands are printed as well */
	snprintf(line, sizeof(line), "debugfs -f %s %s 2>/dev/null", path, s->disk.file);
	f = popen(line, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long n;

		if (sscanf(line, "debugfs: imap <%llu>", &n) == 1) {
			while (at < s->disk.n_names && s->disk.names[at].inode != n)
				at++;
		}
		assert_true(at < s->disk.n_names);
		scene_take_line(s, &s->disk.names[at], line);
	}
	assert_int_equal(pclose(f), 0);
	unlink(path);
}

/* What it says; while it is frozen. */
static void scene_ask(struct scene *s)
{
	const struct scene_disk *d = &s->disk;

	for (size_t i = 0; i < d->n_names; i++) {
		const struct name *n = &d->names[i];
		char path[8192];
		int fd;

		if ((i && n[-1].inode == n->inode) || (!S_ISREG(n->mode) && !S_ISDIR(n->mode)))
			continue;
		snprintf(path, sizeof(path), "%s%s", d->mnt, n->path ? n->path : "");
		/* too long a path for open() is none of these */
		fd = n->path ? open(path, O_RDONLY | O_CLOEXEC) : dup(d->nameless);
		assert_true(fd >= 0);
		scene_ask_kernel(s, fd, n);
		close(fd);
	}
}

/* ---- its life ------------------------------------------------------------------------------------------------ */

struct scene_plan {
	const char *type, *options;
	uint64_t size, block;
	unsigned int many;
	size_t value;
	bool extents;
};

static void scene_make(struct scene *s, const struct scene_plan *p)
{
	struct scene_disk *d = &s->disk;

	s->block = p->block;
	scene_disk_begin(d, "/var/tmp", "ext", "ext4", p->size);
	scene_run("mkfs.%s -q -F -b %llu %s %s", p->type, (unsigned long long)p->block, p->options,
		  d->file);
	scene_mount(d);
	scene_fill(s, p->many, p->value, p->extents);
	assert_int_equal(chdir("/"), 0);
	scene_freeze(d);
	scene_ask(s);
	scene_thaw(d);
	scene_ask_debugfs(s);
	pieces_sort(&s->truth);
}

static void scene_done(struct scene *s)
{
	scene_disk_end(&s->disk);
	pieces_done(&s->truth);
	*s = (struct scene){ 0 };
}
