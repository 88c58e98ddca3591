/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * both-kinds - tests of what is stored in the clear or encrypted: for the list of tests of a program with a setup(), which
 * asks both_kinds_sealed(), and a teardown().
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool both_kinds[] = { false, true };

/* Of a setup(): is it the encrypted one that is to be set up? */
static inline bool both_kinds_sealed(void **state)
{
	return *(const bool *)*state;
}

#define PLAIN(test)                                                                \
	{                                                                          \
#test " (in the clear)", test, setup, teardown, &both_kinds[false] \
	}
#define SEALED(test)                                                           \
	{                                                                      \
#test " (encrypted)", test, setup, teardown, &both_kinds[true] \
	}
#define BOTH(test) PLAIN(test), SEALED(test)
