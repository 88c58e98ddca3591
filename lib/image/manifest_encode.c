/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "lib/base/hex.h"
#include "lib/base/text.h"
#include "lib/image/manifest_fields.h"

/* Give @value (which may be NULL: no memory) to @object. */
static int put(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new(object, name, value) < 0 ? -ENOMEM : 0;
}

static json_t *json_text(const char *text)
{
	_cleanup_free_ char *clean = text_sanitise(text);

	return clean ? json_string(clean) : NULL;
}

static int put_text(json_t *object, const char *name, const char *text)
{
	return text ? put(object, name, json_text(text)) : 0;
}

static int put_number(json_t *object, const char *name, uint64_t value, struct err *e)
{
	/* JSON has no such limit, but jansson's integers have a sign */
	if (value > INT64_MAX) {
		return err_set(e, -EOVERFLOW, "%s is %" PRIu64 ", too large for a manifest", name,
			       value);
	}
	return put(object, name, json_integer((json_int_t)value));
}

static int put_fields(json_t *object, const void *base, const struct field *f, struct err *e)
{
	int r = 0;

	for (; f->name && r >= 0; f++) {
		const char *at = (const char *)base + f->offset;

		switch (f->kind) {
		case FIELD_STRING:
			r = put_text(object, f->name, *(char *const *)at);
			break;
		case FIELD_U64:
			r = put_number(object, f->name, *(const uint64_t *)at, e);
			break;
		case FIELD_U32:
			r = put_number(object, f->name, *(const uint32_t *)at, e);
			break;
		}
	}
	return r;
}

static int put_object(json_t *parent, const char *name, const void *base, const struct field *f,
		      struct err *e)
{
	_cleanup_(json_decrefp) json_t *object = json_object();
	int r;

	if (!object)
		return -ENOMEM;
	r = put_fields(object, base, f, e);
	if (r < 0)
		return r;
	return put(parent, name, TAKE_PTR(object));
}

static int put_hex(json_t *object, const char *name, const uint8_t *bytes, size_t len)
{
	char text[2 * AMBRO_ID_SIZE + 1];

	return put(object, name, json_string(hex_encode(bytes, len, text)));
}

static int put_created(json_t *object, uint64_t ns)
{
	time_t seconds = (time_t)(ns / 1000000000);
	char text[64];
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm))
		return -EOVERFLOW;
	return put(object, "created", json_string(text));
}

static int put_mounts(json_t *object, char **mounts)
{
	_cleanup_(json_decrefp) json_t *list = NULL;

	if (!mounts)
		return 0;
	list = json_array();
	if (!list)
		return -ENOMEM;
	for (; *mounts; mounts++) {
		if (json_array_append_new(list, json_text(*mounts)) < 0)
			return -ENOMEM;
	}
	return put(object, "mounts", TAKE_PTR(list));
}

static int put_region(json_t *o, const struct manifest_region *region, struct err *e)
{
	const char *kind = region_kind_name(region->kind);
	const char *content = region_content_name(region->content);
	int r;

	if (!kind || !content)
		return err_set(e, -EINVAL, "a region has no known kind or content");
	r = put_text(o, "kind", kind);
	if (r >= 0 && region->partition)
		r = put_number(o, "partition", region->partition, e);
	if (r >= 0)
		r = put_fields(o, region, region_place_fields, e);
	if (r >= 0 && (region->fs_type || region->fs_uuid || region->fs_label))
		r = put_object(o, "fs", region, region_fs_fields, e);
	if (r >= 0)
		r = put_mounts(o, region->mounts);
	if (r >= 0)
		r = put_text(o, "content", content);
	if (r >= 0)
		r = put_fields(o, region, region_map_fields, e);
	if (r >= 0)
		r = put_hex(o, "root", region->root.b, sizeof(region->root.b));
	return r;
}

static int put_regions(json_t *root, const struct manifest *m, struct err *e)
{
	_cleanup_(json_decrefp) json_t *list = json_array();

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_regions; i++) {
		_cleanup_(json_decrefp) json_t *o = json_object();
		int r = o ? put_region(o, &m->regions[i], e) : -ENOMEM;

		if (r < 0)
			return r;
		if (json_array_append_new(list, TAKE_PTR(o)) < 0)
			return -ENOMEM;
	}
	return put(root, "regions", TAKE_PTR(list));
}

static int put_bad(json_t *root, const struct manifest *m, struct err *e)
{
	_cleanup_(json_decrefp) json_t *list = json_array();

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < m->bad.count; i++) {
		const struct extent *x = &m->bad.items[i];
		_cleanup_(json_decrefp) json_t *o = json_object();
		int r = o ? put_number(o, "offset", x->start, e) : -ENOMEM;

		if (r >= 0)
			r = put_number(o, "length", x->length, e);
		if (r < 0)
			return r;
		if (json_array_append_new(list, TAKE_PTR(o)) < 0)
			return -ENOMEM;
	}
	return put(root, "bad", TAKE_PTR(list));
}

static int put_increment(json_t *root, const struct manifest *m, struct err *e)
{
	int r = 0;

	if (m->has_parent)
		r = put_hex(root, "parent", m->parent_id, sizeof(m->parent_id));
	if (r >= 0)
		r = put_fields(root, m, manifest_increment_fields, e);
	if (r >= 0 && m->sample_checked)
		r = put_object(root, "sample", m, manifest_sample_fields, e);
	return r;
}

static int put_manifest(json_t *root, const struct manifest *m, struct err *e)
{
	int r = put_number(root, "format", MANIFEST_FORMAT, e);

	if (r >= 0)
		r = put_text(root, "tool", m->tool);
	if (r >= 0)
		r = put_hex(root, "image_id", m->image_id, sizeof(m->image_id));
	if (r >= 0)
		r = put_created(root, m->created_ns);
	if (r >= 0)
		r = put_fields(root, m, manifest_time_fields, e);
	if (r >= 0)
		r = put_object(root, "host", m, manifest_host_fields, e);
	if (r >= 0)
		r = put_fields(root, m, manifest_how_fields, e);
	if (r >= 0)
		r = put_text(root, "chunk_hash", MANIFEST_CHUNK_HASH);
	if (r >= 0)
		r = put_increment(root, m, e);
	if (r >= 0)
		r = put_object(root, "disk", m, manifest_disk_fields, e);
	if (r >= 0)
		r = put_regions(root, m, e);
	if (r >= 0)
		r = put_bad(root, m, e);
	if (r >= 0)
		r = put_object(root, "capture", m, manifest_capture_fields, e);
	return r;
}

int manifest_to_json(const struct manifest *m, char **ret, size_t *ret_len, struct err *e)
{
	_cleanup_(json_decrefp) json_t *root = json_object();
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	r = root ? put_manifest(root, m, e) : -ENOMEM;
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0)
		return r;
	text = json_dumps(root, JSON_COMPACT);
	if (!text)
		return err_oom(e);
	len = strlen(text);
	if (len > MANIFEST_TEXT_MAX) {
		return err_set(e, -EFBIG, "the manifest would have %zu bytes, more than %u", len,
			       MANIFEST_TEXT_MAX);
	}
	*ret = TAKE_PTR(text);
	*ret_len = len;
	return 0;
}
