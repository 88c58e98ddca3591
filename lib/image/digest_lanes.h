/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * digest_lanes - SHA-256 of many pieces at once, one piece per lane of the widest vector registers.
 *
 * libipsec-mb's multi-buffer code, where the machine has it and gains by it: with AVX-512, or with AVX2 and
 * no SHA instructions. Measured on a Xeon without them, one core: libcrypto 0.4 GB/s, 8 lanes (AVX2) 0.97, 16
 * lanes (AVX-512) 2.1.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_LANES_HASH_SIZE	32
#define DIGEST_LANES_MOST_BYTES 32768 /* of a piece: libipsec-mb counts a lane's bytes in 16 bits */

/* Does it pay on this CPU? The answer never changes within a process. Thread-safe. */
bool digest_lanes_pay(void);
/*
 * The SHA-256 of each @piece bytes of @data (the last piece may be shorter), one behind the other to @ret.
 * Thread-safe. Returns false when the lanes can't be used (no memory, or they failed): nothing is in @ret.
 */
bool digest_lanes(const uint8_t *data, size_t len, size_t piece, uint8_t *ret);
