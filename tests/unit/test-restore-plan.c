/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/restore_plan.h"
#include "tests/unit/ingest-fixture.h"

#define MIB (UINT64_C(1) << 20)

struct opened {
	struct fixture f;
	int fd;
	struct image_reader *reader;
	struct restore_plan *plan;
};

static struct opened open_plan(const uint64_t *lengths, size_t n, int64_t region)
{
	struct opened o = { .f = fixture_new(lengths, n) };

	fixture_write(&o.f, 0);
	o.fd = image_memfd(o.f.image.data, o.f.image.len);
	assert_int_equal(image_reader_open(o.fd, &o.reader, NULL), 0);
	assert_int_equal(restore_plan_new(o.reader, region, NULL, &o.plan, NULL), 0);
	return o;
}

static void opened_done(struct opened *o)
{
	restore_plan_free(o->plan);
	image_reader_free(o->reader);
	close_fd(o->fd);
	fixture_done(&o->f);
}

/* Go through the plan; @seen counts for each KiB how often it was handed out. Checks each piece's part. */
static void walk(struct restore_plan *p, enum restore_order order, uint8_t *seen, uint8_t *act)
{
	uint64_t size = restore_plan_size(p);
	struct restore_item item;

	for (int part = 0; part < RESTORE_PARTS; part++) {
		restore_plan_begin(p, (enum restore_part)part, order);
		while (restore_plan_next(p, &item, NULL) > 0) {
			bool first = item.offset < RESTORE_FIRST_BYTES;
			bool head = item.offset < RESTORE_EDGE;
			bool tail = item.offset + item.length + RESTORE_EDGE > size;

			assert_true(item.length > 0 && item.offset + item.length <= size);
			assert_int_equal(part, first  ? RESTORE_FIRST
					       : head ? RESTORE_HEAD
					       : tail ? RESTORE_TAIL
						      : RESTORE_BODY);
			for (uint64_t k = item.offset / 1024;
			     k < (item.offset + item.length + 1023) / 1024; k++) {
				seen[k]++;
				act[k] = (uint8_t)item.act;
			}
		}
	}
}

static const uint64_t disk[] = { MIB, 5 * MIB, 100 * 1024, 3 * MIB + 7 * 1024, 2 * MIB };
static const uint64_t disk_size = 11 * MIB + 107 * 1024;

static void every_byte_is_handed_out_once_and_the_head_last(void **state)
{
	_cleanup_(opened_done) struct opened o =
		open_plan(disk, ARRAY_SIZE(disk), RESTORE_ALL_REGIONS);
	_cleanup_free_ uint8_t *seen = calloc(disk_size / 1024, 1);
	_cleanup_free_ uint8_t *act = calloc(disk_size / 1024, 1);
	uint64_t total = 0;

	assert_int_equal(restore_plan_size(o.plan), disk_size);
	walk(o.plan, RESTORE_AS_ON_DISK, seen, act);
	for (uint64_t k = 0; k < disk_size / 1024; k++)
		assert_int_equal(seen[k], 1);
	for (int a = 0; a < RESTORE_ACTS; a++)
		total += restore_plan_total(o.plan, (enum restore_act)a);
	assert_int_equal(total, disk_size);
}

static void as_stored_it_is_the_same_and_chunks_come_by_offset(void **state)
{
	_cleanup_(opened_done) struct opened o =
		open_plan(disk, ARRAY_SIZE(disk), RESTORE_ALL_REGIONS);
	_cleanup_free_ uint8_t *seen = calloc(disk_size / 1024, 1);
	_cleanup_free_ uint8_t *act = calloc(disk_size / 1024, 1);
	_cleanup_free_ uint8_t *act_stored = calloc(disk_size / 1024, 1);
	struct restore_item item;
	uint64_t before = 0;

	walk(o.plan, RESTORE_AS_ON_DISK, seen, act);
	walk(o.plan, RESTORE_AS_STORED, seen, act_stored);
	for (uint64_t k = 0; k < disk_size / 1024; k++)
		assert_int_equal(seen[k], 2);
	assert_memory_equal(act, act_stored, disk_size / 1024);
	/* begun over in the middle of it, it is whole all the same */
	restore_plan_begin(o.plan, RESTORE_BODY, RESTORE_AS_STORED);
	for (int i = 0; i < 5; i++)
		assert_int_equal(restore_plan_next(o.plan, &item, NULL), 1);
	memset(seen, 0, disk_size / 1024);
	walk(o.plan, RESTORE_AS_STORED, seen, act_stored);
	for (uint64_t k = 0; k < disk_size / 1024; k++)
		assert_int_equal(seen[k], 1);
	restore_plan_begin(o.plan, RESTORE_BODY, RESTORE_AS_STORED);
	while (restore_plan_next(o.plan, &item, NULL) > 0) {
		if (item.act != RESTORE_DATA) {
			/* zeros come first */
			assert_int_equal(before, 0);
			continue;
		}
		assert_true(item.run.offset > before);
		before = item.run.offset;
	}
	assert_true(before > 0);
}

/* ---- a chain of images ------------------------------------------------------------------------ */

#define CHAIN	     30
#define CHAIN_CHUNKS UINT64_C(400) /* 25 MiB that do not compress */

/* What a restore asked of the store. */
struct asked {
	uint64_t reads, bytes;
	uint64_t pieces, containers; /* of its chunks, as the plan wished */
	bool returned;		     /* a pack was returned to */
};

static int read_item(const struct image_reader *r, const struct restore_item *item, uint8_t *to)
{
	_cleanup_(codec_freep) struct codec *codec = NULL;
	_cleanup_free_ void *frame = malloc(image_reader_frame_max(r) + 1);

	assert_int_equal(codec_new(1, &codec), 0);
	return image_reader_chunk(r, &item->run, codec, frame, to, NULL);
}

static void note_piece(struct asked *a, const struct image_run *run, struct image_run *last)
{
	if (!a->pieces || run->container != last->container) {
		a->returned = a->returned || (a->pieces && run->container < last->container);
		a->containers++;
		a->pieces++;
	} else if (run->piece.offset != last->piece.offset) {
		/* nothing is read twice */
		assert_true(run->piece.offset >= last->piece.offset + last->piece.length);
		a->pieces++;
	}
	*last = *run;
}

/* Restore @i; it has to be @disk. */
static struct asked restore_of_chain(struct repo *repo, struct store *fault,
				     const struct repo_image *i, const uint8_t *want)
{
	const struct store_counts before = store_fault_counts(fault);
	_cleanup_free_ uint8_t *got = calloc(i->manifest->disk_size, 1);
	_cleanup_(image_reader_freep) struct image_reader *reader = NULL;
	_cleanup_(restore_plan_freep) struct restore_plan *plan = NULL;
	struct image_run last = { 0 };
	struct restore_item item;
	struct store_counts after;
	struct asked a = { 0 };

	assert_int_equal(repo_source_open(repo, i, &reader, NULL), 0);
	assert_int_equal(restore_plan_new(reader, RESTORE_ALL_REGIONS, NULL, &plan, NULL), 0);
	for (int part = 0; part < RESTORE_PARTS; part++) {
		restore_plan_begin(plan, (enum restore_part)part, RESTORE_AS_STORED);
		while (restore_plan_next(plan, &item, NULL) > 0) {
			if (item.act != RESTORE_DATA)
				continue;
			assert_int_equal(read_item(reader, &item, got + item.offset), 0);
			if (part == RESTORE_BODY)
				note_piece(&a, &item.run, &last);
		}
	}
	assert_memory_equal(got, want, i->manifest->disk_size);
	after = store_fault_counts(fault);
	a.reads = after.gets - before.gets;
	a.bytes = after.get_bytes - before.get_bytes;
	return a;
}

/* Every chunk of the image has data. */
static void write_first(struct fixture *f)
{
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	const struct image_sink sink = bytes_sink(&f->image);

	f->manifest->hostname = strdup("web1");
	f->manifest->path = strdup("/dev/vda");
	f->manifest->instant_ns = f->manifest->created_ns + 5;
	fill_noise(f->disk, f->manifest->disk_size, 1);
	assert_int_equal(image_writer_new(&sink, f->manifest, 0, &w, NULL), 0);
	for (uint64_t i = 0; i < CHAIN_CHUNKS; i++)
		assert_int_equal(fixture_put(f, w, 0, i), 0);
	assert_int_equal(image_writer_finish(w, NULL), 0);
}

static void the_newest_of_a_chain_is_read_pack_by_pack(void **state)
{
	static const uint64_t one[] = { FIXTURE_CHUNK * CHAIN_CHUNKS };
	_cleanup_fixture_ struct fixture f = fixture_new(one, 1);
	struct repo_image *images[CHAIN] = { 0 };
	_cleanup_(repo_freep) struct repo *repo = NULL;
	_cleanup_free_ uint8_t *first_disk = NULL;
	struct asked first, newest;
	struct ingest_result result;
	struct store *fault;

	repo = repo_fixture_memory(&fault);
	write_first(&f);
	first_disk = malloc(one[0]);
	assert_non_null(first_disk);
	memcpy(first_disk, f.disk, one[0]);
	for (unsigned int i = 0; i < CHAIN; i++) {
		/* 1 %, elsewhere each day */
		if (i)
			fixture_write_delta(&f, images[i - 1]->manifest, 100, 37 * i);
		assert_int_equal(fixture_ingest(&f, repo, &images[i], &result), 0);
		assert_int_equal(repo_load_index(repo, NULL), 0);
	}
	first = restore_of_chain(repo, fault, images[0], first_disk);
	newest = restore_of_chain(repo, fault, images[CHAIN - 1], f.disk);
	assert_false(first.returned);
	assert_false(newest.returned);
	assert_in_range(newest.containers, 20, CHAIN);
	/* pieces; pages; and what is in the first and the last MiB, some of it in each of the packs */
	assert_in_range(newest.pieces, newest.containers, newest.containers + 5);
	assert_in_range(newest.reads, newest.pieces, newest.pieces + CHAIN);
	/* what is dead between living neighbours is read with them */
	assert_true(newest.bytes < first.bytes * 13 / 10);
	for (unsigned int i = 0; i < CHAIN; i++)
		repo_image_free(images[i]);
}

static void free_space_at_the_edges_of_a_region_is_zeroed(void **state)
{
	_cleanup_(opened_done) struct opened o =
		open_plan(disk, ARRAY_SIZE(disk), RESTORE_ALL_REGIONS);
	_cleanup_free_ uint8_t *seen = calloc(disk_size / 1024, 1);
	_cleanup_free_ uint8_t *act = calloc(disk_size / 1024, 1);
	uint64_t start = 0, free_kib = 0;

	walk(o.plan, RESTORE_AS_ON_DISK, seen, act);
	for (size_t i = 0; i < ARRAY_SIZE(disk); i++) {
		for (uint64_t at = 0; at < disk[i]; at += 1024) {
			if (act[(start + at) / 1024] != RESTORE_FREE)
				continue;
			assert_true(at >= RESTORE_EDGE && at + RESTORE_EDGE < disk[i]);
			free_kib++;
		}
		start += disk[i];
	}
	assert_true(free_kib > 0);
}

static void a_single_region_begins_at_zero(void **state)
{
	_cleanup_(opened_done) struct opened o = open_plan(disk, ARRAY_SIZE(disk), 3);
	_cleanup_free_ uint8_t *seen = calloc(disk[3] / 1024, 1);
	_cleanup_free_ uint8_t *act = calloc(disk[3] / 1024, 1);

	assert_int_equal(restore_plan_size(o.plan), disk[3]);
	assert_int_equal(restore_plan_base(o.plan), 6 * MIB + 100 * 1024);
	walk(o.plan, RESTORE_AS_ON_DISK, seen, act);
	for (uint64_t k = 0; k < disk[3] / 1024; k++)
		assert_int_equal(seen[k], 1);
}

static void a_disk_smaller_than_an_edge_is_all_head(void **state)
{
	static const uint64_t tiny[] = { 1000, 3000 };
	_cleanup_(opened_done) struct opened o = open_plan(tiny, 2, RESTORE_ALL_REGIONS);
	_cleanup_free_ uint8_t *seen = calloc(4, 1);
	_cleanup_free_ uint8_t *act = calloc(4, 1);

	walk(o.plan, RESTORE_AS_ON_DISK, seen, act);
	assert_int_equal(restore_plan_unit(o.plan), 8);
}

static void the_unit_divides_every_place(void **state)
{
	static const uint64_t odd[] = { 63 * 512, 2 * MIB, MIB + 5 };
	_cleanup_(opened_done) struct opened o = open_plan(odd, 3, RESTORE_ALL_REGIONS);
	_cleanup_(restore_plan_freep) struct restore_plan *last = NULL;

	assert_int_equal(restore_plan_unit(o.plan), 512);
	assert_int_equal(restore_plan_new(o.reader, 2, NULL, &last, NULL), 0);
	assert_int_equal(restore_plan_unit(last), FIXTURE_CHUNK);
}

static void a_raised_cancel_ends_the_planning(void **state)
{
	_cleanup_(opened_done) struct opened o =
		open_plan(disk, ARRAY_SIZE(disk), RESTORE_ALL_REGIONS);
	struct restore_plan *p = NULL;
	struct cancel c;

	assert_int_equal(cancel_init(&c), 0);
	cancel_raise(&c);
	assert_int_equal(restore_plan_new(o.reader, RESTORE_ALL_REGIONS, &c, &p, NULL), -ECANCELED);
	assert_null(p);
	cancel_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_is_handed_out_once_and_the_head_last),
		cmocka_unit_test(as_stored_it_is_the_same_and_chunks_come_by_offset),
		cmocka_unit_test(the_newest_of_a_chain_is_read_pack_by_pack),
		cmocka_unit_test(free_space_at_the_edges_of_a_region_is_zeroed),
		cmocka_unit_test(a_single_region_begins_at_zero),
		cmocka_unit_test(a_disk_smaller_than_an_edge_is_all_head),
		cmocka_unit_test(the_unit_divides_every_place),
		cmocka_unit_test(a_raised_cancel_ends_the_planning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
