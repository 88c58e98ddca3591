/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo-scale - a repository of many TiB that has everything but the chunks' bytes, and what it costs to work with it.
 *
 *	repo-scale make DIR TIB		images of 1 TiB each, no chunk in two of them, chunks of 1 MiB
 *	repo-scale open|list|increment|known DIR [SEED]
 *	repo-scale sweep DIR
 *	repo-scale prune DIR [DAYS]
 *	repo-scale delete DIR COUNT
 *
 * Index files are real: as prune leaves them behind, each a range of names with the table of all packs. So are images and
 * their pages, in packs of their own. Packs of chunks are only named: a store in front of the directory lists them, and
 * remembers which were deleted. No such pack has chunks of two images, so that it dies whole: there is nothing in it to copy.
 * Each run of the program says its seconds and its peak memory.
 *
 *	open		the index, as every command does
 *	list		all images
 *	increment	a delta stream of image SEED with every hundredth chunk new, into the repository
 *	known		a whole stream of 1 TiB of which the index knows all but every hundredth chunk
 *	sweep		the part of a prune that deletes packs which needs most memory: an index without every 85th pack is put in
 *			the place of the old one, and opened beside it. The repository is not whole afterwards
 *	prune		mark from all images, and do what is to be done, by a clock that is DAYS ahead
 *	delete		two increments with true bytes are put, the second one without half of what is new in the first; the first
 *			and the COUNT oldest images are forgotten; then prunes by clocks that are 2, 4 and 8 days ahead: what is
 *			dead is marked (and what is half dead copied), deleted, and the notes are taken away. Each step is a
 *			process of its own, which says what it needed. Afterwards the repository is whole and has no notes
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "lib/image/codec.h"
#include "lib/image/tree.h"
#include "lib/repo/gc.h"
#include "lib/repo/pack.h"
#include "lib/repo/repo_index.h"
#include "lib/repo/repo_index_writer.h"
#include "lib/repo/store.h"
#include "tests/bench/repo-bench.h"
#include "tests/bench/repo-scale-store.h"

/* ---- making it ------------------------------------------------------------------------------------ */

/* STRIDE's inverse: of a rank the chunk. */
static uint64_t inverse(uint64_t modulus)
{
	__int128 t = 0, new_t = 1, r = modulus, new_r = STRIDE % modulus;

	while (new_r) {
		const __int128 q = r / new_r, old_t = t, old_r = r;

		t = new_t;
		new_t = old_t - q * new_t;
		r = new_r;
		new_r = old_r - q * new_r;
	}
	if (r != 1)
		bench_die("another number of TiB, please", -EINVAL, NULL);
	return (uint64_t)(t < 0 ? t + modulus : t);
}

/* Index files, each a range of ranks; all have the same table of packs. */
static void make_index(struct scale *s, struct repo *r)
{
	struct repo_index_pack *packs = calloc(s->packs, sizeof(*packs));
	const struct repo_index_tables tables = { .packs = packs, .n_packs = (uint32_t)s->packs };
	struct repo_index_writer *w = NULL;
	const uint64_t back = inverse(s->chunks);
	uint8_t hash[REPO_NAME_HASH];
	struct err e = { 0 };

	for (uint64_t i = 0; i < s->packs; i++) {
		pack_hash(i, packs[i].hash);
		packs[i].size = le32(REPO_PACK_SIZE);
		packs[i].entries = le32((uint32_t)MIN(PER_PACK, CHUNKS - i % PACKS * PER_PACK));
	}
	bench_ok("writer", repo_index_writer_new(r->format.id, NULL, &w, &e), &e);
	for (uint64_t i = 0; i < s->chunks; i++) {
		const uint64_t chunk = (uint64_t)((unsigned __int128)i * back % s->chunks);
		struct repo_entry entry = {
			.pack = le32((uint32_t)chunk_pack(chunk)),
			.offset = le32(160 + (uint32_t)(chunk % CHUNKS % PER_PACK) * FRAME),
			.frame_len = le32(FRAME - 64),
			.plain_len = le32(UINT32_C(1) << SHIFT),
		};

		chunk_name(s, chunk, &entry.name);
		bench_ok("entry", repo_index_writer_add(w, &entry), NULL);
		if (repo_index_writer_entries(w) == REPO_INDEX_FILE_ENTRIES || i + 1 == s->chunks) {
			bench_ok("index file",
				 repo_index_writer_put(w, &tables, r->store, hash, &e), &e);
		}
	}
	repo_index_writer_free(w);
	free(packs);
}

struct pages {
	struct repo *repo;
	struct pack *pack;
	struct repo_index_builder *index;
};

static void pages_flush(struct pages *p)
{
	uint8_t hash[REPO_NAME_HASH];
	struct err e = { 0 };

	bench_ok("seal", pack_seal(p->pack, hash, &e), &e);
	bench_ok("put", pack_put(p->pack, &e), &e);
	bench_ok("pack",
		 repo_index_builder_pack(p->index, hash, (uint32_t)pack_bytes(p->pack),
					 pack_entry(p->pack, 0), pack_entries(p->pack), &e),
		 &e);
	pack_free(p->pack);
	bench_ok("pack_new", pack_new(p->repo->store, p->repo->format.id, NULL, &p->pack, &e), &e);
}

static int on_page(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	struct pages *p = ctx;
	struct err e = { 0 };

	bench_ok("page",
		 pack_add(p->pack, REPO_KIND_PAGE, id, (uint32_t)len, page, (uint32_t)len, &e), &e);
	if (pack_bytes(p->pack) >= REPO_PACK_SIZE)
		pages_flush(p);
	return 0;
}

static void make_image(struct scale *s, struct pages *p, uint64_t number)
{
	struct repo_image image = { .host = (char *)"h", .time_ns = T0_NS + number * 1000000000 };
	struct manifest *m = NULL;
	struct tree *t = NULL;
	char disk[32];
	struct err e = { 0 };

	snprintf(disk, sizeof(disk), "disk%" PRIu64, number);
	image.disk = disk;
	bench_ok("tree", tree_new(CHUNKS, &t), NULL);
	for (uint64_t i = 0; i < CHUNKS; i++) {
		struct chunk_id id;

		chunk_name(s, number * CHUNKS + i, &id);
		bench_ok("tree_set", tree_set(t, i, CHUNK_DATA, &id), NULL);
	}
	bench_ok("manifest", manifest_new(1, &m), NULL);
	m->chunk_size = UINT32_C(1) << SHIFT;
	m->logical_sector = 512;
	m->created_ns = m->instant_ns = image.time_ns;
	memcpy(m->image_id, &image.time_ns, sizeof(image.time_ns));
	m->disk_size = CHUNKS << SHIFT;
	m->regions[0].kind = REGION_WHOLE;
	m->regions[0].length = m->disk_size;
	m->regions[0].depth = tree_depth(CHUNKS);
	bench_ok("emit", tree_emit(t, on_page, p, &m->regions[0].root), NULL);
	tree_free(t);
	image.manifest = m;
	bench_ok("image", repo_image_put(p->repo, &image, &e), &e);
	manifest_free(m);
}

static void make(struct scale *s)
{
	const struct repo_format format = { .id = "repo-scale-00001",
					    .chunk_shift = SHIFT,
					    .created_ns = T0_NS };
	uint8_t hash[REPO_NAME_HASH];
	struct repo *r = NULL;
	struct pages p = { 0 };
	struct err e = { 0 };

	/* not through the one in front: packs that are named already would be another repository's */
	bench_ok("repo_init", repo_init(s->below, &format, &e), &e);
	bench_ok("repo_open", repo_open(&s->store, &r, &e), &e);
	make_index(s, r);
	p.repo = r;
	bench_ok("builder", repo_index_builder_new(format.id, NULL, &p.index, &e), &e);
	bench_ok("pack_new", pack_new(r->store, format.id, NULL, &p.pack, &e), &e);
	for (uint64_t i = 0; i < s->tib; i++)
		make_image(s, &p, i);
	pages_flush(&p);
	bench_ok("index of pages", repo_index_builder_put(p.index, r->store, hash, &e), &e);
}

/* ---- working with it ------------------------------------------------------------------------------- */

struct stream_chunks {
	const struct scale *scale;
	uint64_t image, seed;
	bool true_bytes; /* else nobody decodes the frame, which is that of all of them */
	struct codec *codec;
	uint8_t *plain, *frame;
	size_t len;
};

/* As many bytes of a chunk of true bytes are its own. */
#define NOISE (UINT64_C(8) << 10)

static void stream_frame(struct stream_chunks *c)
{
	const ssize_t len =
		codec_compress(c->codec, c->plain, 1 << SHIFT, c->frame, codec_bound(1 << SHIFT));

	bench_ok("codec_compress", (int)len, NULL);
	c->len = (size_t)len;
}

static void stream_begin(struct stream_chunks *c)
{
	c->plain = malloc(1 << SHIFT);
	c->frame = malloc(codec_bound(1 << SHIFT));
	bench_ok("codec", codec_new(1, &c->codec), NULL);
	memset(c->plain, 'a', 1 << SHIFT);
	stream_frame(c);
}

static void stream_end(struct stream_chunks *c)
{
	codec_free(c->codec);
	free(c->plain);
	free(c->frame);
}

static void stream_new(struct stream_chunks *c, uint64_t index, struct chunk_id *ret_id)
{
	uint64_t x = bench_mix(c->seed << 32 ^ index);

	if (!c->true_bytes) {
		for (int i = 0; i < AMBRO_ID_SIZE; i += 8, x = bench_mix(x))
			memcpy(ret_id->b + i, &x, 8);
		return;
	}
	for (uint64_t i = 0; i < NOISE; i += 8, x = bench_mix(x))
		memcpy(c->plain + i, &x, 8);
	chunk_id_of(c->plain, 1 << SHIFT, ret_id);
	stream_frame(c);
}

/* Every hundredth one is new. */
static size_t stream_chunk(void *ctx, uint64_t index, struct chunk_id *ret_id,
			   const void **ret_frame)
{
	struct stream_chunks *c = ctx;

	chunk_name(c->scale, c->image * CHUNKS + index, ret_id);
	if (index % 100 == 0)
		stream_new(c, index, ret_id);
	*ret_frame = c->frame;
	return c->len;
}

static void ingest(struct repo *r, struct stream_chunks *c, uint64_t step,
		   const struct repo_image *parent)
{
	struct bench_stream stream = { .host = "h",
				       .chunks = CHUNKS,
				       .chunk_size = UINT64_C(1) << SHIFT,
				       .time_ns = io_realtime_ns(),
				       .step = step,
				       .chunk = stream_chunk,
				       .ctx = c };
	struct ingest_result n;

	stream_begin(c);
	repo_image_free(bench_ingest(r, &stream, parent, &n));
	printf("%" PRIu64 " chunks in the stream, %" PRIu64 " new, %" PRIu64
	       " known, %.1f MiB put; ",
	       n.chunks, n.new_chunks, n.known_chunks, (double)n.new_bytes / (1 << 20));
	stream_end(c);
}

static void capture(struct scale *s, struct repo *r, uint64_t seed, bool whole)
{
	struct stream_chunks c = { .scale = s, .image = seed % s->tib, .seed = (uint64_t)getpid() };
	struct repo_images list = { 0 };
	const struct repo_image *parent = NULL;
	char disk[32];
	struct err e = { 0 };

	snprintf(disk, sizeof(disk), "disk%" PRIu64, c.image);
	bench_ok("images", repo_images_load(r, false, &list, &e), &e);
	for (size_t i = 0; i < list.count; i++) {
		if (!strcmp(list.items[i]->disk, disk))
			parent = list.items[i];
	}
	if (!parent && !whole) {
		bench_die("increment: the image was forgotten, or is none of this repository",
			  -ENOENT, NULL);
	}
	ingest(r, &c, 100, whole ? NULL : parent);
	repo_images_done(&list);
}

static void prune(struct scale *s, struct repo *r, uint64_t days)
{
	const struct gc_settings g = { .grace_ns = GC_GRACE_DEFAULT_NS,
				       .repack_dead_percent = GC_REPACK_DEAD_PERCENT_DEFAULT,
				       .max_repack_bytes = GC_REPACK_BYTES_DEFAULT,
				       .now_ns = io_realtime_ns() + days * 24 * 3600 * 1000000000 };
	struct gc_result n;
	struct err e = { 0 };

	bench_ok("prune", gc_prune(r, &g, &n, &e), &e);
	if (n.damaged)
		bench_die(n.first_damage, -EBADMSG, NULL);
	printf("%" PRIu64 " images, %" PRIu64 " deleted, %" PRIu64 " packs, %" PRIu64
	       " marked (%" PRIu64 " of them copied: %.1f MiB), %" PRIu64 " deleted; ",
	       n.images, n.images_deleted, n.packs, n.packs_marked, n.packs_repacked,
	       (double)n.bytes_copied / (1 << 20), n.packs_deleted);
	printf("puts %" PRIu64 " (%.1f MiB), deletions: %" PRIu64 " packs, %" PRIu64
	       " index files, %" PRIu64 " others; ",
	       s->puts, (double)s->put_bytes / (1 << 20), s->packs_deleted, s->index_deleted,
	       s->others_deleted);
}

static bool keeps(void *ctx, uint32_t pack)
{
	const struct repo *r = ctx;

	return repo_index_pack(r->index, pack)->hash[0] >= 3;
}

static void sweep(struct repo *r)
{
	struct repo_index *again = NULL;
	struct gc_clock clock;
	struct gc_view v;
	struct err e = { 0 };
	bool done;

	gc_clock_read(&clock, 0);
	bench_ok("view", gc_view_load(r, &clock, GC_GRACE_DEFAULT_NS, &v, &e), &e);
	bench_ok("merge", repo_index_merge(r->index, UINT64_MAX, keeps, r, &done, &e), &e);
	bench_ok("index", repo_index_open(r->store, r->format.id, NULL, &again, &e), &e);
	printf("%" PRIu64 " entries, then %" PRIu64 ", %zu packs, then %zu; ",
	       repo_index_entries(r->index), repo_index_entries(again), repo_index_packs(r->index),
	       repo_index_packs(again));
	repo_index_free(again);
	gc_view_done(&v);
}

static void list(struct repo *r)
{
	struct repo_images l = { 0 };
	struct err e = { 0 };

	bench_ok("images", repo_images_load(r, false, &l, &e), &e);
	printf("%zu images; ", l.count);
	repo_images_done(&l);
}

static void work(struct scale *s, const char *what, uint64_t seed)
{
	struct repo *r = NULL;
	struct err e = { 0 };

	bench_ok("repo_open", repo_open(&s->store, &r, &e), &e);
	if (!strcmp(what, "list")) {
		list(r);
		return;
	}
	if (!strcmp(what, "prune")) {
		prune(s, r, seed);
		return;
	}
	if (!strcmp(what, "sweep")) {
		sweep(r);
		return;
	}
	bench_ok("index", repo_load_index(r, &e), &e);
	printf("%" PRIu64 " entries, %zu files; ", repo_index_entries(r->index),
	       repo_index_files(r->index));
	if (strcmp(what, "open") != 0)
		capture(s, r, seed, !strcmp(what, "known"));
}

static void usage(double began)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	printf("%.2f s, %.2f s CPU, peak %ld MiB\n", bench_seconds() - began,
	       (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
	       u.ru_maxrss >> 10);
	fflush(stdout);
}

/* ---- a prune that deletes -------------------------------------------------------------------------- */

/* Upon the newest image. */
static void put_true(struct scale *s, struct repo *r, uint64_t step)
{
	struct stream_chunks c = { .scale = s, .seed = (uint64_t)getpid(), .true_bytes = true };
	struct repo_images l = { 0 };
	struct err e = { 0 };

	bench_ok("index", repo_load_index(r, &e), &e);
	bench_ok("images", repo_images_load(r, false, &l, &e), &e);
	ingest(r, &c, step, l.items[l.count - 1]);
	repo_images_done(&l);
}

static void put_first(struct scale *s, struct repo *r, uint64_t ignored)
{
	(void)ignored;
	put_true(s, r, 100);
}

/* With every other one of its new chunks anew. */
static void put_second(struct scale *s, struct repo *r, uint64_t ignored)
{
	(void)ignored;
	put_true(s, r, 200);
}

/* The @count oldest, and the last but one. */
static void forget(struct scale *s, struct repo *r, uint64_t count)
{
	struct repo_images l = { 0 };
	struct err e = { 0 };

	(void)s;
	bench_ok("images", repo_images_load(r, false, &l, &e), &e);
	if (count + 2 > l.count)
		bench_die("delete: there are fewer images", -EINVAL, NULL);
	for (size_t i = 0; i <= count; i++) {
		const struct repo_image *it = l.items[i < count ? i : l.count - 2];

		bench_ok("forget",
			 gc_forget(r, (const uint8_t(*)[REPO_NAME_HASH])it->hash, 1, 0, &e), &e);
	}
	printf("%" PRIu64 " of %zu images; ", count + 1, l.count);
	repo_images_done(&l);
}

static void delete (struct scale *s, uint64_t count)
{
	static const struct {
		const char *name;
		void (*run)(struct scale *s, struct repo *r, uint64_t n);
		uint64_t n; /* 0: @count */
	} steps[] = { { "first", put_first, 0 },
		      { "second", put_second, 0 },
		      { "forget", forget, 0 },
		      { "prune, 2 days later", prune, 2 },
		      { "prune, 4 days later", prune, 4 },
		      { "prune, 8 days later", prune, 8 } };

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		const double began = bench_seconds();
		const pid_t child = fork();
		struct repo *r = NULL;
		struct err e = { 0 };
		int status;

		if (child > 0) {
			if (waitpid(child, &status, 0) != child || status != 0)
				exit(1);
			continue;
		}
		bench_ok("fork", child < 0 ? -errno : 0, NULL);
		printf("%s: ", steps[i].name);
		bench_ok("repo_open", repo_open(&s->store, &r, &e), &e);
		steps[i].run(s, r, steps[i].n ? steps[i].n : count);
		usage(began);
		exit(0);
	}
}

/* How many TiB it was made with, from the number of its first images: a file beside it says so. */
static uint64_t remembered(const char *dir, uint64_t tib)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/.tib", dir);
	f = fopen(path, tib ? "w" : "r");
	if (!f || (tib ? fprintf(f, "%" PRIu64, tib) < 0 : fscanf(f, "%" SCNu64, &tib) != 1))
		bench_die(path, -EIO, NULL);
	fclose(f);
	return tib;
}

/* Likewise which packs were deleted. */
static uint8_t *deleted_map(const char *dir, uint64_t packs)
{
	char path[4096];
	void *map = MAP_FAILED;
	int fd;

	snprintf(path, sizeof(path), "%s/.deleted", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0 && ftruncate(fd, (off_t)packs) == 0)
		map = mmap(NULL, packs, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		bench_die(path, -errno, NULL);
	close(fd);
	return map;
}

int main(int argc, char **argv)
{
	struct scale s = { .store = { &scale_ops } };
	const double began = bench_seconds();
	struct err e = { 0 };
	uint64_t n;

	if (argc < 3)
		bench_die("repo-scale WHAT DIR [N]", -EINVAL, NULL);
	n = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;
	s.tib = remembered(argv[2], strcmp(argv[1], "make") ? 0 : n);
	s.chunks = s.tib * CHUNKS;
	s.packs = s.tib * PACKS;
	s.deleted = deleted_map(argv[2], s.packs);
	bench_ok(argv[2], store_dir_open(argv[2], true, &s.below, &e), &e);
	if (!strcmp(argv[1], "delete")) {
		delete (&s, n);
		return 0;
	}
	if (!strcmp(argv[1], "make")) {
		make(&s);
	} else {
		work(&s, argv[1], n);
	}
	usage(began);
	return 0;
}
