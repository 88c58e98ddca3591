/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/restore_plan.h"
#include "tests/unit/image-fixture.h"

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
static void walk(struct restore_plan *p, uint8_t *seen, uint8_t *act)
{
	uint64_t size = restore_plan_size(p);
	struct restore_item item;

	for (int part = 0; part < RESTORE_PARTS; part++) {
		restore_plan_begin(p, (enum restore_part)part);
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
	walk(o.plan, seen, act);
	for (uint64_t k = 0; k < disk_size / 1024; k++)
		assert_int_equal(seen[k], 1);
	for (int a = 0; a < RESTORE_ACTS; a++)
		total += restore_plan_total(o.plan, (enum restore_act)a);
	assert_int_equal(total, disk_size);
}

static void free_space_at_the_edges_of_a_region_is_zeroed(void **state)
{
	_cleanup_(opened_done) struct opened o =
		open_plan(disk, ARRAY_SIZE(disk), RESTORE_ALL_REGIONS);
	_cleanup_free_ uint8_t *seen = calloc(disk_size / 1024, 1);
	_cleanup_free_ uint8_t *act = calloc(disk_size / 1024, 1);
	uint64_t start = 0, free_kib = 0;

	walk(o.plan, seen, act);
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
	walk(o.plan, seen, act);
	for (uint64_t k = 0; k < disk[3] / 1024; k++)
		assert_int_equal(seen[k], 1);
}

static void a_disk_smaller_than_an_edge_is_all_head(void **state)
{
	static const uint64_t tiny[] = { 1000, 3000 };
	_cleanup_(opened_done) struct opened o = open_plan(tiny, 2, RESTORE_ALL_REGIONS);
	_cleanup_free_ uint8_t *seen = calloc(4, 1);
	_cleanup_free_ uint8_t *act = calloc(4, 1);

	walk(o.plan, seen, act);
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
		cmocka_unit_test(free_space_at_the_edges_of_a_region_is_zeroed),
		cmocka_unit_test(a_single_region_begins_at_zero),
		cmocka_unit_test(a_disk_smaller_than_an_edge_is_all_head),
		cmocka_unit_test(the_unit_divides_every_place),
		cmocka_unit_test(a_raised_cancel_ends_the_planning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
