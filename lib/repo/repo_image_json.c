/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "lib/repo/repo_image.h"

#define IMAGE_FORMAT   1
#define IMAGE_TAGS_MAX 256u

static json_t *image_tags_json(char **tags)
{
	json_t *array = json_array();

	for (; array && tags && *tags; tags++) {
		if (json_array_append_new(array, json_string(*tags)) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

int repo_image_to_json(const struct repo_image *i, char **ret, size_t *ret_len, struct err *e)
{
	_cleanup_(json_decrefp) json_t *o = NULL;
	_cleanup_free_ char *manifest = NULL;
	json_t *m;
	size_t len;
	int r;

	r = manifest_to_json(i->manifest, &manifest, &len, e);
	if (r < 0)
		return r;
	m = json_loadb(manifest, len, 0, NULL);
	o = json_pack("{s:i, s:s, s:s, s:o, s:I, s:{s:I, s:I, s:I}, s:o}", "format", IMAGE_FORMAT,
		      "host", i->host, "disk", i->disk, "tags", image_tags_json(i->tags), "time_ns",
		      (json_int_t)i->time_ns, "stored", "new_chunks", (json_int_t)i->new_chunks,
		      "new_bytes", (json_int_t)i->new_bytes, "all_chunks",
		      (json_int_t)i->all_chunks, "manifest", m);
	*ret = o ? json_dumps(o, JSON_COMPACT) : NULL;
	if (!*ret)
		return err_oom(e);
	*ret_len = strlen(*ret);
	return 0;
}

static int image_parse_tags(const json_t *array, struct repo_image *i)
{
	const size_t n = json_array_size(array);

	if (!json_is_array(array) || n > IMAGE_TAGS_MAX)
		return -EBADMSG;
	i->tags = calloc(n + 1, sizeof(*i->tags));
	if (!i->tags)
		return -ENOMEM;
	for (size_t k = 0; k < n; k++) {
		const char *tag = json_string_value(json_array_get(array, k));

		if (!tag || !repo_image_word_valid(tag))
			return -EBADMSG;
		i->tags[k] = strdup(tag);
		if (!i->tags[k])
			return -ENOMEM;
	}
	return 0;
}

static int image_parse_members(const json_t *o, struct repo_image *i, json_t **ret_manifest)
{
	json_int_t time, new_chunks, new_bytes, all_chunks;
	const char *host, *disk;
	json_t *tags;

	if (json_unpack((json_t *)o, "{s:s, s:s, s:o, s:I, s:{s:I, s:I, s:I}, s:o}", "host", &host,
			"disk", &disk, "tags", &tags, "time_ns", &time, "stored", "new_chunks",
			&new_chunks, "new_bytes", &new_bytes, "all_chunks", &all_chunks, "manifest",
			ret_manifest) < 0 ||
	    time < 0 || new_chunks < 0 || new_bytes < 0 || all_chunks < 0 ||
	    !repo_image_word_valid(host) || !repo_image_word_valid(disk))
		return -EBADMSG;
	i->time_ns = (uint64_t)time;
	i->new_chunks = (uint64_t)new_chunks;
	i->new_bytes = (uint64_t)new_bytes;
	i->all_chunks = (uint64_t)all_chunks;
	i->host = strdup(host);
	i->disk = strdup(disk);
	return i->host && i->disk ? image_parse_tags(tags, i) : -ENOMEM;
}

int repo_image_from_json(const char *text, size_t len, struct repo_image **ret, struct err *e)
{
	_cleanup_(json_decrefp) json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	_cleanup_(repo_image_freep) struct repo_image *i = calloc(1, sizeof(*i));
	_cleanup_free_ char *manifest = NULL;
	json_t *m;
	int format, r;

	if (!i)
		return err_oom(e);
	if (!o || json_unpack(o, "{s:i}", "format", &format) < 0 || format < 1)
		return err_set(e, -EBADMSG, "the image is no JSON that we know");
	if (format > IMAGE_FORMAT) {
		return err_set(e, -ENOTSUP, "the image has format %d: a newer tool is needed",
			       format);
	}
	r = image_parse_members(o, i, &m);
	if (r == -EBADMSG) {
		return err_set(e, r,
			       "the image lacks members, or they are not what they should be");
	}
	manifest = r < 0 ? NULL : json_dumps(m, JSON_COMPACT);
	if (!manifest)
		return err_oom(e);
	r = manifest_from_json(manifest, strlen(manifest), &i->manifest, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(i);
	return 0;
}
