/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owners-btrfs-scene - a btrfs in a file, as the kernel made it, and what the kernel says of its files: FIEMAP for where
 * they have their bytes, `btrfs inspect-internal dump-tree -t chunk` for where on the device these addresses are.
 */
#pragma once

#include <sys/ioctl.h>

#include <linux/fiemap.h>
#include <linux/fs.h>

#include "tests/unit/owners-scene.h"

#define MIB ((uint64_t)1 << 20)

/* A stretch of a file. Where `packed`, its bytes are compressed, and it is not known how many they are. */
struct truth {
	char path[512];
	uint64_t offset, logical, length;
	uint64_t size; /* of the file */
	bool packed;
};

struct chunk {
	uint64_t logical, length, at[2];
	unsigned int copies;
	bool metadata;
};

struct scene {
	struct scene_disk disk; /* without a folder of its own */
	struct truth *truths;	/* by path and offset */
	size_t n_truths, truths_allocated;
	struct chunk *chunks;
	size_t n_chunks, chunks_allocated;
	struct extent_set lost; /* cannot be read */
};

static char top[64]; /* the folder of all scenes */

/* What it says goes to a log. */
#define run(format, ...) scene_run("{ " format "; } >>%s/log 2>&1", ##__VA_ARGS__, top)

/* ---- files that are told apart by every block --------------------------------------------------------------- */

static inline uint64_t mixed(uint64_t v)
{
	v = (v ^ (v >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	v = (v ^ (v >> 27)) * UINT64_C(0x94d049bb133111eb);
	return v ^ (v >> 31);
}

/* Every 8 bytes of a file, by its number and place. */
static inline void fill(uint8_t *p, size_t len, uint64_t number, uint64_t offset)
{
	for (size_t i = 0; i < len; i += 8) {
		const uint64_t v = mixed(number * UINT64_C(0x9e3779b97f4a7c15) + offset + i);

		memcpy(p + i, &v, MIN((size_t)8, len - i));
	}
}

static inline void write_at(int fd, uint64_t number, uint64_t offset, size_t len)
{
	_cleanup_free_ uint8_t *p = malloc(len);

	assert_non_null(p);
	fill(p, len, number, offset);
	assert_int_equal(pwrite(fd, p, len, (off_t)offset), len);
}

static inline int open_new(const char *name)
{
	char path[1024];

	snprintf(path, sizeof(path), "%s/mnt/%s", top, name);
	return scene_open(path);
}

/* write_at() of a file that there may be already. */
static inline void put(const char *name, uint64_t number, uint64_t offset, size_t len)
{
	int fd = open_new(name);

	write_at(fd, number, offset, len);
	close(fd);
}

/* ---- the truth ------------------------------------------------------------------------------------------------- */

static inline int truth_compare(const void *a, const void *b)
{
	const struct truth *x = a, *y = b;
	const int r = strcmp(x->path, y->path);

	return r ? r : (x->offset > y->offset) - (x->offset < y->offset);
}

#define FIEMAP_EXTENTS 512

static inline bool truth_of_extent(struct scene *s, const char *path, const struct fiemap_extent *x)
{
	struct truth *t;

	if (!(x->fe_flags & (FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_UNWRITTEN))) {
		assert_false(x->fe_flags & (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC));
		assert_int_equal(ARRAY_ROOM(s->truths, s->n_truths, s->truths_allocated, 1024), 0);
		t = &s->truths[s->n_truths++];
		*t = (struct truth){
			.offset = x->fe_logical,
			.logical = x->fe_physical,
			.length = x->fe_length,
			.packed = x->fe_flags & FIEMAP_EXTENT_ENCODED,
		};
		snprintf(t->path, sizeof(t->path), "%s", path);
	}
	return !(x->fe_flags & FIEMAP_EXTENT_LAST);
}

/* "/mnt/x" under the folder is "/x" in the file system. */
static inline void truth_of_file(struct scene *s, const char *path)
{
	_cleanup_free_ struct fiemap *f =
		malloc(sizeof(*f) + FIEMAP_EXTENTS * sizeof(struct fiemap_extent));
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = s->n_truths;
	bool more = true;
	uint64_t at = 0, size;

	assert_true(fd >= 0 && f);
	assert_int_equal(io_size(fd, &size), 0);
	while (more) {
		*f = (struct fiemap){ .fm_start = at,
				      .fm_length = UINT64_MAX - at,
				      .fm_flags = FIEMAP_FLAG_SYNC,
				      .fm_extent_count = FIEMAP_EXTENTS };
		assert_int_equal(ioctl(fd, FS_IOC_FIEMAP, f), 0);
		more = f->fm_mapped_extents > 0;
		for (uint32_t i = 0; i < f->fm_mapped_extents; i++) {
			more = truth_of_extent(s, path + strlen(top) + 4, &f->fm_extents[i]);
			at = f->fm_extents[i].fe_logical + f->fm_extents[i].fe_length;
		}
	}
	for (; n < s->n_truths; n++)
		s->truths[n].size = size;
}

static inline void take_truths(struct scene *s)
{
	char line[700];
	FILE *p;

	snprintf(line, sizeof(line), "find %s/mnt -type f", top);
	p = popen(line, "r");
	assert_non_null(p);
	while (fgets(line, sizeof(line), p)) {
		line[strcspn(line, "\n")] = '\0';
		truth_of_file(s, line);
	}
	assert_int_equal(pclose(p), 0);
	qsort(s->truths, s->n_truths, sizeof(*s->truths), truth_compare);
}

static inline void take_chunks(struct scene *s)
{
	struct chunk *c = NULL;
	char line[700];
	FILE *p;

	snprintf(line, sizeof(line), "btrfs inspect-internal dump-tree -t chunk %s", s->disk.file);
	p = popen(line, "r");
	assert_non_null(p);
	while (fgets(line, sizeof(line), p)) {
		unsigned long long a, b, length;
		char *key = strstr(line, "CHUNK_ITEM ");

		if (key && sscanf(key, "CHUNK_ITEM %llu)", &a) == 1) {
			assert_int_equal(ARRAY_ROOM(s->chunks, s->n_chunks, s->chunks_allocated, 8),
					 0);
			c = &s->chunks[s->n_chunks++];
			*c = (struct chunk){ .logical = a };
		} else if (c && sscanf(line, " length %llu owner", &length) == 1) {
			c->length = length;
			c->metadata = strstr(line, "METADATA") || strstr(line, "SYSTEM");
		} else if (c && sscanf(line, " stripe %llu devid 1 offset %llu", &a, &b) == 2) {
			assert_true(c->copies < ARRAY_SIZE(c->at));
			c->at[c->copies++] = b;
		}
	}
	assert_int_equal(pclose(p), 0);
	assert_true(s->n_chunks > 0);
}

static inline const struct chunk *scene_chunk(const struct scene *s, uint64_t logical)
{
	for (size_t i = 0; i < s->n_chunks; i++) {
		if (logical >= s->chunks[i].logical &&
		    logical - s->chunks[i].logical < s->chunks[i].length)
			return &s->chunks[i];
	}
	fail_msg("address %llu is in no chunk", (unsigned long long)logical);
	return NULL;
}

/* Where copy @copy of @logical is. */
static inline uint64_t scene_at(const struct scene *s, uint64_t logical, unsigned int copy)
{
	const struct chunk *c = scene_chunk(s, logical);

	return c->at[copy] + (logical - c->logical);
}

/* ---- scenes ------------------------------------------------------------------------------------------------------ */

/* The disk @name in the folder. */
static inline void scene_load(struct scene *s, const char *name)
{
	s->disk.type = "btrfs";
	snprintf(s->disk.file, sizeof(s->disk.file), "%s/%s", top, name);
	scene_map(&s->disk);
}

/* mkfs, let @build fill what is mounted at mnt/, and see what has become of it. */
static inline void scene_make(struct scene *s, const char *name, uint64_t size, const char *options,
			      void (*build)(void))
{
	run("truncate -s %llu %s/%s && mkfs.btrfs -q %s %s/%s", (unsigned long long)size, top, name,
	    options, top, name);
	run("mkdir -p %s/mnt && mount -o loop %s/%s %s/mnt", top, top, name, top);
	build();
	take_truths(s);
	run("umount %s/mnt", top);
	scene_load(s, name);
	take_chunks(s);
}

static inline void scene_done(struct scene *s)
{
	scene_disk_end(&s->disk);
	free(s->truths);
	free(s->chunks);
	extent_set_done(&s->lost);
	*s = (struct scene){ 0 };
}

static inline int scene_find_range(const struct scene *s, uint64_t at, uint64_t length,
				   struct owners *ret, struct err *e)
{
	return scene_find_at(&s->disk, (struct extent){ at, length }, &s->lost, ret, e);
}

/* ---- what there is to find ------------------------------------------------------------------------------------------ */

static inline void build_small_files(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		char name[64];

		snprintf(name, sizeof(name), "many/a name of some length %u", i);
		put(name, 1000 + i, 0, i % 10 ? 4096 + i % 5000 : 10 + i);
	}
}

/* Hundreds of extents: more than a leaf has room for. */
static inline void build_torn_files(unsigned int count)
{
	int torn = open_new("torn"), sparse = open_new("sparse"), kept = open_new("kept");

	write_at(torn, 1, 0, 2 * MIB);
	fsync(torn);
	for (unsigned int i = 0; i < count; i++) {
		write_at(torn, 1, any(512) * 4096, 4096);
		write_at(sparse, 2, i * 65536, 4096);
		if (i % 8 == 0)
			fdatasync(torn);
	}
	assert_int_equal(fallocate(kept, 0, 0, 1 << 20), 0);
	assert_int_equal(fallocate(kept, FALLOC_FL_KEEP_SIZE, 1 << 20, 1 << 20), 0);
	write_at(kept, 3, 256 << 10, 64 << 10);
	close(torn);
	close(sparse);
	close(kept);
}

/* So many names in one directory that they go into an item of another kind; of one file only such are left. */
static inline void build_names(void)
{
	char word[201] = { 0 };
	int fd;

	memset(word, 'x', sizeof(word) - 1);
	put("links/first", 4, 0, 8192);
	run("cd %s/mnt/links && for i in $(seq 90); do ln first ${i}%s; done; ln first ../linked",
	    top, word);
	run("cd %s/mnt/links && rm -f first ../linked && for i in $(seq 80); do rm ${i}%s; done",
	    top, word);
	run("cd %s/mnt && mkdir -p $(printf 'deep%%s/' $(seq 60)) && ln -s many short && ln -s %s long",
	    top, word);
	fd = open_new("deep1/deep2/deep3/deep4/deep5/at the fifth");
	assert_int_equal(fsetxattr(fd, "user.small", "value", 5, 0), 0);
	assert_int_equal(fsetxattr(fd, "user.large", word, sizeof(word), 0), 0);
	write_at(fd, 5, 0, 12288);
	close(fd);
	run("cd %s/mnt && cp --sparse=never many/*1 $(printf 'deep%%s/' $(seq 60))", top);
}

static inline void build_subvolumes(void)
{
	char name[64];

	run("cd %s/mnt && btrfs subvolume create sub && mkdir sub/dir && btrfs subvolume create sub/dir/nested",
	    top);
	put("sub/dir/nested/file", 6, 0, 40960);
	for (unsigned int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "sub/dir/file %u", i);
		put(name, 7000 + i, 0, 8192);
	}
	run("cd %s/mnt && sync -f . && mkdir shots && btrfs subvolume snapshot sub shots/one && "
	    "btrfs subvolume snapshot -r sub shots/two && btrfs subvolume create gone",
	    top);
	put("sub/dir/file 7", 8, 0, 4096); /* the snapshots have what was there */
	put("shots/one/dir/file 9", 9, 4096, 8192);
	put("shots/one/dir/new", 10, 0, 8192);
	put("gone/file", 11, 0, 65536);
	run("cd %s/mnt && sync -f . && btrfs subvolume delete gone", top);
}

static inline void build_shared_and_packed(void)
{
	run("cd %s/mnt && cp --reflink=always torn clone && mkdir packed && "
	    "btrfs property set packed compression zstd",
	    top);
	put("clone", 12, 20480, 12288);
	run("cd %s/mnt/packed && seq 200000 >text && sync text && cp --reflink=always text again && "
	    "seq 100 | dd of=text bs=4096 seek=5 conv=notrunc && seq 2000 | dd of=again conv=notrunc",
	    top);
}

static inline void build_all(void)
{
	run("cd %s/mnt && mkdir many links", top);
	build_small_files(1500);
	build_torn_files(900);
	build_names();
	build_subvolumes();
	build_shared_and_packed();
}

static inline void build_few(void)
{
	run("cd %s/mnt && mkdir many links", top);
	build_small_files(150);
	build_torn_files(100);
	build_names();
	build_subvolumes();
}

/* ---- what was told, against the truth --------------------------------------------------------------------------- */

/* The stretch of @path that has byte @offset. */
static inline const struct truth *truth_at(const struct scene *s, const char *path, uint64_t offset)
{
	size_t low = 0, high = s->n_truths;
	const struct truth *t;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;
		const int r = strcmp(s->truths[middle].path, path);

		if (r < 0 || (!r && s->truths[middle].offset <= offset)) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	t = low ? &s->truths[low - 1] : NULL;
	return t && !strcmp(t->path, path) && offset - t->offset < t->length ? t : NULL;
}

static inline bool is_at(const struct scene *s, uint64_t logical, uint64_t at)
{
	const struct chunk *c = scene_chunk(s, logical);

	for (unsigned int i = 0; i < c->copies; i++) {
		if (c->at[i] + (logical - c->logical) == at)
			return true;
	}
	return false;
}

/* Is it true? Of what is compressed the kernel says where it begins. */
static inline void assert_true_of(const struct scene *s, const struct owner *o)
{
	const struct truth *t = truth_at(s, o->path, o->offset);

	assert_int_equal(o->kind, OWNER_DATA);
	if (t && t->packed) {
		assert_true(o->offset + o->held <= t->offset + t->length);
		return;
	}
	assert_int_equal(o->held, o->length);
	for (uint64_t i = 0; i < o->length; i += 4096) {
		t = truth_at(s, o->path, o->offset + i);
		if (!t || !is_at(s, t->logical + (o->offset + i - t->offset), o->at + i)) {
			fail_msg("%llu is not byte %llu of %s", (unsigned long long)(o->at + i),
				 (unsigned long long)(o->offset + i), o->path);
		}
	}
}

/* Of a file with many names one is told. */
static inline bool same_file(const char *a, const char *b)
{
	return strncmp(b, "/links/", 7) != 0 ? !strcmp(a, b) : !strncmp(a, b, 7);
}

/* All that @path has of the file from @offset on, as far as it is told to be at @at. */
static inline bool told_at(const struct owners *o, const char *path, uint64_t offset, uint64_t at)
{
	size_t low = 0, high = o->count;

	/* none of those in order is longer than 16 MiB here */
	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (o->items[middle].at + 16 * MIB <= at) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	for (; low < o->count && o->items[low].at <= at; low++) {
		const struct owner *i = &o->items[low];

		if (at - i->at < i->length && (!path || same_file(i->path, path)) &&
		    (!path || i->held != i->length || i->offset + (at - i->at) == offset))
			return true;
	}
	return false;
}

static inline void assert_copy_told(const struct scene *s, const struct owners *o,
				    const struct truth *t, unsigned int copy)
{
	/* a snapshot's need not be named itself */
	const char *path = strncmp(t->path, "/shots/", 7) != 0 ? t->path : NULL;

	for (uint64_t i = 0; i < (t->packed ? 4096 : t->length); i += 4096) {
		if (!told_at(o, path, t->offset + i, scene_at(s, t->logical + i, copy))) {
			fail_msg("byte %llu of %s is not told", (unsigned long long)(t->offset + i),
				 t->path);
		}
	}
}

static inline void assert_told(const struct scene *s, const struct owners *o, const struct truth *t)
{
	for (unsigned int c = 0; c < scene_chunk(s, t->logical)->copies; c++)
		assert_copy_told(s, o, t, c);
}

static inline void assert_adds_up(const struct owners *o, uint64_t asked)
{
	struct extent_set named = { 0 }, both = { 0 };

	for (size_t i = 0; i < o->count; i++)
		assert_int_equal(extent_set_add(&named, o->items[i].at, o->items[i].length), 0);
	extent_set_normalise(&named);
	assert_int_equal(extent_set_total(&named) + extent_set_total(&o->others), asked);
	assert_int_equal(extent_set_intersect(&named, &o->others, &both), 0);
	assert_int_equal(both.count, 0);
	extent_set_done(&named);
	extent_set_done(&both);
}
