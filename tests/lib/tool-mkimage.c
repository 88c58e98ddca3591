/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tool-mkimage - a plain image of a raw file, by the library alone: for tests that need no agent.
 *
 *	tool-mkimage [OPTION]… RAW OUT
 *	--regions A,B,…   cut the disk before these bytes; without it: at the partitions of its table
 *	--free OFF:LEN    these bytes count as not in use (only whole chunks are left out); may be repeated
 *	--bad OFF:LEN     chunks that touch these bytes count as unreadable; may be repeated
 *	--chunk-shift N   log2 of the chunk size (default 20)
 *	--sector N        logical sector size, bytes (default 512)
 *	--sparse          leave the frames of zeros out
 *	--time SECONDS    the instant that it shows, since 1970 (default: now)
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "lib/base/extent.h"
#include "lib/base/io.h"
#include "lib/image/codec.h"
#include "lib/image/image_writer.h"
#include "lib/layout/layout.h"

struct mkimage {
	const char *raw, *out;
	const char *regions; /* "a,b,c" or NULL */
	struct extent_set free, bad;
	unsigned int chunk_shift, sector;
	uint64_t require, time_ns;
	int in_fd, out_fd;
	struct manifest *manifest;
	struct image_writer *writer;
	struct codec *codec;
	uint8_t *plain, *frame;
};

static int sink_write(void *ctx, const void *buf, size_t len)
{
	return io_write_all(*(int *)ctx, buf, len);
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

/* Regions from the table that is on the raw file. */
static int manifest_by_layout(struct mkimage *k, uint64_t size, struct err *e)
{
	_cleanup_(layout_freep) struct layout *l = NULL;
	int r = layout_probe(k->in_fd, k->raw, size, k->sector, &l, e);

	if (r < 0)
		return r;
	r = manifest_new(l->n_regions, &k->manifest);
	if (r < 0)
		return err_oom(e);
	k->manifest->table = copy(l->table);
	k->manifest->table_id = copy(l->table_id);
	k->manifest->table_script = copy(l->table_script);
	for (size_t i = 0; i < l->n_regions; i++) {
		const struct layout_region *from = &l->regions[i];
		struct manifest_region *to = &k->manifest->regions[i];

		to->kind = from->kind == LAYOUT_PARTITION ? REGION_PARTITION
			   : from->kind == LAYOUT_GAP	  ? REGION_GAP
							  : REGION_WHOLE;
		to->partition = from->partition;
		to->start = from->start;
		to->length = from->length;
		to->type = copy(from->type);
		to->name = copy(from->name);
		to->uuid = copy(from->uuid);
		to->fs_type = copy(from->fs_type);
		to->fs_uuid = copy(from->fs_uuid);
		to->fs_label = copy(from->fs_label);
	}
	return 0;
}

/* Regions as asked for: partitions without a table. */
static int manifest_by_list(struct mkimage *k, uint64_t size, struct err *e)
{
	uint64_t starts[64] = { 0 };
	size_t n = 1;
	char *end;

	for (const char *p = k->regions; *p && n < ARRAY_SIZE(starts); p = *end ? end + 1 : end)
		starts[n++] = strtoull(p, &end, 0);
	if (manifest_new(n, &k->manifest) < 0)
		return err_oom(e);
	k->manifest->table = copy("none");
	for (size_t i = 0; i < n; i++) {
		struct manifest_region *g = &k->manifest->regions[i];

		g->kind = i ? REGION_PARTITION : REGION_GAP;
		g->partition = (unsigned int)i;
		g->start = starts[i];
		g->length = (i + 1 < n ? starts[i + 1] : size) - starts[i];
	}
	return 0;
}

static int mkimage_manifest(struct mkimage *k, struct err *e)
{
	struct manifest *m;
	uint64_t size;
	int r = io_size(k->in_fd, &size);

	if (r >= 0)
		r = k->regions ? manifest_by_list(k, size, e) : manifest_by_layout(k, size, e);
	if (r < 0)
		return r;
	m = k->manifest;
	m->disk_size = size;
	m->logical_sector = k->sector;
	m->physical_sector = 4096;
	m->chunk_size = UINT64_C(1) << k->chunk_shift;
	m->created_ns = m->instant_ns = k->time_ns ? k->time_ns : io_realtime_ns();
	m->tool = copy("tool-mkimage");
	m->hostname = copy("test");
	m->strategy = copy("offline");
	m->guarantee = copy("offline");
	m->path = copy(k->raw);
	for (size_t i = 0; i < m->n_regions; i++) {
		m->regions[i].map = copy("all");
		m->regions[i].used = m->regions[i].length;
	}
	extent_for_each(b, &k->bad)
		extent_set_add(&m->bad, b->start, b->length);
	return getrandom(m->image_id, sizeof(m->image_id), 0) < 0 ? -errno : 0;
}

static bool covers(const struct extent_set *set, uint64_t start, uint64_t len)
{
	size_t i = extent_set_find(set, start);

	return i < set->count && set->items[i].start <= start &&
	       extent_end(&set->items[i]) >= start + len;
}

static int mkimage_chunk(struct mkimage *k, uint32_t region, uint64_t index, struct err *e)
{
	const struct manifest_region *g = &k->manifest->regions[region];
	uint32_t len = region_chunk_len(g->length, k->manifest->chunk_size, index);
	uint64_t at = g->start + index * k->manifest->chunk_size;
	struct chunk_id id;
	ssize_t n;
	int r;

	if (covers(&k->free, at, len))
		return image_writer_run(k->writer, region, index, 1, CHUNK_FREE, e);
	if (extent_set_overlaps(&k->bad, at, len))
		return image_writer_run(k->writer, region, index, 1, CHUNK_BAD, e);
	r = io_pread_all(k->in_fd, k->plain, len, at);
	if (r < 0)
		return r;
	if (chunk_is_zero(k->plain, len))
		return image_writer_run(k->writer, region, index, 1, CHUNK_ZERO, e);
	chunk_id_of(k->plain, len, &id);
	n = codec_compress(k->codec, k->plain, len, k->frame, codec_bound(k->manifest->chunk_size));
	if (n < 0)
		return (int)n;
	return image_writer_chunk(k->writer, region, index, &id, k->frame, (size_t)n, e);
}

static int mkimage_run(struct mkimage *k, struct err *e)
{
	struct image_sink sink = { sink_write, &k->out_fd };
	struct manifest *m;
	int r;

	r = mkimage_manifest(k, e);
	if (r < 0)
		return r;
	m = k->manifest;
	k->plain = malloc(m->chunk_size);
	k->frame = malloc(codec_bound(m->chunk_size));
	r = codec_new(CODEC_LEVEL_DEFAULT, &k->codec);
	if (!k->plain || !k->frame || r < 0)
		return err_oom(e);
	r = image_writer_new(&sink, m, k->require, &k->writer, e);
	for (uint32_t i = 0; i < m->n_regions && r >= 0; i++) {
		uint64_t n = region_chunks(m->regions[i].length, m->chunk_size);

		for (uint64_t c = 0; c < n && r >= 0; c++)
			r = mkimage_chunk(k, i, c, e);
	}
	return r < 0 ? r : image_writer_finish(k->writer, e);
}

static void range(struct extent_set *set, const char *text)
{
	char *end;
	uint64_t start = strtoull(text, &end, 0);

	if (*end != ':')
		exit(2);
	extent_set_add(set, start, strtoull(end + 1, NULL, 0));
	extent_set_normalise(set);
}

static bool parse(int argc, char **argv, struct mkimage *k)
{
	static const struct option options[] = {
		{ "regions", required_argument, NULL, 'r' },
		{ "free", required_argument, NULL, 'f' },
		{ "bad", required_argument, NULL, 'b' },
		{ "chunk-shift", required_argument, NULL, 'c' },
		{ "sector", required_argument, NULL, 's' },
		{ "sparse", no_argument, NULL, 'S' },
		{ "time", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'r':
			k->regions = optarg;
			break;
		case 'f':
			range(&k->free, optarg);
			break;
		case 'b':
			range(&k->bad, optarg);
			break;
		case 'c':
			k->chunk_shift = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 's':
			k->sector = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 't':
			k->time_ns = strtoull(optarg, NULL, 10) * 1000000000u;
			break;
		case 'S':
			k->require |= AMBRO_REQUIRE_SPARSE;
			break;
		default:
			return false;
		}
	}
	k->raw = argv[optind];
	k->out = k->raw ? argv[optind + 1] : NULL;
	return k->out;
}

int main(int argc, char **argv)
{
	struct mkimage k = { .chunk_shift = AMBRO_CHUNK_SHIFT_DEFAULT, .sector = 512 };
	struct err e = { 0 };
	int r;

	if (!parse(argc, argv, &k)) {
		fprintf(stderr, "usage: tool-mkimage [OPTION]… RAW OUT\n");
		return 2;
	}
	k.in_fd = open(k.raw, O_RDONLY | O_CLOEXEC);
	k.out_fd = open(k.out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = k.in_fd < 0 || k.out_fd < 0 ? err_set_errno(&e, -errno, "%s, %s", k.raw, k.out)
					: mkimage_run(&k, &e);
	if (r < 0)
		fprintf(stderr, "tool-mkimage: %s (%d)\n", e.text, r);
	image_writer_free(k.writer);
	codec_free(k.codec);
	free(k.plain);
	free(k.frame);
	manifest_free(k.manifest);
	extent_set_done(&k.free);
	extent_set_done(&k.bad);
	close_fd(k.in_fd);
	return close_fd(k.out_fd), r < 0;
}
