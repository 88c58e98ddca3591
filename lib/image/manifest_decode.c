/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "lib/base/hex.h"
#include "lib/image/manifest_fields.h"
#include "lib/image/tree.h"

/* The id of the root page alone is longer. */
#define REGION_TEXT_MIN 64
/* What FORMAT.md lets a reader refuse. */
#define REGIONS_MAX 65536
/* No disk has others, and tools that are given one take memory for it. */
#define SECTOR_MIN 512
#define SECTOR_MAX 65536

/* Strings from the file in messages are cut to this: they may be of any length. */
#define QUOTED "%.40s"

static int get_u64(json_t *object, const char *name, uint64_t *ret, struct err *e)
{
	json_t *value = json_object_get(object, name);

	if (!json_is_integer(value) || json_integer_value(value) < 0) {
		return err_set(e, -EBADMSG, "the manifest's \"%s\" is not a number, 0 or greater",
			       name);
	}
	*ret = (uint64_t)json_integer_value(value);
	return 0;
}

static int get_u32(json_t *object, const char *name, uint32_t *ret, struct err *e)
{
	uint64_t value = 0;
	int r = get_u64(object, name, &value, e);

	if (r < 0)
		return r;
	if (value > UINT32_MAX) {
		return err_set(e, -EBADMSG, "the manifest's \"%s\" is %" PRIu64 ": too large", name,
			       value);
	}
	*ret = (uint32_t)value;
	return 0;
}

/* The member's text, owned by the JSON; NULL with @e filled when it is absent or no string. */
static const char *get_text(json_t *object, const char *name, struct err *e)
{
	json_t *value = json_object_get(object, name);

	if (!json_is_string(value))
		err_set(e, -EBADMSG, "the manifest's \"%s\" is not a string", name);
	return json_string_value(value);
}

static int get_string(json_t *object, const char *name, char **ret, struct err *e)
{
	const char *text = get_text(object, name, e);
	char *copy;

	if (!text)
		return -EBADMSG;
	copy = strdup(text);
	if (!copy)
		return err_oom(e);
	/* the last one counts if a name came twice in a table */
	free(*ret);
	*ret = copy;
	return 0;
}

static int get_fields(json_t *object, void *base, const struct field *f, struct err *e)
{
	int r = 0;

	for (; f->name && r >= 0; f++) {
		char *at = (char *)base + f->offset;

		if (!f->required && !json_object_get(object, f->name))
			continue;
		switch (f->kind) {
		case FIELD_STRING:
			r = get_string(object, f->name, (char **)at, e);
			break;
		case FIELD_U64:
			r = get_u64(object, f->name, (uint64_t *)at, e);
			break;
		case FIELD_U32:
			r = get_u32(object, f->name, (uint32_t *)at, e);
			break;
		}
	}
	return r;
}

static int get_object(json_t *parent, const char *name, void *base, const struct field *f,
		      struct err *e)
{
	json_t *object = json_object_get(parent, name);

	if (object && !json_is_object(object))
		return err_set(e, -EBADMSG, "the manifest's \"%s\" is not an object", name);
	/* an absent one fails where a member is required */
	return get_fields(object, base, f, e);
}

static int get_hex(json_t *object, const char *name, uint8_t *ret, size_t len, struct err *e)
{
	const char *text = get_text(object, name, e);

	if (!text)
		return -EBADMSG;
	if (hex_decode(text, ret, len) < 0) {
		return err_set(e, -EBADMSG,
			       "the manifest's \"%s\" is \"" QUOTED
			       "\", not %zu hexadecimal digits",
			       name, text, 2 * len);
	}
	return 0;
}

static int get_kind(json_t *o, struct manifest_region *region, struct err *e)
{
	const char *text = get_text(o, "kind", e);

	if (!text)
		return -EBADMSG;
	for (region->kind = 0; region_kind_name(region->kind); region->kind++) {
		if (!strcmp(text, region_kind_name(region->kind)))
			return 0;
	}
	return err_set(e, -EBADMSG, "the manifest has a region of unknown kind \"" QUOTED "\"",
		       text);
}

static int get_content(json_t *o, struct manifest_region *region, struct err *e)
{
	const char *text = get_text(o, "content", e);

	if (!text)
		return -EBADMSG;
	for (region->content = 0; region_content_name(region->content); region->content++) {
		if (!strcmp(text, region_content_name(region->content)))
			return 0;
	}
	return err_set(e, -EBADMSG, "the manifest has a region of unknown content \"" QUOTED "\"",
		       text);
}

static int get_mounts(json_t *o, struct manifest_region *region, struct err *e)
{
	json_t *list = json_object_get(o, "mounts");
	size_t n = json_array_size(list);

	if (!list)
		return 0;
	if (!json_is_array(list))
		return err_set(e, -EBADMSG, "the manifest's \"mounts\" is not a list");
	region->mounts = calloc(n + 1, sizeof(*region->mounts));
	if (!region->mounts)
		return err_oom(e);
	for (size_t i = 0; i < n; i++) {
		const char *text = json_string_value(json_array_get(list, i));

		if (!text)
			return err_set(e, -EBADMSG, "the manifest's \"mounts\" holds a non-string");
		region->mounts[i] = strdup(text);
		if (!region->mounts[i])
			return err_oom(e);
	}
	return 0;
}

static int get_partition(json_t *o, struct manifest_region *region, struct err *e)
{
	if (region->kind != REGION_PARTITION)
		return 0;
	if (get_u32(o, "partition", &region->partition, e) < 0)
		return -EBADMSG;
	if (!region->partition)
		return err_set(e, -EBADMSG, "the manifest has a partition with the number 0");
	return 0;
}

static int get_region(json_t *o, struct manifest_region *region, struct err *e)
{
	int r = get_kind(o, region, e);

	if (r >= 0)
		r = get_partition(o, region, e);
	if (r >= 0)
		r = get_fields(o, region, region_place_fields, e);
	if (r >= 0)
		r = get_object(o, "fs", region, region_fs_fields, e);
	if (r >= 0)
		r = get_mounts(o, region, e);
	if (r >= 0)
		r = get_content(o, region, e);
	if (r >= 0)
		r = get_fields(o, region, region_map_fields, e);
	if (r >= 0)
		r = get_hex(o, "root", region->root.b, sizeof(region->root.b), e);
	return r;
}

/* The regions follow each other from 0 to the disk's end, and each tree is as deep as it must be. */
static int manifest_check_regions(const struct manifest *m, struct err *e)
{
	uint64_t at = 0;

	for (size_t i = 0; i < m->n_regions; i++) {
		const struct manifest_region *region = &m->regions[i];

		if (region->start != at || !region->length || region->length > m->disk_size - at) {
			return err_set(e, -EBADMSG,
				       "the manifest's region %zu (byte %" PRIu64
				       ", length %" PRIu64
				       ") does not fit: it must start at byte %" PRIu64
				       " and end within the disk's %" PRIu64,
				       i, region->start, region->length, at, m->disk_size);
		}
		if (region->depth != tree_depth(region_chunks(region->length, m->chunk_size))) {
			return err_set(e, -EBADMSG,
				       "the manifest's region %zu cannot have a tree of depth %u",
				       i, region->depth);
		}
		at += region->length;
	}
	if (at != m->disk_size) {
		return err_set(e, -EBADMSG,
			       "the manifest's regions end at byte %" PRIu64
			       ", the disk at %" PRIu64,
			       at, m->disk_size);
	}
	return 0;
}

static int number_compare(const void *a, const void *b)
{
	const unsigned int *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* A partition is asked for by its number, so there is one of each. */
static int manifest_check_partitions(const struct manifest *m, struct err *e)
{
	_cleanup_free_ unsigned int *numbers = calloc(m->n_regions + 1, sizeof(*numbers));
	size_t n = 0;

	if (!numbers)
		return err_oom(e);
	for (size_t i = 0; i < m->n_regions; i++) {
		if (m->regions[i].partition)
			numbers[n++] = m->regions[i].partition;
	}
	qsort(numbers, n, sizeof(*numbers), number_compare);
	for (size_t i = 1; i < n; i++) {
		if (numbers[i] == numbers[i - 1]) {
			return err_set(e, -EBADMSG, "the manifest has the partition %u twice",
				       numbers[i]);
		}
	}
	return 0;
}

static int get_bad(json_t *root, struct manifest *m, struct err *e)
{
	json_t *list = json_object_get(root, "bad");

	if (list && !json_is_array(list))
		return err_set(e, -EBADMSG, "the manifest's \"bad\" is not a list");
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *o = json_array_get(list, i);
		uint64_t offset = 0, length = 0;
		int r = get_u64(o, "offset", &offset, e);

		if (r >= 0)
			r = get_u64(o, "length", &length, e);
		if (r < 0)
			return r;
		if (!length || offset > m->disk_size || length > m->disk_size - offset) {
			return err_set(e, -EBADMSG,
				       "the manifest's list of bad bytes leaves the disk");
		}
		r = extent_set_add(&m->bad, offset, length);
		if (r < 0)
			return err_oom(e);
	}
	extent_set_normalise(&m->bad);
	return 0;
}

static int manifest_check_sizes(const struct manifest *m, struct err *e)
{
	if (m->chunk_size < UINT64_C(1) << AMBRO_CHUNK_SHIFT_MIN ||
	    m->chunk_size > UINT64_C(1) << AMBRO_CHUNK_SHIFT_MAX ||
	    m->chunk_size & (m->chunk_size - 1)) {
		return err_set(e, -EBADMSG,
			       "the manifest says a chunk size of %" PRIu64
			       " bytes, which cannot be",
			       m->chunk_size);
	}
	if (m->logical_sector < SECTOR_MIN || m->logical_sector > SECTOR_MAX ||
	    m->logical_sector & (m->logical_sector - 1)) {
		return err_set(e, -EBADMSG,
			       "the manifest says a sector of %" PRIu32 " bytes, which cannot be",
			       m->logical_sector);
	}
	return 0;
}

static int get_increment(json_t *root, struct manifest *m, struct err *e)
{
	int r = 0;

	m->has_parent = json_object_get(root, "parent");
	if (m->has_parent)
		r = get_hex(root, "parent", m->parent_id, sizeof(m->parent_id), e);
	if (r >= 0)
		r = get_fields(root, m, manifest_increment_fields, e);
	if (r >= 0)
		r = get_object(root, "sample", m, manifest_sample_fields, e);
	return r;
}

static int get_manifest(json_t *root, struct manifest *m, struct err *e)
{
	json_t *tool = json_object_get(root, "tool");
	int r = tool ? get_string(root, "tool", &m->tool, e) : 0;

	if (r >= 0)
		r = get_hex(root, "image_id", m->image_id, sizeof(m->image_id), e);
	if (r >= 0)
		r = get_fields(root, m, manifest_time_fields, e);
	if (r >= 0)
		r = get_object(root, "host", m, manifest_host_fields, e);
	if (r >= 0)
		r = get_fields(root, m, manifest_how_fields, e);
	if (r >= 0)
		r = get_increment(root, m, e);
	if (r >= 0)
		r = get_object(root, "disk", m, manifest_disk_fields, e);
	if (r >= 0)
		r = manifest_check_sizes(m, e);
	for (size_t i = 0; i < m->n_regions && r >= 0; i++) {
		r = get_region(json_array_get(json_object_get(root, "regions"), i), &m->regions[i],
			       e);
		if (r < 0)
			err_prefix(e, "region %zu", i);
	}
	if (r >= 0)
		r = manifest_check_regions(m, e);
	if (r >= 0)
		r = manifest_check_partitions(m, e);
	if (r >= 0)
		r = get_bad(root, m, e);
	if (r >= 0)
		r = get_object(root, "capture", m, manifest_capture_fields, e);
	return r;
}

static int manifest_check_format(json_t *root, struct err *e)
{
	const char *hash;
	uint64_t format = 0;
	int r = get_u64(root, "format", &format, e);

	if (r < 0)
		return r;
	if (format > MANIFEST_FORMAT) {
		return err_set(e, -ENOTSUP,
			       "the manifest has format %" PRIu64
			       ", this tool reads %d: a newer tool is needed",
			       format, MANIFEST_FORMAT);
	}
	if (!format)
		return err_set(e, -EBADMSG, "the manifest has format 0");
	hash = get_text(root, "chunk_hash", e);
	if (!hash)
		return -EBADMSG;
	if (strcmp(hash, MANIFEST_CHUNK_HASH) != 0) {
		return err_set(e, -ENOTSUP,
			       "the image uses the hash \"" QUOTED
			       "\", which this tool does not know",
			       hash);
	}
	return 0;
}

int manifest_from_json(const char *text, size_t len, struct manifest **ret, struct err *e)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	_cleanup_(json_decrefp) json_t *root = NULL;
	json_error_t error;
	json_t *regions;
	int r;

	if (len > MANIFEST_TEXT_MAX)
		return err_set(e, -EBADMSG, "a manifest of %zu bytes cannot be", len);
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!root && json_error_code(&error) == json_error_out_of_memory)
		return err_oom(e);
	if (!json_is_object(root)) {
		return err_set(e, -EBADMSG, "the manifest is not a JSON object (%s)",
			       root ? "something else" : error.text);
	}
	r = manifest_check_format(root, e);
	if (r < 0)
		return r;
	regions = json_object_get(root, "regions");
	if (!json_array_size(regions))
		return err_set(e, -EBADMSG, "the manifest has no regions");
	if (json_array_size(regions) > len / REGION_TEXT_MIN ||
	    json_array_size(regions) > REGIONS_MAX)
		return err_set(e, -EBADMSG, "the manifest's regions are not regions");
	r = manifest_new(json_array_size(regions), &m);
	if (r < 0)
		return err_oom(e);
	r = get_manifest(root, m, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}
