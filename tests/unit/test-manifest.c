/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include <jansson.h>

#include "lib/image/manifest_fields.h"
#include "tests/unit/image-fixture.h"

static struct manifest *full_manifest(void)
{
	struct manifest *m = NULL;
	struct manifest_region *region;

	assert_int_equal(manifest_new(2, &m), 0);
	m->tool = strdup("ambrotype 0.1.0");
	memcpy(m->image_id, "\x00\x01\x02\x03\x04\x05\x06\x07\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff", 16);
	m->created_ns = UINT64_C(1700000000123456789);
	m->instant_ns = INT64_MAX;
	m->hostname = strdup("web-7");
	m->machine_id = strdup("0123");
	m->kernel = strdup("6.18");
	m->os = strdup("Debian \"12\"\n");
	m->strategy = strdup("precopy");
	m->guarantee = strdup("crash-consistent");
	m->chunk_size = UINT64_C(1) << 20;
	m->path = strdup("/dev/sda");
	m->model = strdup("Größe ✓ 𝄞");
	m->table = strdup("gpt");
	m->table_script = strdup("label: gpt\n");
	m->disk_size = (UINT64_C(1) << 20) + (UINT64_C(5000) << 20);
	m->logical_sector = 512;
	m->physical_sector = 4096;
	assert_int_equal(extent_set_add(&m->bad, 512, 1024), 0);
	assert_int_equal(extent_set_add(&m->bad, 1 << 21, 4096), 0);
	m->passes = 3;
	m->read_bytes = UINT64_C(1) << 60;
	m->regions[0] = (struct manifest_region){ .kind = REGION_GAP,
						  .length = UINT64_C(1) << 20,
						  .content = CONTENT_EDGES,
						  .depth = 1 };
	region = &m->regions[1];
	region->kind = REGION_PARTITION;
	region->partition = 17;
	region->start = UINT64_C(1) << 20;
	region->length = UINT64_C(5000) << 20;
	region->name = strdup("root");
	region->fs_type = strdup("ext4");
	region->mounts = calloc(3, sizeof(*region->mounts));
	region->mounts[0] = strdup("/");
	region->mounts[1] = strdup("/mnt/\xff\xc0\x80x");
	region->content = CONTENT_USED;
	region->map = strdup("ext4");
	region->used = 12345678;
	region->depth = 2;
	memset(region->root.b, 0xab, sizeof(region->root.b));
	return m;
}

static void what_is_written_is_read(void **state)
{
	_cleanup_(manifest_freep) struct manifest *m = full_manifest(), *back = NULL;
	_cleanup_free_ char *json = NULL, *again = NULL;
	struct err e = { 0 };
	size_t len, len_again;

	assert_int_equal(manifest_to_json(m, &json, &len, &e), 0);
	assert_int_equal(len, strlen(json));
	assert_int_equal(manifest_from_json(json, len, &back, &e), 0);
	assert_int_equal(manifest_to_json(back, &again, &len_again, &e), 0);
	assert_string_equal(json, again);
	assert_int_equal(back->instant_ns, INT64_MAX);
	assert_int_equal(back->read_bytes, UINT64_C(1) << 60);
	assert_string_equal(back->model, "Größe ✓ 𝄞");
	assert_string_equal(back->os, "Debian \"12\"\n");
	assert_null(back->serial);
	assert_memory_equal(back->image_id, m->image_id, 16);
	assert_int_equal(back->bad.count, 2);
	assert_int_equal(back->regions[1].partition, 17);
	assert_int_equal(back->regions[1].content, CONTENT_USED);
	assert_null(back->regions[0].mounts);
	assert_string_equal(back->regions[1].mounts[0], "/");
	/* bytes that are no UTF-8 become U+FFFD, one each */
	assert_string_equal(back->regions[1].mounts[1],
			    "/mnt/\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx");
	assert_null(back->regions[1].mounts[2]);
	assert_memory_equal(&back->regions[1].root, &m->regions[1].root, AMBRO_ID_SIZE);
}

static void members_have_the_names_and_order_of_the_document(void **state)
{
	_cleanup_(manifest_freep) struct manifest *m = full_manifest();
	_cleanup_free_ char *json = NULL;
	struct err e = { 0 };
	size_t len;

	assert_int_equal(manifest_to_json(m, &json, &len, &e), 0);
	assert_non_null(strstr(
		json, "{\"format\":1,\"tool\":\"ambrotype 0.1.0\","
		      "\"image_id\":\"0001020304050607f8f9fafbfcfdfeff\","
		      "\"created\":\"2023-11-14T22:13:20Z\",\"created_ns\":1700000000123456789,"
		      "\"instant_ns\":9223372036854775807,\"host\":{\"hostname\":\"web-7\","));
	assert_non_null(strstr(json,
			       "\"strategy\":\"precopy\",\"guarantee\":\"crash-consistent\","
			       "\"chunk_size\":1048576,\"chunk_hash\":\"sha256-tree8k\",\"disk\":{"
			       "\"path\":\"/dev/sda\","));
	assert_non_null(strstr(json,
			       "{\"kind\":\"gap\",\"start\":0,\"length\":1048576,"
			       "\"content\":\"edges\",\"used\":0,\"depth\":1,\"root\":\"0000"));
	assert_non_null(strstr(json, "{\"kind\":\"partition\",\"partition\":17,\"start\":1048576,"
				     "\"length\":5242880000,\"name\":\"root\","
				     "\"fs\":{\"type\":\"ext4\"},\"mounts\":[\"/\","));
	assert_non_null(strstr(json,
			       "\"bad\":[{\"offset\":512,\"length\":1024},"
			       "{\"offset\":2097152,\"length\":4096}],\"capture\":{\"passes\":3,"
			       "\"freeze_us\":0,"));
}

static void a_number_too_large_for_json_is_not_written_wrong(void **state)
{
	_cleanup_(manifest_freep) struct manifest *m = full_manifest();
	_cleanup_free_ char *json = NULL;
	struct err e = { 0 };
	size_t len;

	m->read_bytes = (uint64_t)INT64_MAX + 1;
	assert_int_equal(manifest_to_json(m, &json, &len, &e), -EOVERFLOW);
	assert_non_null(strstr(e.text, "read_bytes"));
	assert_null(json);
}

/* The full manifest with one member changed, as text. @path: members and positions, by dots. */
static char *changed_json(const char *path, const char *value)
{
	_cleanup_(manifest_freep) struct manifest *m = full_manifest();
	_cleanup_free_ char *json = NULL, *names = strdup(path);
	char *text, *rest = names, *name;
	json_t *root, *at;
	size_t len;

	assert_int_equal(manifest_to_json(m, &json, &len, NULL), 0);
	root = json_loads(json, 0, NULL);
	for (at = root; (name = strsep(&rest, ".")) && rest;) {
		at = json_is_array(at) ? json_array_get(at, (size_t)atoi(name))
				       : json_object_get(at, name);
	}
	assert_non_null(at);
	if (!value) {
		json_object_del(at, name);
	} else {
		json_object_set_new(at, name, json_loads(value, JSON_DECODE_ANY, NULL));
	}
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}

static int parse_changed(const char *path, const char *value)
{
	_cleanup_free_ char *json = changed_json(path, value);
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	struct err e = { 0 };
	int r = manifest_from_json(json, strlen(json), &m, &e);

	if (r < 0) {
		assert_null(m);
		assert_int_equal(e.code, r);
		assert_true(*e.text);
	}
	return r;
}

static void lies_are_refused(void **state)
{
	static const char *const lies[][2] = {
		{ "format", "0" },
		{ "format", "-1" },
		{ "format", "\"1\"" },
		{ "format", NULL },
		{ "image_id", "\"00\"" },
		{ "image_id", "\"g0010203040506070809000000000000\"" },
		{ "image_id", NULL },
		{ "chunk_size", "65535" },
		{ "chunk_size", "32768" },
		{ "chunk_size", "8388608" },
		{ "chunk_size", "-65536" },
		{ "chunk_size", "1048576.0" },
		{ "chunk_hash", NULL },
		{ "created_ns", "-1" },
		{ "tool", "7" },
		{ "disk", "[]" },
		{ "disk", NULL },
		{ "disk.size", "0" },
		{ "disk.size", "5243928575" },
		{ "disk.size", "5243928577" },
		{ "disk.size", "-5243928576" },
		{ "disk.logical_sector", "0" },
		{ "disk.logical_sector", "4294967808" },
		{ "disk.logical_sector", "513" },
		{ "disk.model", "{}" },
		{ "host", "\"x\"" },
		{ "regions", "[]" },
		{ "regions", "{}" },
		{ "regions", NULL },
		{ "regions", "[1,2]" },
		{ "regions.0.start", "1" },
		{ "regions.0.length", "0" },
		{ "regions.0.length", "1048575" },
		{ "regions.0.length", "9223372036854775807" },
		{ "regions.0.depth", "0" },
		{ "regions.0.depth", "2" },
		{ "regions.1.depth", "1" },
		{ "regions.1.depth", "3" },
		{ "regions.1.depth", "4294967298" },
		{ "regions.1.start", "0" },
		{ "regions.1.start", "-1048576" },
		{ "regions.1.start", "1048577" },
		{ "regions.1.root", "\"ab\"" },
		{ "regions.1.root", "\"zz\"" },
		{ "regions.1.root", NULL },
		{ "regions.1.kind", "\"hole\"" },
		{ "regions.1.kind", NULL },
		{ "regions.1.content", "\"some\"" },
		{ "regions.1.partition", "0" },
		{ "regions.1.partition", NULL },
		{ "regions.1.mounts", "\"/\"" },
		{ "regions.1.mounts", "[1]" },
		{ "regions.1.fs", "[]" },
		{ "bad", "{}" },
		{ "bad", "[{\"offset\":0}]" },
		{ "bad", "[{\"offset\":0,\"length\":0}]" },
		{ "bad", "[{\"offset\":9223372036854775807,\"length\":1}]" },
		{ "bad", "[{\"offset\":1,\"length\":5243928576}]" },
		{ "capture", "3" },
		{ "capture.passes", "-3" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		if (parse_changed(lies[i][0], lies[i][1]) != -EBADMSG) {
			fail_msg("%s: %s was believed", lies[i][0],
				 lies[i][1] ? lies[i][1] : "gone");
		}
	}
}

static void what_only_a_newer_tool_knows_is_told_apart(void **state)
{
	assert_int_equal(parse_changed("format", "2"), -ENOTSUP);
	assert_int_equal(parse_changed("chunk_hash", "\"blake3\""), -ENOTSUP);
}

static void unknown_and_absent_members_are_no_matter(void **state)
{
	static const char *const changes[][2] = {
		{ "wisdom", "{\"x\":[1,2,{}]}" },
		{ "disk.colour", "\"red\"" },
		{ "regions.0.weight", "-1" },
		{ "tool", NULL },
		{ "host", NULL },
		{ "capture", NULL },
		{ "bad", NULL },
		{ "regions.1.fs", NULL },
		{ "regions.1.mounts", NULL },
		{ "regions.0.partition", "-5" },
		{ "created", "12" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(changes); i++)
		assert_int_equal(parse_changed(changes[i][0], changes[i][1]), 0);
}

static int parse(const char *text, size_t len)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	struct err e = { 0 };

	return manifest_from_json(text, len, &m, &e);
}

static void what_is_no_json_object_is_refused(void **state)
{
	static const char head[] = "{\"format\":1,\"chunk_hash\":\"" MANIFEST_CHUNK_HASH
				   "\",\"regions\":[";
	_cleanup_free_ char *deep = malloc(200000);
	size_t n = strlen(head);

	assert_int_equal(parse("", 0), -EBADMSG);
	assert_int_equal(parse("[]", 2), -EBADMSG);
	assert_int_equal(parse("{", 1), -EBADMSG);
	assert_int_equal(parse("{}\0", 3), -EBADMSG);
	assert_int_equal(parse("{\"format\":1,\"format\":1}", 23), -EBADMSG);
	assert_int_equal(parse("{\"format\":99999999999999999999}", 31), -EBADMSG);
	memset(deep, '[', 200000);
	assert_int_equal(parse(deep, 200000), -EBADMSG);
	/* any number of regions is claimed with a few bytes each */
	memcpy(deep, head, n);
	for (; n <= 200000 - 5; n += 2)
		memcpy(deep + n, "1,", 2);
	memcpy(deep + n, "1]}", 3);
	assert_int_equal(parse(deep, n + 3), -EBADMSG);
}

static void every_prefix_of_a_manifest_is_refused(void **state)
{
	_cleanup_(manifest_freep) struct manifest *m = full_manifest();
	_cleanup_free_ char *json = NULL;
	size_t len;

	assert_int_equal(manifest_to_json(m, &json, &len, NULL), 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(parse(json, i), -EBADMSG);
	assert_int_equal(parse(json, len), 0);
}

static void chunks_of_a_region_are_counted_without_overflow(void **state)
{
	assert_int_equal(region_chunks(1, 65536), 1);
	assert_int_equal(region_chunks(65536, 65536), 1);
	assert_int_equal(region_chunks(65537, 65536), 2);
	assert_int_equal(region_chunks(UINT64_MAX, 65536), UINT64_C(1) << 48);
	assert_int_equal(region_chunk_len(65537, 65536, 0), 65536);
	assert_int_equal(region_chunk_len(65537, 65536, 1), 1);
}

static void an_increment_tells_of_its_parent(void **state)
{
	_cleanup_(manifest_freep) struct manifest *m = full_manifest(), *back = NULL;
	_cleanup_free_ char *json = NULL, *bad = NULL;
	struct err e = { 0 };
	size_t len;

	m->has_parent = true;
	memset(m->parent_id, 0xcd, sizeof(m->parent_id));
	m->increment = strdup("tracked");
	m->increment_reason = strdup("because");
	m->track = strdup("1:a:b");
	m->sample_checked = 64;
	m->sample_different = 2;
	m->same_chunks = 5;
	assert_int_equal(manifest_to_json(m, &json, &len, &e), 0);
	assert_non_null(strstr(json,
			       "\"chunk_hash\":\"sha256-tree8k\","
			       "\"parent\":\"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\","
			       "\"increment\":\"tracked\",\"increment_reason\":\"because\","
			       "\"track\":\"1:a:b\",\"sample\":{\"checked\":64,\"different\":2},"
			       "\"disk\":"));
	assert_non_null(strstr(json, "\"same_chunks\":5}"));
	assert_int_equal(manifest_from_json(json, len, &back, &e), 0);
	assert_true(back->has_parent);
	assert_memory_equal(back->parent_id, m->parent_id, sizeof(m->parent_id));
	assert_string_equal(back->increment, "tracked");
	assert_string_equal(back->increment_reason, "because");
	assert_string_equal(back->track, "1:a:b");
	assert_int_equal(back->sample_checked, 64);
	assert_int_equal(back->sample_different, 2);
	assert_int_equal(back->same_chunks, 5);
	/* an id is 32 digits */
	bad = strdup(json);
	*strstr(bad, "cdcdcd") = 'x';
	assert_int_equal(parse(bad, len), -EBADMSG);
}

static void an_old_manifest_is_of_no_increment(void **state)
{
	_cleanup_(manifest_freep) struct manifest *m = full_manifest(), *back = NULL;
	_cleanup_free_ char *json = NULL;
	struct err e = { 0 };
	size_t len;

	assert_int_equal(manifest_to_json(m, &json, &len, &e), 0);
	assert_null(strstr(json, "\"parent\""));
	assert_null(strstr(json, "\"sample\""));
	assert_int_equal(manifest_from_json(json, len, &back, &e), 0);
	assert_false(back->has_parent);
	assert_null(back->increment);
	assert_null(back->track);
	assert_int_equal(back->sample_checked, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(members_have_the_names_and_order_of_the_document),
		cmocka_unit_test(a_number_too_large_for_json_is_not_written_wrong),
		cmocka_unit_test(lies_are_refused),
		cmocka_unit_test(what_only_a_newer_tool_knows_is_told_apart),
		cmocka_unit_test(unknown_and_absent_members_are_no_matter),
		cmocka_unit_test(what_is_no_json_object_is_refused),
		cmocka_unit_test(every_prefix_of_a_manifest_is_refused),
		cmocka_unit_test(chunks_of_a_region_are_counted_without_overflow),
		cmocka_unit_test(an_increment_tells_of_its_parent),
		cmocka_unit_test(an_old_manifest_is_of_no_increment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
