/* SPDX-License-Identifier: GPL-2.0-or-later */
/* whole-manifest - of a disk of one region, with all that an image writer wants to know. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/image/manifest.h"

static inline struct manifest *whole_manifest(uint64_t size, uint32_t chunk_size)
{
	struct manifest *m;

	assert_int_equal(manifest_new(1, &m), 0);
	m->disk_size = size;
	m->chunk_size = chunk_size;
	m->logical_sector = 512;
	m->physical_sector = 512;
	m->tool = strdup("test");
	m->strategy = strdup("offline");
	m->guarantee = strdup("offline");
	m->path = strdup("/dev/null");
	m->table = strdup("none");
	m->regions[0].kind = REGION_WHOLE;
	m->regions[0].length = size;
	return m;
}
