/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo-counts - what each operation asks of a store: puts, gets, lists, deletions, and bytes. Markdown on stdout.
 *
 *	repo-counts [CHUNKS [SHIFT]]	a disk of so many chunks (4096) of 2^SHIFT bytes (18), in memory
 *
 * Three images: the first, and two increments with every hundredth chunk new. Then one is forgotten and pruned.
 */
#include <errno.h>
#include <inttypes.h>

#include "lib/image/codec.h"
#include "lib/image/verify.h"
#include "lib/repo/gc.h"
#include "lib/repo/last_image.h"
#include "lib/repo/repo_check.h"
#include "lib/repo/repo_source.h"
#include "lib/repo/repo_whole.h"
#include "lib/repo/store.h"
#include "tests/bench/repo-bench.h"

#define HOUR_NS (UINT64_C(3600) * 1000000000)
#define T0_NS	(UINT64_C(1700000000) * 1000000000)

/* ---- chunks ------------------------------------------------------------------------------------- */

struct chunks {
	struct codec *codec;
	uint64_t seed, size;
	uint8_t *plain, *frame;
};

/* Four tenths of it noise. */
static size_t chunk_make(void *ctx, uint64_t index, struct chunk_id *ret_id, const void **ret_frame)
{
	struct chunks *c = ctx;
	ssize_t len;

	memset(c->plain, 0, c->size);
	for (uint64_t i = 0; i < c->size; i += 8) {
		const uint64_t word = bench_mix(c->seed << 40 ^ index << 20 ^ i);

		memcpy(c->plain + i, &word, i / 64 % 10 < 4 ? 8 : 1);
	}
	chunk_id_of(c->plain, c->size, ret_id);
	len = codec_compress(c->codec, c->plain, c->size, c->frame, codec_bound(c->size));
	bench_ok("codec_compress", (int)len, NULL);
	*ret_frame = c->frame;
	return (size_t)len;
}

/* ---- counting ----------------------------------------------------------------------------------- */

struct counting {
	struct store *store; /* one that counts, in front of the memory */
};

/* By a client that knows nothing yet. */
static struct repo *opened(struct counting *k)
{
	struct store *below = store_fault_release(k->store);
	struct repo *r = NULL;
	struct err e = { 0 };

	bench_ok("store_fault_new", store_fault_new(below, &k->store), NULL);
	bench_ok("repo_open", repo_open(k->store, &r, &e), &e);
	return r;
}

/* Print what was asked since opened(), and close it without its store. */
static void said(struct counting *k, struct repo *r, const char *what)
{
	const struct store_counts n = store_fault_counts(k->store);

	printf("| %s | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64
	       " | %.2f | %.2f |\n",
	       what, n.puts, n.gets, n.sizes, n.lists, n.dels, (double)n.put_bytes / (1 << 20),
	       (double)n.get_bytes / (1 << 20));
	r->store = NULL;
	repo_free(r);
}

/* ---- operations --------------------------------------------------------------------------------- */

/* As ctl/capture_repo.c: the image that this client put there last, or the newest. */
static struct repo_image *parent_find(struct repo *r, struct repo_image *last)
{
	const struct last_image kept = { .image = last };
	enum last_image_fate fate;
	struct repo_images list = { 0 };
	struct repo_image *parent = NULL;
	struct err e = { 0 };

	if (!last) {
		bench_ok("images", repo_images_load(r, false, &list, &e), &e);
		repo_images_done(&list);
		return NULL;
	}
	bench_ok("last image", last_image_find(&kept, r, &fate, &parent, &e), &e);
	bench_ok("whole", repo_whole_parent(r, parent, &e), &e);
	return parent;
}

static struct repo_image *captured(struct counting *k, struct chunks *c, uint64_t chunks,
				   uint64_t seed, struct repo_image *last, const char *what)
{
	struct bench_stream s = { .host = "h",
				  .chunks = chunks,
				  .chunk_size = c->size,
				  .time_ns = T0_NS + seed * HOUR_NS,
				  .step = 100,
				  .chunk = chunk_make,
				  .ctx = c };
	struct repo *r = opened(k);
	struct repo_image *image, *parent;
	struct ingest_result n;
	struct err e = { 0 };

	c->seed = seed;
	bench_ok("index", repo_load_index(r, &e), &e);
	parent = parent_find(r, last);
	image = bench_ingest(r, &s, parent, &n);
	repo_image_free(parent);
	said(k, r, what);
	return image;
}

static void listed(struct counting *k)
{
	struct repo *r = opened(k);
	struct repo_images list = { 0 };
	struct err e = { 0 };

	bench_ok("images", repo_images_load(r, false, &list, &e), &e);
	repo_images_done(&list);
	said(k, r, "`list`");
}

static void restored(struct counting *k, const struct repo_image *image, const char *what)
{
	struct repo *r = opened(k);
	struct repo_images list = { 0 };
	struct image_reader *reader = NULL;
	struct verify_result v;
	struct err e = { 0 };

	bench_ok("index", repo_load_index(r, &e), &e);
	bench_ok("images", repo_images_load(r, false, &list, &e), &e);
	bench_ok("open", repo_source_open(r, image, &reader, &e), &e);
	bench_ok("verify", image_verify(reader, 2, NULL, NULL, NULL, &v, &e), &e);
	image_reader_free(reader);
	repo_images_done(&list);
	said(k, r, what);
}

static void forgot(struct counting *k, const struct repo_image *image)
{
	struct repo *r = opened(k);
	struct repo_images list = { 0 };
	struct err e = { 0 };

	bench_ok("images", repo_images_load(r, false, &list, &e), &e);
	bench_ok("forget",
		 gc_forget(r, (const uint8_t(*)[REPO_NAME_HASH])image->hash, 1,
			   T0_NS + 24 * HOUR_NS, &e),
		 &e);
	repo_images_done(&list);
	said(k, r, "`forget` one image");
}

static void pruned(struct counting *k, unsigned int day, const char *what)
{
	const struct gc_settings g = { .grace_ns = GC_GRACE_DEFAULT_NS,
				       .repack_dead_percent = GC_REPACK_DEAD_PERCENT_DEFAULT,
				       .now_ns = T0_NS + (uint64_t)day * 24 * HOUR_NS };
	struct repo *r = opened(k);
	struct gc_result n;
	struct err e = { 0 };

	bench_ok("prune", gc_prune(r, &g, &n, &e), &e);
	said(k, r, what);
}

static void no_report(void *ctx, const struct repo_damage *d)
{
	(void)ctx;
	fprintf(stderr, "damage: %s\n", d->what);
	exit(1);
}

static void checked(struct counting *k, unsigned int parts, const char *what)
{
	const struct repo_check_settings s = { .parts = parts, .threads = 2, .report = no_report };
	struct repo *r = opened(k);
	struct repo_check_result n;
	struct err e = { 0 };

	bench_ok("check", repo_check(r, &s, &n, &e), &e);
	said(k, r, what);
}

int main(int argc, char **argv)
{
	const uint64_t chunks = argc > 1 ? strtoull(argv[1], NULL, 0) : 4096;
	const unsigned int shift = argc > 2 ? (unsigned int)atoi(argv[2]) : 18;
	struct repo_format format = { .id = "repo-counts-0001",
				      .chunk_shift = shift,
				      .created_ns = 1 };
	struct chunks c = { .size = UINT64_C(1) << shift };
	struct repo_image *first, *second, *third;
	struct counting k = { 0 };
	struct store *memory;
	struct err e = { 0 };

	bench_ok("memory", store_memory_new(&memory), NULL);
	bench_ok("repo_init", repo_init(memory, &format, &e), &e);
	bench_ok("store_fault_new", store_fault_new(memory, &k.store), NULL);
	bench_ok("codec", codec_new(CODEC_LEVEL_DEFAULT, &c.codec), NULL);
	c.plain = malloc(c.size);
	c.frame = malloc(codec_bound(c.size));
	printf("A disk of %" PRIu64 " MiB, chunks of %" PRIu64
	       " KiB; every hundredth one is new in an increment\n\n",
	       chunks * c.size >> 20, c.size >> 10);
	puts("| | puts | gets | sizes | lists | deletions | put, MiB | got, MiB |\n|---|--:|--:|--:|--:|--:|--:|--:|");
	first = captured(&k, &c, chunks, 1, NULL, "`capture`, the first");
	second = captured(&k, &c, chunks, 2, first, "`capture`, an increment of 1 %");
	third = captured(&k, &c, chunks, 3, second, "the next");
	listed(&k);
	restored(&k, first, "`restore` of the first image");
	restored(&k, third, "`restore` of the third");
	checked(&k, 0, "`repo check`");
	checked(&k, 1, "`repo check --read-data`");
	forgot(&k, second);
	pruned(&k, 3, "`prune` two days later: the image goes, what only it had is marked");
	pruned(&k, 5, "`prune` two days later: its pack goes");
	pruned(&k, 9, "`prune` four days later: the notes go");
	pruned(&k, 13, "`prune` when there is nothing to do");
	repo_image_free(first);
	repo_image_free(second);
	repo_image_free(third);
	store_free(store_fault_release(k.store));
	codec_free(c.codec);
	free(c.plain);
	free(c.frame);
	return 0;
}
