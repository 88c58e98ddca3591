/* SPDX-License-Identifier: GPL-2.0-or-later */
/* repo-index-store - for each test a store in memory, empty, for index files in the clear or encrypted. */
#pragma once

#include "tests/unit/both-kinds.h"
#include "tests/unit/repo-index-fixture.h"

struct fixture {
	struct store *store;
	struct crypt *crypt; /* NULL: not encrypted */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(store_memory_new(&f->store), 0);
	if (both_kinds_sealed(state))
		assert_int_equal(crypt_new(&f->crypt, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	store_free(f->store);
	crypt_free(f->crypt);
	free(f);
	return 0;
}
