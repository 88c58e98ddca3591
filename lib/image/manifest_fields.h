/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * manifest_fields - the manifest's plain members as tables, read by manifest_encode.c and
 * manifest_decode.c, so that what is written and what is read cannot differ.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "lib/image/manifest.h"

enum field_kind {
	FIELD_STRING, /* char *; left out while NULL */
	FIELD_U64,    /* uint64_t */
	FIELD_U32,    /* uint32_t or unsigned int */
};

struct field {
	const char *name;
	size_t offset;
	enum field_kind kind;
	bool required;
};

/* Each table is one stretch of members of one object and ends with an empty name. */
extern const struct field manifest_time_fields[];
extern const struct field manifest_host_fields[];
extern const struct field manifest_how_fields[];
extern const struct field manifest_increment_fields[];
extern const struct field manifest_sample_fields[];
extern const struct field manifest_disk_fields[];
extern const struct field manifest_capture_fields[];
extern const struct field region_place_fields[];
extern const struct field region_fs_fields[];
extern const struct field region_map_fields[];

/* The only format number and hash there are. */
#define MANIFEST_FORMAT	    1
#define MANIFEST_CHUNK_HASH "sha256-tree8k"
/* A longer text is refused: no capture makes one, and parsing takes many times its size in memory. */
#define MANIFEST_TEXT_MAX (64u << 20)
