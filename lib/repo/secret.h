/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * secret - memory for keys and passphrases: locked (never in the swap), not in core dumps, between guard pages, wiped when
 * it is freed.
 *
 * Each allocation locks a page of its own (RLIMIT_MEMLOCK), so these are for some hundred bytes each, and for not too many
 * of them. Thread-safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"

/* @size bytes, zeros. NULL, with -ENOMEM in @e: there is no memory, or it cannot be locked (RLIMIT_MEMLOCK). */
void *secret_alloc(size_t size, struct err *e);
void secret_release(void *p);

/* A secret and its length, for passphrases and files with keys. */
struct secret {
	size_t len; /* may be lowered by the owner */
	uint8_t bytes[];
};
/* NULL as above. */
struct secret *secret_new(size_t len, struct err *e);
void secret_free(struct secret *s);
DEFINE_CLEANUP(struct secret, secret_free);
