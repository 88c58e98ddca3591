/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo-scale - a repository of many TiB that has everything but the chunks' bytes, and what it costs to work with it.
 *
 *	repo-scale make DIR TIB		images of 1 TiB each, no chunk in two of them, chunks of 1 MiB
 *	repo-scale open|list|increment|known DIR [SEED]
 *	repo-scale sweep DIR
 *	repo-scale forget DIR NUMBER
 *	repo-scale prune DIR [DAYS]
 *
 * Index files are real: as prune leaves them behind, each a range of names with the table of all packs. So are images and
 * their pages, in packs of their own. Packs of chunks are only named: a store in front of the directory lists them. Each
 * run of the program says its seconds and its peak memory.
 *
 *	open		the index, as every command does
 *	list		all images
 *	increment	a delta stream of image SEED with every hundredth chunk new, into the repository
 *	known		a whole stream of 1 TiB of which the index knows all but every hundredth chunk
 *	forget		the NUMBERth image, from 0 in order of time
 *	sweep		the part of a prune that deletes packs which needs most memory: an index without every 85th pack is put in
 *			the place of the old one, and opened beside it. The repository is not whole afterwards
 *	prune		mark from all images, and do what is to be done, by a clock that is DAYS ahead
 */
#include <errno.h>
#include <inttypes.h>

#include "lib/base/hex.h"
#include "lib/image/codec.h"
#include "lib/image/tree.h"
#include "lib/repo/gc.h"
#include "lib/repo/pack.h"
#include "lib/repo/repo_index.h"
#include "lib/repo/repo_index_writer.h"
#include "lib/repo/store.h"
#include "tests/bench/repo-bench.h"

#define SHIFT	 20
#define CHUNKS	 (UINT64_C(1) << (40 - SHIFT)) /* of an image */
#define PER_PACK UINT64_C(160)		       /* chunks: 0.4 MiB each, 64 MiB together */
#define FRAME	 (400u << 10)
#define T0_NS	 (UINT64_C(1700000000) * 1000000000)

/* ---- names, as if they were hashes: by a formula --------------------------------------------------- */

struct scale {
	struct store store; /* in front of */
	struct store *below;
	uint64_t tib, chunks, packs;
};

/* A prime: nothing in common with the number of chunks. */
#define STRIDE UINT64_C(2654435761)

/* The chunk's place among all names, in order. */
static uint64_t chunk_rank(const struct scale *s, uint64_t chunk)
{
	return (uint64_t)((unsigned __int128)chunk * STRIDE % s->chunks);
}

static void chunk_name(const struct scale *s, uint64_t chunk, struct chunk_id *ret)
{
	const unsigned __int128 rank = chunk_rank(s, chunk);
	const uint64_t width = (uint64_t)((((unsigned __int128)1) << 64) / s->chunks);
	uint64_t first = (uint64_t)((rank << 64) / s->chunks) +
			 bench_mix(chunk) % MAX(width / 2, UINT64_C(1));
	uint64_t rest = bench_mix(chunk);

	for (int i = 7; i >= 0; i--, first >>= 8)
		ret->b[i] = (uint8_t)first;
	for (int i = 8; i < AMBRO_ID_SIZE; i += 8, rest = bench_mix(rest))
		memcpy(ret->b + i, &rest, 8);
}

static void pack_hash(uint64_t pack, uint8_t ret[REPO_NAME_HASH])
{
	uint64_t x = bench_mix(pack ^ UINT64_C(0x7061636b) << 32);

	for (int i = 0; i < REPO_NAME_HASH; i += 8, x = bench_mix(x))
		memcpy(ret + i, &x, 8);
}

/* ---- the store ------------------------------------------------------------------------------------ */

static struct store *below(struct store *s)
{
	return ((struct scale *)s)->below;
}
static int scale_put(struct store *s, const char *name, const struct iovec *parts, size_t n,
		     struct err *e)
{
	return store_putv(below(s), name, parts, n, e);
}
static int scale_get(struct store *s, const char *name, uint64_t offset, void *buf, size_t len,
		     struct err *e)
{
	return store_get(below(s), name, offset, buf, len, e);
}
static int scale_size(struct store *s, const char *name, uint64_t *ret, struct err *e)
{
	return store_size(below(s), name, ret, e);
}
static int scale_del(struct store *s, const char *name, struct err *e)
{
	return store_del(below(s), name, e);
}
static int scale_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx,
		      struct err *e)
{
	const struct scale *x = (struct scale *)s;
	char name[PACK_NAME_SIZE];
	uint8_t hash[REPO_NAME_HASH];
	int r = store_list(x->below, prefix, fn, ctx, e);

	for (uint64_t i = 0; r >= 0 && !strcmp(prefix, "packs/") && i < x->packs; i++) {
		pack_hash(i, hash);
		r = fn(ctx, pack_name(hash, name), REPO_PACK_SIZE);
	}
	return r;
}
static void scale_free(struct store *s)
{
	store_free(below(s));
}
static int scale_time(struct store *s, const char *name, uint64_t *ret_ns, struct err *e)
{
	return store_time(below(s), name, ret_ns, e);
}
static const struct store_ops scale_ops = { .put = scale_put,
					    .get = scale_get,
					    .size = scale_size,
					    .list = scale_list,
					    .del = scale_del,
					    .free = scale_free,
					    .time = scale_time };

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
		packs[i].entries = le32((uint32_t)MIN(PER_PACK, s->chunks - i * PER_PACK));
	}
	bench_ok("writer", repo_index_writer_new(r->format.id, NULL, &w, &e), &e);
	for (uint64_t i = 0; i < s->chunks; i++) {
		const uint64_t chunk = (uint64_t)((unsigned __int128)i * back % s->chunks);
		struct repo_entry entry = {
			.pack = le32((uint32_t)(chunk / PER_PACK)),
			.offset = le32(160 + (uint32_t)(chunk % PER_PACK) * FRAME),
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
	bench_ok("put", pack_put(p->pack, p->repo->store, &e), &e);
	bench_ok("pack",
		 repo_index_builder_pack(p->index, hash, (uint32_t)pack_bytes(p->pack),
					 pack_entry(p->pack, 0), pack_entries(p->pack), &e),
		 &e);
	pack_free(p->pack);
	bench_ok("pack_new", pack_new(p->repo->format.id, NULL, &p->pack, &e), &e);
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

	bench_ok("repo_init", repo_init(&s->store, &format, &e), &e);
	bench_ok("repo_open", repo_open(&s->store, &r, &e), &e);
	make_index(s, r);
	p.repo = r;
	bench_ok("builder", repo_index_builder_new(format.id, NULL, &p.index, &e), &e);
	bench_ok("pack_new", pack_new(format.id, NULL, &p.pack, &e), &e);
	for (uint64_t i = 0; i < s->tib; i++)
		make_image(s, &p, i);
	pages_flush(&p);
	bench_ok("index of pages", repo_index_builder_put(p.index, r->store, hash, &e), &e);
}

/* ---- working with it ------------------------------------------------------------------------------- */

struct stream_chunks {
	const struct scale *scale;
	uint64_t image, seed;
	uint8_t *frame; /* of all of them: nobody decodes it */
	size_t len;
};

static void stream_frame(struct stream_chunks *c)
{
	uint8_t *plain = malloc(1 << SHIFT);
	struct codec *codec = NULL;
	ssize_t len;

	memset(plain, 'a', 1 << SHIFT);
	c->frame = malloc(codec_bound(1 << SHIFT));
	bench_ok("codec", codec_new(1, &codec), NULL);
	len = codec_compress(codec, plain, 1 << SHIFT, c->frame, codec_bound(1 << SHIFT));
	bench_ok("codec_compress", (int)len, NULL);
	c->len = (size_t)len;
	codec_free(codec);
	free(plain);
}

/* Every hundredth one is new. */
static size_t stream_chunk(void *ctx, uint64_t index, struct chunk_id *ret_id,
			   const void **ret_frame)
{
	struct stream_chunks *c = ctx;
	uint64_t x = bench_mix(c->seed << 32 ^ index);

	chunk_name(c->scale, c->image * CHUNKS + index, ret_id);
	for (int i = 0; i < AMBRO_ID_SIZE && index % 100 == 0; i += 8, x = bench_mix(x))
		memcpy(ret_id->b + i, &x, 8);
	*ret_frame = c->frame;
	return c->len;
}

static void ingest(struct scale *s, struct repo *r, uint64_t seed, bool whole)
{
	struct stream_chunks c = { .scale = s, .image = seed % s->tib, .seed = (uint64_t)getpid() };
	struct bench_stream stream = { .host = "h",
				       .chunks = CHUNKS,
				       .chunk_size = UINT64_C(1) << SHIFT,
				       .time_ns = io_realtime_ns(),
				       .step = 100,
				       .chunk = stream_chunk,
				       .ctx = &c };
	struct repo_images list = { 0 };
	const struct repo_image *parent = NULL;
	struct ingest_result n;
	char disk[32];
	struct err e = { 0 };

	stream_frame(&c);
	snprintf(disk, sizeof(disk), "disk%" PRIu64, c.image);
	bench_ok("images", repo_images_load(r, false, &list, &e), &e);
	for (size_t i = 0; i < list.count; i++) {
		if (!strcmp(list.items[i]->disk, disk))
			parent = list.items[i];
	}
	repo_image_free(bench_ingest(r, &stream, whole ? NULL : parent, &n));
	printf("%" PRIu64 " chunks in the stream, %" PRIu64 " new, %" PRIu64
	       " known, %.1f MiB put; ",
	       n.chunks, n.new_chunks, n.known_chunks, (double)n.new_bytes / (1 << 20));
	repo_images_done(&list);
	free(c.frame);
}

static void prune(struct repo *r, uint64_t days)
{
	const struct gc_settings g = { .grace_ns = GC_GRACE_DEFAULT_NS,
				       .repack_dead_percent = GC_REPACK_DEAD_PERCENT_DEFAULT,
				       .now_ns = io_realtime_ns() + days * 24 * 3600 * 1000000000 };
	struct gc_result n;
	struct err e = { 0 };

	bench_ok("prune", gc_prune(r, &g, &n, &e), &e);
	printf("%" PRIu64 " images, %" PRIu64 " deleted, %" PRIu64 " packs, %" PRIu64
	       " marked, %" PRIu64 " deleted; ",
	       n.images, n.images_deleted, n.packs, n.packs_marked, n.packs_deleted);
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

static void forget(struct repo *r, uint64_t number)
{
	struct repo_images l = { 0 };
	struct err e = { 0 };

	bench_ok("images", repo_images_load(r, false, &l, &e), &e);
	if (number >= l.count)
		bench_die("forget: there are fewer images", -EINVAL, NULL);
	bench_ok("forget",
		 gc_forget(r, (const uint8_t(*)[REPO_NAME_HASH])l.items[number]->hash, 1, 0, &e),
		 &e);
	repo_images_done(&l);
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
		prune(r, seed);
		return;
	}
	if (!strcmp(what, "sweep")) {
		sweep(r);
		return;
	}
	if (!strcmp(what, "forget")) {
		forget(r, seed);
		return;
	}
	bench_ok("index", repo_load_index(r, &e), &e);
	printf("%" PRIu64 " entries, %zu files; ", repo_index_entries(r->index),
	       repo_index_files(r->index));
	if (strcmp(what, "open") != 0)
		ingest(s, r, seed, !strcmp(what, "known"));
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

int main(int argc, char **argv)
{
	struct scale s = { .store = { &scale_ops } };
	const double began = bench_seconds();
	struct rusage u;
	struct err e = { 0 };

	if (argc < 3)
		bench_die("repo-scale WHAT DIR [N]", -EINVAL, NULL);
	s.tib = remembered(argv[2], strcmp(argv[1], "make") ? 0 : strtoull(argv[3], NULL, 0));
	s.chunks = s.tib * CHUNKS;
	s.packs = (s.chunks + PER_PACK - 1) / PER_PACK;
	bench_ok(argv[2], store_dir_open(argv[2], true, &s.below, &e), &e);
	if (!strcmp(argv[1], "make")) {
		make(&s);
	} else {
		work(&s, argv[1], argc > 3 ? strtoull(argv[3], NULL, 0) : 0);
	}
	getrusage(RUSAGE_SELF, &u);
	printf("%.2f s, %.2f s CPU, peak %ld MiB\n", bench_seconds() - began,
	       (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
	       u.ru_maxrss >> 10);
	return 0;
}
