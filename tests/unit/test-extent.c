/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include "lib/base/extent.h"
#include "tests/unit/image-fixture.h"

/* The model: a byte per byte of a small world. */
#define WORLD 512u

struct model {
	uint8_t in[WORLD];
};

static struct model model_of(const struct extent_set *set)
{
	struct model m = { 0 };
	uint64_t last_end = 0;

	for (size_t i = 0; i < set->count; i++) {
		const struct extent *x = &set->items[i];

		assert_true(x->length > 0);
		/* in order, and neither overlapping nor touching */
		assert_true(i == 0 || x->start > last_end);
		last_end = extent_end(x);
		assert_true(last_end <= WORLD);
		memset(m.in + x->start, 1, x->length);
	}
	return m;
}

static void random_set(struct extent_set *set, struct model *m, uint64_t *seed)
{
	const uint64_t n = fixture_random(seed) % 20;

	*set = (struct extent_set){ 0 };
	*m = (struct model){ 0 };
	for (uint64_t i = 0; i < n; i++) {
		uint64_t start = fixture_random(seed) % WORLD;
		uint64_t length = fixture_random(seed) % MIN(40u, WORLD - start + 1);

		assert_int_equal(extent_set_add(set, start, length), 0);
		memset(m->in + start, 1, length);
	}
	extent_set_normalise(set);
}

static void check_pair(const struct extent_set *a, const struct model *ma,
		       const struct extent_set *b, const struct model *mb)
{
	_cleanup_extents_ struct extent_set both = { 0 }, minus = { 0 }, common = { 0 };
	struct model m_both, m_minus, m_common;

	assert_int_equal(extent_set_union(a, b, &both), 0);
	assert_int_equal(extent_set_subtract(a, b, &minus), 0);
	assert_int_equal(extent_set_intersect(a, b, &common), 0);
	m_both = model_of(&both);
	m_minus = model_of(&minus);
	m_common = model_of(&common);
	for (size_t i = 0; i < WORLD; i++) {
		assert_int_equal(m_both.in[i], ma->in[i] | mb->in[i]);
		assert_int_equal(m_minus.in[i], ma->in[i] & !mb->in[i]);
		assert_int_equal(m_common.in[i], ma->in[i] & mb->in[i]);
	}
}

static void check_lookups(const struct extent_set *a, const struct model *ma, uint64_t *seed)
{
	uint64_t total = 0;

	for (size_t i = 0; i < WORLD; i++) {
		size_t at = extent_set_find(a, i);
		bool in = at < a->count && a->items[at].start <= i;
		uint64_t len = fixture_random(seed) % (WORLD - i);
		bool any = false;

		for (size_t j = i; j < i + len; j++)
			any |= ma->in[j];
		assert_int_equal(in, ma->in[i]);
		assert_int_equal(extent_set_overlaps(a, i, len), any);
		total += ma->in[i];
	}
	assert_int_equal(extent_set_total(a), total);
}

static void check_align(const struct extent_set *a, const struct model *ma)
{
	for (uint64_t unit = 1; unit <= 64; unit *= 2) {
		_cleanup_extents_ struct extent_set wide = { 0 };
		struct model m;

		assert_int_equal(extent_set_align(a, unit, WORLD - 3, &wide), 0);
		m = model_of(&wide);
		for (size_t i = 0; i < WORLD; i++) {
			bool any = false;

			for (size_t j = i / unit * unit; j < MIN(i / unit * unit + unit, WORLD);
			     j++)
				any |= ma->in[j];
			/* what lies wholly behind the limit does not count */
			if (i >= WORLD - 3) {
				assert_int_equal(m.in[i], 0);
			} else if (any) {
				assert_int_equal(m.in[i], 1);
			} else {
				assert_int_equal(m.in[i], 0);
			}
		}
	}
}

static void sets_behave_like_sets_of_bytes(void **state)
{
	uint64_t seed = 4711;

	for (int round = 0; round < 2000; round++) {
		_cleanup_extents_ struct extent_set a, b;
		struct model ma, mb, m;

		random_set(&a, &ma, &seed);
		random_set(&b, &mb, &seed);
		m = model_of(&a);
		assert_memory_equal(&m, &ma, sizeof(m));
		check_pair(&a, &ma, &b, &mb);
		check_lookups(&a, &ma, &seed);
		check_align(&a, &ma);
	}
}

static void ranges_that_continue_are_merged_at_once(void **state)
{
	_cleanup_extents_ struct extent_set a = { 0 };

	for (uint64_t i = 0; i < 100000; i++)
		assert_int_equal(extent_set_add(&a, i * 4096, 4096), 0);
	assert_int_equal(a.count, 1);
	assert_int_equal(a.items[0].length, 100000 * 4096);
	assert_int_equal(extent_set_add(&a, 17, 0), 0);
	assert_int_equal(a.count, 1);
}

static void a_range_behind_the_last_byte_is_refused(void **state)
{
	_cleanup_extents_ struct extent_set a = { 0 };

	assert_int_equal(extent_set_add(&a, UINT64_MAX, 2), -EOVERFLOW);
	assert_int_equal(extent_set_add(&a, UINT64_MAX - 5, 5), 0);
	assert_int_equal(a.count, 1);
	assert_int_equal(extent_set_total(&a), 5);
}

static void an_empty_set_is_harmless(void **state)
{
	_cleanup_extents_ struct extent_set a = { 0 }, b = { 0 };

	extent_set_normalise(&a);
	assert_int_equal(extent_set_union(&a, &a, &b), 0);
	assert_int_equal(extent_set_subtract(&a, &a, &b), 0);
	assert_int_equal(extent_set_intersect(&a, &a, &b), 0);
	assert_int_equal(extent_set_find(&a, 7), 0);
	assert_false(extent_set_overlaps(&a, 0, UINT64_MAX));
	assert_int_equal(extent_set_total(&b), 0);
	extent_set_done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_behave_like_sets_of_bytes),
		cmocka_unit_test(ranges_that_continue_are_merged_at_once),
		cmocka_unit_test(a_range_behind_the_last_byte_is_refused),
		cmocka_unit_test(an_empty_set_is_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
