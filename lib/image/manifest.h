/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * manifest - what an image says of itself, as a C structure and as JSON (docs/FORMAT.md section 4).
 *
 * All strings are owned by the manifest, UTF-8 (bytes that are not are replaced on the way to JSON), and
 * may be NULL where the document says "absent".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/extent.h"
#include "lib/image/format.h"

enum region_kind {
	REGION_GAP,
	REGION_PARTITION,
	REGION_WHOLE,
};

enum region_content {
	CONTENT_ALL,	/* every byte read */
	CONTENT_USED,	/* what the file system uses */
	CONTENT_HEADER, /* swap */
	CONTENT_EDGES,	/* a large gap */
};

struct manifest_region {
	enum region_kind kind;
	unsigned int partition; /* 0: none */
	uint64_t start;		/* bytes of the disk */
	uint64_t length;
	char *type, *name, *uuid, *flags; /* from the partition table */
	char *fs_type, *fs_uuid, *fs_label;
	char **mounts; /* NULL-terminated list, or NULL */
	enum region_content content;
	char *map;     /* where the knowledge of used blocks came from */
	uint64_t used; /* bytes meant to be read */
	unsigned int depth;
	struct chunk_id root;
};

struct manifest {
	char *tool;
	uint8_t image_id[16];
	uint64_t created_ns;
	uint64_t instant_ns;
	char *hostname, *machine_id, *kernel, *os;
	char *strategy, *guarantee;
	uint64_t chunk_size;
	/* of an increment; has_parent: the image_id of its parent */
	bool has_parent;
	uint8_t parent_id[16];
	char *increment, *increment_reason; /* "full", "tracked", "compared"; why not better */
	char *track; /* the agent's, opaque: since when it knows of all writes */
	/* chunks that were read although they had not been written to; checked 0: none */
	uint64_t sample_checked, sample_different;
	/* disk */
	char *path, *model, *serial, *wwid, *table, *table_id, *table_script;
	uint64_t disk_size;
	uint32_t logical_sector, physical_sector;
	struct manifest_region *regions;
	size_t n_regions;
	struct extent_set bad; /* bytes of the disk */
	/* capture */
	uint64_t passes, freeze_us, duration_ms, read_bytes, stored_bytes, data_chunks,
		resent_chunks, same_chunks;
};

/* An empty manifest with @n_regions zeroed regions. Returns 0 or -ENOMEM. */
int manifest_new(size_t n_regions, struct manifest **ret);
void manifest_free(struct manifest *m);
DEFINE_CLEANUP(struct manifest, manifest_free);

/* JSON text, owned by the caller, terminated. Members in the order of the document. */
int manifest_to_json(const struct manifest *m, char **ret, size_t *ret_len, struct err *e);
/*
 * Parse and check: types, ranges, that the regions tile [0, disk_size) and each depth fits its length.
 * Hostile input is safe. Unknown members are ignored.
 */
int manifest_from_json(const char *text, size_t len, struct manifest **ret, struct err *e);

const char *region_kind_name(enum region_kind k);
const char *region_content_name(enum region_content c);
/* Chunks in @length bytes. */
uint64_t region_chunks(uint64_t length, uint64_t chunk_size);
/* Plain bytes of chunk @index of a region of @length bytes. */
uint32_t region_chunk_len(uint64_t length, uint64_t chunk_size, uint64_t index);
