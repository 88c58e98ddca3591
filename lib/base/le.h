/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * le - little-endian fields of on-disk structures.
 *
 * A field of type le32_t cannot be used as a number by accident: it is a struct, read by le32_get()
 * and made by le32(). On-disk structures are made of these and of byte arrays only, so they have no
 * padding and no alignment of their own.
 */
#pragma once

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define LE_DEFINE(bits)                                             \
	typedef struct {                                            \
		uint8_t b[(bits) / 8];                              \
	} le##bits##_t;                                             \
	static inline le##bits##_t le##bits(uint##bits##_t v)       \
	{                                                           \
		le##bits##_t r;                                     \
		v = htole##bits(v);                                 \
		memcpy(&r, &v, sizeof(r));                          \
		return r;                                           \
	}                                                           \
	static inline uint##bits##_t le##bits##_get(le##bits##_t f) \
	{                                                           \
		uint##bits##_t v;                                   \
		memcpy(&v, &f, sizeof(v));                          \
		return le##bits##toh(v);                            \
	}

LE_DEFINE(16)
LE_DEFINE(32)
LE_DEFINE(64)
