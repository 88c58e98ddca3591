/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * digest - SHA-256, in one go, in pieces, or as a tree of two levels.
 *
 * libcrypto's algorithm is looked up once per process and its context made once per thread, because both
 * cost more than hashing a small record. Thread-safe; never fails: a process that cannot get the memory for
 * a digest's context (some hundred bytes, once per thread) is ended rather than given a wrong hash.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "lib/base/cleanup.h"

#define DIGEST_SIZE 32

/* Over all @n parts, one after the other. */
void digest_of(const struct iovec *parts, size_t n, uint8_t ret[DIGEST_SIZE]);

/*
 * The SHA-256 of @head followed by the SHA-256 of each @leaf bytes (at most DIGEST_LANES_MOST_BYTES) of @data; the last
 * leaf may be shorter. Leaves are hashed side by side where the CPU can (digest_lanes.h).
 */
void digest_tree(const void *head, size_t head_len, const void *data, size_t len, size_t leaf,
		 uint8_t ret[DIGEST_SIZE]);

/* In pieces. Belongs to one thread at a time. */
struct digest;
struct digest *digest_new(void);
void digest_free(struct digest *d);
DEFINE_CLEANUP(struct digest, digest_free);
void digest_add(struct digest *d, const void *data, size_t len);
void digest_end(struct digest *d, uint8_t ret[DIGEST_SIZE]);
