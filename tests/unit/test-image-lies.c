/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images in which every check and every hash is right and what they say is not: by a writer that lies. Each is refused with words, in
 * bounded time (an alarm ends the test) and memory (a limit on the address space).
 */
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ctl/restore_plan.h"
#include "lib/image/verify.h"
#include "tests/unit/image-forge.h"

#define SECONDS_MAX 120
#define MEMORY_MAX  (UINT64_C(1) << 30)

static void assert_says(const struct err *e, int r, const char *words)
{
	if (r != -EBADMSG || e->code != -EBADMSG || !strstr(e->text, words))
		fail_msg("%d, \"%s\" instead of \"%s\"", r, r < 0 ? e->text : "", words);
}

static void assert_refused_at_opening(const struct forge *f, const char *words)
{
	_cleanup_close_ int fd = image_memfd(f->image.data, f->image.len);
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	struct err e = { 0 };

	assert_says(&e, image_reader_open(fd, &r, &e), words);
}

static int all_chunks(const struct image_reader *r, struct err *e)
{
	_cleanup_free_ uint8_t *disk = calloc(image_reader_manifest(r)->disk_size, 1);

	assert_non_null(disk);
	return region_read_back(r, 0, disk, e);
}

/* The head is right; who restores and who verifies find the lie. @in_trees: before a byte of a chunk is read. */
static void assert_refused_by_readers(const struct forge *f, const char *words, bool in_trees)
{
	_cleanup_close_ int fd = image_memfd(f->image.data, f->image.len);
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	_cleanup_(restore_plan_freep) struct restore_plan *plan = NULL;
	struct err e = { 0 }, of_plan = { 0 }, of_verify = { 0 };
	struct verify_result v;
	int n;

	if (image_reader_open(fd, &r, &e) < 0)
		fail_msg("%s", e.text);
	n = restore_plan_new(r, RESTORE_ALL_REGIONS, NULL, &plan, &of_plan);
	if (in_trees) {
		assert_says(&of_plan, n, words);
	} else {
		assert_int_equal(n, 0);
		assert_says(&of_plan, all_chunks(r, &of_plan), words);
	}
	assert_says(&of_verify, image_verify(r, 2, NULL, NULL, NULL, &v, &of_verify), words);
	assert_true(v.damaged_chunks > 0);
}

/* Three chunks, two with data. */
static struct forge small_forge(void)
{
	struct forge f = forge_new(3);
	struct ambro_page head = { .count = le32(3) };
	struct chunk_id ids[2];
	struct bytes page = { 0 };

	forge_begin(&f);
	ids[0] = forge_chunk(&f, FIXTURE_CHUNK, 1);
	ids[1] = forge_chunk(&f, FIXTURE_CHUNK, 2);
	bytes_add(&page, &head, sizeof(head));
	bytes_add(&page, "\2\1\2", 3);
	bytes_add(&page, ids, sizeof(ids));
	f.manifest->regions[0].root = forge_page_of(&f, page.data, page.len);
	free(page.data);
	return f;
}

static void an_honest_forgery_is_an_image(void **state)
{
	_cleanup_forge_ struct forge f = small_forge();
	_cleanup_free_ uint8_t *disk = NULL, *text = malloc(FIXTURE_CHUNK);
	_cleanup_close_ int fd = -EBADF;
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	struct verify_result v;
	struct err e = { 0 };

	forge_end(&f, NULL);
	assert_int_equal(image_read_back(f.image.data, f.image.len, &disk, &e), 0);
	fill_text(text, FIXTURE_CHUNK, 2);
	assert_memory_equal(disk + 2 * FIXTURE_CHUNK, text, FIXTURE_CHUNK);
	fd = image_memfd(f.image.data, f.image.len);
	assert_int_equal(image_reader_open(fd, &r, &e), 0);
	assert_int_equal(image_verify(r, 1, NULL, NULL, NULL, &v, &e), 0);
	assert_int_equal(v.data_chunks, 2);
}

/* ---- the manifest ------------------------------------------------------------------------------- */

/* @json with the first @from replaced. */
static char *replaced(const char *json, const char *from, const char *to)
{
	const char *at = strstr(json, from);
	char *made;

	if (!at)
		fail_msg("no %s in %s", from, json);
	assert_true(asprintf(&made, "%.*s%s%s", (int)(at - json), json, to, at + strlen(from)) > 0);
	return made;
}

#define REGIONS "\"regions\":[{"
#define ROOT                      \
	"\"depth\":1,\"root\":\"" \
	"0000000000000000000000000000000000000000000000000000000000000000\""
#define GAP(start, length)                                                                        \
	"{\"kind\":\"gap\",\"content\":\"all\",\"start\":" #start ",\"length\":" #length "," ROOT \
	"},"
#define PART(number, start, length)                                                               \
	"{\"kind\":\"partition\",\"partition\":" #number ",\"content\":\"all\",\"start\":" #start \
	",\"length\":" #length "," ROOT "},"

static const struct {
	const char *from, *to, *words;
} manifest_lies[] = {
	/* regions: the disk has 196608 bytes */
	{ "\"start\":0", "\"start\":512", "region 0" },
	{ "\"start\":0", "\"start\":9223372036854775807", "region 0" },
	{ "\"length\":196608", "\"length\":0", "region 0" },
	{ "\"length\":196608", "\"length\":65536", "regions end at byte 65536" },
	{ "\"length\":196608", "\"length\":196609", "region 0" },
	{ "\"length\":196608", "\"length\":9223372036854775807", "region 0" },
	{ REGIONS, "\"regions\":[" GAP(0, 4096) "{", "region 1" },
	{ REGIONS, "\"regions\":[" GAP(0, 65536) GAP(0, 65536) "{", "region 1" },
	{ REGIONS, "\"regions\":[" GAP(131072, 65536) "{", "region 0" },
	{ "\"depth\":1", "\"depth\":2", "tree of depth 2" },
	{ "\"depth\":1", "\"depth\":0", "tree of depth 0" },
	{ "\"depth\":1", "\"depth\":4294967295", "tree of depth 4294967295" },
	{ "\"depth\":1", "\"depth\":4294967296", "too large" },
	{ "\"regions\":[{", "\"regions\":[],\"x\":[{", "no regions" },
	{ "\"kind\":\"whole\"", "\"kind\":\"hole\"", "unknown kind" },
	{ "\"content\":\"all\"", "\"content\":\"some\"", "unknown content" },
	{ "\"kind\":\"whole\"", "\"kind\":\"partition\",\"partition\":0", "number 0" },
	/* sizes */
	{ "\"size\":196608", "\"size\":9223372036854775807", "" },
	{ "\"size\":196608", "\"size\":-1", "\"size\"" },
	{ "\"size\":196608", "\"size\":1e300", "\"size\"" },
	{ "\"size\":196608", "\"size\":18446744073709551615", "JSON" },
	{ "\"chunk_size\":65536", "\"chunk_size\":131072", "contradict" },
	{ "\"chunk_size\":65536", "\"chunk_size\":9223372036854775807", "chunk size" },
	{ "\"chunk_size\":65536", "\"chunk_size\":0", "chunk size" },
	{ "\"logical_sector\":512", "\"logical_sector\":4096", "contradict" },
	{ "\"logical_sector\":512", "\"logical_sector\":2147483648", "sector" },
	{ "\"logical_sector\":512", "\"logical_sector\":1", "sector" },
	{ "\"logical_sector\":512", "\"logical_sector\":0", "sector" },
	{ "\"logical_sector\":512", "\"logical_sector\":1000", "sector" },
	/* the list of bad bytes */
	{ "\"bad\":[", "\"bad\":[{\"offset\":196608,\"length\":1}],\"x\":[", "bad" },
	{ "\"bad\":[", "\"bad\":[{\"offset\":0,\"length\":0}],\"x\":[", "bad" },
	{ "\"bad\":[", "\"bad\":[{\"offset\":1,\"length\":9223372036854775807}],\"x\":[", "bad" },
	{ "\"bad\":[", "\"bad\":[7],\"x\":[", "offset" },
	/* who it is */
	{ "\"image_id\":\"30", "\"image_id\":\"31", "contradict" },
	{ "\"created_ns\":0", "\"created_ns\":1", "contradict" },
};

static void a_manifest_that_lies_is_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(manifest_lies); i++) {
		_cleanup_forge_ struct forge f = small_forge();
		_cleanup_free_ char *json = NULL, *lie = NULL;
		size_t len;

		assert_int_equal(manifest_to_json(f.manifest, &json, &len, NULL), 0);
		lie = replaced(json, manifest_lies[i].from, manifest_lies[i].to);
		forge_end(&f, lie);
		assert_refused_at_opening(&f, manifest_lies[i].words);
	}
}

static void a_partition_that_is_there_twice_is_refused(void **state)
{
	_cleanup_forge_ struct forge f = small_forge();
	_cleanup_free_ char *json = NULL, *lie = NULL;
	size_t len;

	f.manifest->regions[0].start = 131072;
	f.manifest->regions[0].length = 65536;
	assert_int_equal(manifest_to_json(f.manifest, &json, &len, NULL), 0);
	lie = replaced(json, REGIONS, "\"regions\":[" PART(5, 0, 65536) PART(5, 65536, 65536) "{");
	forge_end(&f, lie);
	assert_refused_at_opening(&f, "partition 5 twice");
}

/* Each JSON text of these is small, and what it would make of itself is not. */
static void a_manifest_of_hostile_json_is_refused(void **state)
{
	static const struct {
		const char *piece, *words;
	} pieces[] = {
		{ "[", "JSON" },
		{ "{\"a\":", "JSON" },
		{ "\"\\u0000\"", "JSON" },
		{ "\xff\xfe", "JSON" },
		{ "{\"format\":1,\"format\":1}", "JSON" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		_cleanup_forge_ struct forge f = small_forge();
		struct bytes json = { 0 };

		for (int n = 0; n < 100000; n++)
			bytes_add(&json, pieces[i].piece, strlen(pieces[i].piece));
		bytes_add(&json, "", 1);
		forge_end(&f, (char *)json.data);
		assert_refused_at_opening(&f, pieces[i].words);
		free(json.data);
	}
}

static void a_manifest_of_too_many_regions_is_refused(void **state)
{
	_cleanup_forge_ struct forge f = small_forge();
	_cleanup_free_ char *json = NULL, *lie = NULL;
	struct bytes regions = { 0 };
	char one[256];
	size_t len;

	bytes_add(&regions, "\"regions\":[", 11);
	for (int i = 0; i < 65536; i++) {
		snprintf(one, sizeof(one),
			 "{\"kind\":\"gap\",\"content\":\"all\",\"start\":%d,\"length\":1," ROOT
			 "},",
			 i);
		bytes_add(&regions, one, strlen(one));
	}
	bytes_add(&regions, "{", 2);
	assert_int_equal(manifest_to_json(f.manifest, &json, &len, NULL), 0);
	lie = replaced(json, REGIONS, (char *)regions.data);
	free(regions.data);
	forge_end(&f, lie);
	assert_refused_at_opening(&f, "regions");
}

/* ---- HEADER and INDEX --------------------------------------------------------------------------- */

static void a_header_that_lies_is_refused(void **state)
{
	static const struct {
		size_t at;
		uint32_t value;
		const char *words;
	} lies[] = {
		{ offsetof(struct ambro_header, chunk_shift), 15, "2^15" },
		{ offsetof(struct ambro_header, chunk_shift), 23, "2^23" },
		{ offsetof(struct ambro_header, chunk_shift), 64, "2^64" },
		{ offsetof(struct ambro_header, chunk_shift), 17, "" },
		{ offsetof(struct ambro_header, version), 0, "magic" },
		{ offsetof(struct ambro_header, regions), 2, "contradict" },
		{ offsetof(struct ambro_header, regions), UINT32_MAX, "contradict" },
		{ offsetof(struct ambro_header, sector_size), 0, "contradict" },
		{ offsetof(struct ambro_header, disk_size) + 4, UINT32_MAX, "contradict" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct forge probe = small_forge();
		_cleanup_forge_ struct forge f = forge_new(3);
		const le32_t value = le32(lies[i].value);

		f.manifest->regions[0].root = probe.manifest->regions[0].root;
		forge_done(&probe);
		memcpy((uint8_t *)&f.header + lies[i].at, &value, sizeof(value));
		forge_begin(&f);
		forge_end(&f, NULL);
		assert_refused_at_opening(&f, lies[i].words);
	}
}

static void counts_of_the_index_that_lie_are_refused(void **state)
{
	static const uint64_t lies[][2] = {
		{ 0, 0 },
		{ 3, 1 },
		{ 2, 2 },
		{ 0, 2 },
		{ UINT64_C(1) << 60, 1 },
		{ UINT64_MAX, 4 }, /* the sum is right, modulo 2^64 */
		{ 2, UINT64_MAX },
		{ UINT64_MAX, UINT64_MAX },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		_cleanup_forge_ struct forge f = small_forge();

		f.index = (struct ambro_index){ le64(lies[i][0]), le64(lies[i][1]) };
		forge_end(&f, NULL);
		assert_refused_at_opening(&f, "the index says");
	}
}

static void locations_of_the_index_that_lie_are_refused(void **state)
{
	static const uint64_t offsets[] = {
		0, 8, 111, UINT64_MAX, UINT64_MAX - 100, INT64_MAX, UINT64_C(1) << 40
	};
	static const uint32_t lengths[] = { 0, (2 << 16) + 1, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(offsets) + ARRAY_SIZE(lengths); i++) {
		_cleanup_forge_ struct forge a = small_forge(), b = small_forge();
		_cleanup_forge_ struct forge c = small_forge();

		if (i < ARRAY_SIZE(offsets)) {
			a.chunks[0].offset = b.chunks[1].offset = le64(offsets[i]);
			c.pages[0].offset = le64(offsets[i]);
		} else {
			const le32_t len = le32(lengths[i - ARRAY_SIZE(offsets)]);

			a.chunks[0].frame_len = len;
			b.chunks[1].plain_len = len;
			c.pages[0].plain_len = len;
		}
		forge_end(&a, NULL);
		forge_end(&b, NULL);
		forge_end(&c, NULL);
		assert_refused_at_opening(&a, "which cannot be");
		assert_refused_at_opening(&b, "which cannot be");
		assert_refused_at_opening(&c, "which cannot be");
	}
}

static void locations_that_overlap_are_refused(void **state)
{
	_cleanup_forge_ struct forge f = small_forge(), g = small_forge();
	const struct ambro_location first = f.chunks[0];

	f.chunks[1].offset = le64(le64_get(f.chunks[0].offset) + 1);
	forge_end(&f, NULL);
	assert_refused_at_opening(&f, "which cannot be");
	/* and in the wrong order */
	g.chunks[0] = g.chunks[1];
	g.chunks[1] = first;
	forge_end(&g, NULL);
	assert_refused_at_opening(&g, "which cannot be");
}

/* A chunk is said to be where another record, or another chunk, is. */
static void a_location_of_something_else_is_refused(void **state)
{
	_cleanup_forge_ struct forge f = small_forge(), g = small_forge(), h = small_forge();
	struct chunk_id id;

	f.chunks[1].offset = f.pages[0].offset;
	f.chunks[1].frame_len = f.pages[0].frame_len;
	forge_end(&f, NULL);
	assert_refused_by_readers(&f, "it does not decode", false);

	/* their ids are exchanged */
	id = g.chunks[0].id;
	g.chunks[0].id = g.chunks[1].id;
	g.chunks[1].id = id;
	forge_end(&g, NULL);
	assert_refused_by_readers(&g, "does not match", false);

	/* a page is said to be where a chunk is */
	h.pages[0].offset = h.chunks[0].offset;
	forge_end(&h, NULL);
	assert_refused_by_readers(&h, "no PAGE record", true);
}

static void a_chunk_shorter_than_its_place_is_refused(void **state)
{
	_cleanup_forge_ struct forge f = forge_new(3);
	struct chunk_id id;

	forge_begin(&f);
	id = forge_chunk(&f, 1000, 1);
	f.manifest->regions[0].root = forge_page(&f, 0, 3, "120", &id);
	forge_end(&f, NULL);
	assert_refused_by_readers(&f, "has 1000 bytes, its place has 65536", true);
}

/* ---- chunks ------------------------------------------------------------------------------------- */

static void frames_that_are_not_their_chunk_are_refused(void **state)
{
	_cleanup_free_ uint8_t *plain = malloc(FIXTURE_CHUNK), *frame = malloc(FIXTURE_CHUNK);
	struct chunk_id id;
	ssize_t n;

	assert_true(plain && frame);
	fill_text(plain, FIXTURE_CHUNK, 1);
	chunk_id_of(plain, FIXTURE_CHUNK, &id);
	for (int lie = 0; lie < 5; lie++) {
		_cleanup_forge_ struct forge f = forge_new(1);

		/* two frames of half a chunk; a frame that says it has more; a run of zeros; noise */
		if (lie < 2) {
			size_t half = FIXTURE_CHUNK / 2;

			n = codec_compress(f.codec, plain, half, frame, FIXTURE_CHUNK);
			n += lie ? 0
				 : codec_compress(f.codec, plain + half, half, frame + n,
						  FIXTURE_CHUNK - (size_t)n);
		} else if (lie == 2) {
			n = (ssize_t)codec_zero_frame_len(CODEC_ZERO_FRAME_MAX);
			codec_zero_frame(CODEC_ZERO_FRAME_MAX, frame);
		} else if (lie == 3) {
			n = (ssize_t)codec_zero_frame_len(FIXTURE_CHUNK);
			codec_zero_frame(FIXTURE_CHUNK, frame);
		} else {
			n = 5000;
			fill_noise(frame, 5000, 7);
		}
		assert_true(n > 0);
		forge_begin(&f);
		forge_frame(&f, &id, frame, (size_t)n, FIXTURE_CHUNK);
		f.manifest->regions[0].root = forge_page(&f, 0, 1, "2", &id);
		forge_end(&f, NULL);
		assert_refused_by_readers(&f, "it does not decode", false);
	}
}

/* ---- pages -------------------------------------------------------------------------------------- */

static void pages_that_lie_are_refused(void **state)
{
	/* level, three bytes of 0, count, states: of a region of three chunks */
	static const struct {
		const char *body;
		size_t len;
	} pages[] = {
		{ "\1\0\0\0\3\0\0\0\1\1\1", 11 },	  /* another level */
		{ "\0\0\0\0\2\0\0\0\1\1", 10 },		  /* fewer chunks than the region has */
		{ "\0\0\0\0\4\0\0\0\1\1\1\1", 12 },	  /* more */
		{ "\0\0\0\0\0\0\0\0", 8 },		  /* none */
		{ "\0\0\0\0\xff\xff\xff\xff\1\1\1", 11 }, /* many */
		{ "\0\0\0\0\3\0\0\0\1\1\4", 11 },	  /* an unknown state */
		{ "\0\0\0\0\3\0\0\0\1\1\2", 11 },	  /* data without an id */
		{ "\0\1\0\0\3\0\0\0\1\1\1", 11 },	  /* reserved bytes in use */
		{ "\0\0\0\0\3\0\0\0\1\1", 10 },		  /* cut */
		{ "\0\0\0\0\3\0\0\0\1\1\1\0", 12 },	  /* a byte too many */
		{ "\0\0\0\0\3\0\0", 7 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		_cleanup_forge_ struct forge f = forge_new(3);

		forge_begin(&f);
		f.manifest->regions[0].root = forge_page_of(&f, pages[i].body, pages[i].len);
		forge_end(&f, NULL);
		assert_refused_by_readers(&f, "is not the right one", true);
	}
}

static void a_page_that_the_index_does_not_know_is_refused(void **state)
{
	_cleanup_forge_ struct forge f = small_forge(), g = forge_new(4097);
	struct chunk_id nowhere = { "nowhere" };

	f.pages[0].id = nowhere;
	forge_end(&f, NULL);
	assert_refused_by_readers(&f, "does not know the page", true);

	/* and below a root that is right */
	forge_begin(&g);
	g.manifest->regions[0].root = forge_page(&g, 1, 2, "12", &nowhere);
	forge_end(&g, NULL);
	assert_refused_by_readers(&g, "does not know the page", true);
}

/* A tree that leads back up: an entry of a page of level 1 is again a page of level 1, or the leaf a page of level 1. */
static void a_tree_that_does_not_go_down_is_refused(void **state)
{
	_cleanup_forge_ struct forge f = forge_new(4097), g = forge_new(2 * 4096 * 4096);
	struct chunk_id leaf, middle;

	forge_begin(&f);
	leaf = forge_page(&f, 0, 4096, "1", NULL);
	middle = forge_page(&f, 1, 2, "21", &leaf);
	f.manifest->regions[0].root = forge_page(&f, 1, 2, "21", &middle);
	forge_end(&f, NULL);
	assert_refused_by_readers(&f, "is not the right one", true);

	forge_begin(&g);
	leaf = forge_page(&g, 0, 4096, "2", &leaf);
	g.manifest->regions[0].root = forge_page(&g, 2, 2, "2", &leaf);
	forge_end(&g, NULL);
	assert_refused_by_readers(&g, "is not the right one", true);
}

static void a_bad_chunk_above_the_leaves_is_refused(void **state)
{
	_cleanup_forge_ struct forge f = forge_new(4097);

	forge_begin(&f);
	f.manifest->regions[0].root = forge_page(&f, 1, 2, "3", NULL);
	forge_end(&f, NULL);
	assert_refused_by_readers(&f, "is not the right one", true);
}

/* 2^46 chunks in a file of half a MiB: each page names one page below it 4096 times. */
static struct forge bomb(const char *leaf_states)
{
	const uint64_t chunks = UINT64_C(1) << 46;
	struct forge f = forge_new(chunks);
	struct chunk_id id;

	forge_begin(&f);
	id = forge_chunk(&f, FIXTURE_CHUNK, 1);
	id = forge_page(&f, 0, 4096, leaf_states, &id);
	id = forge_page(&f, 1, 4096, "2", &id);
	id = forge_page(&f, 2, 4096, "2", &id);
	f.manifest->regions[0].root = forge_page(&f, 3, 1024, "2", &id);
	forge_end(&f, NULL);
	assert_true(f.image.len < 1 << 20);
	return f;
}

static void a_tree_that_uses_its_pages_again_is_refused_at_once(void **state)
{
	/* all data; no data at all, and no two chunks of the same state; one run */
	_cleanup_forge_ struct forge f = bomb("2"), g = bomb("01"), h = bomb("3");

	assert_refused_by_readers(&f, "more chunks than the 1 of the INDEX", true);
	assert_refused_by_readers(&g, "more pages than the 4 of the INDEX", true);
	assert_refused_by_readers(&h, "more pages than the 4 of the INDEX", true);
}

/* Nothing but zeros, as many as there can be: no lie, and no work. */
static void an_exabyte_of_nothing_is_planned_at_once(void **state)
{
	_cleanup_forge_ struct forge f = forge_new((UINT64_C(1) << 47) - 1);
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	_cleanup_(restore_plan_freep) struct restore_plan *plan = NULL;
	_cleanup_close_ int fd = -EBADF;
	struct verify_result v;
	struct err e = { 0 };

	forge_begin(&f);
	f.manifest->regions[0].root = forge_page(&f, 3, 2048, "1", NULL);
	forge_end(&f, NULL);
	fd = image_memfd(f.image.data, f.image.len);
	assert_int_equal(image_reader_open(fd, &r, &e), 0);
	assert_int_equal(restore_plan_new(r, RESTORE_ALL_REGIONS, NULL, &plan, &e), 0);
	assert_true(restore_plan_total(plan, RESTORE_ZERO) == f.manifest->disk_size);
	assert_int_equal(image_verify(r, 1, NULL, NULL, NULL, &v, &e), 0);
}

/* ---- the seek table ----------------------------------------------------------------------------- */

/* Restoring needs none of it: the disk is right, and verify says what is wrong. */
static void a_seek_table_that_lies_is_named_by_verify(void **state)
{
	for (int lie = 0; lie < 5; lie++) {
		_cleanup_forge_ struct forge f = small_forge();
		_cleanup_(image_reader_freep) struct image_reader *r = NULL;
		_cleanup_free_ uint8_t *disk = NULL;
		_cleanup_close_ int fd = -EBADF;
		struct verify_result v;
		struct err e = { 0 };
		/* the first chunk's frame, behind HEADER, guard and CHUNK */
		struct ambro_seek_entry *s = &f.seek[3];

		switch (lie) {
		case 0:
			s->compressed_size = le32(le32_get(s->compressed_size) + 1);
			break;
		case 1:
			s->compressed_size = le32(UINT32_MAX);
			break;
		case 2:
			s->compressed_size = le32(0);
			break;
		case 3:
			s->decompressed_size = le32(1);
			break;
		default:
			f.seek[0].decompressed_size = le32(1);
			break;
		}
		forge_end(&f, NULL);
		assert_int_equal(image_read_back(f.image.data, f.image.len, &disk, &e), 0);
		fd = image_memfd(f.image.data, f.image.len);
		assert_int_equal(image_reader_open(fd, &r, &e), 0);
		assert_says(&e, image_verify(r, 1, NULL, NULL, NULL, &v, &e), "seek table");
		assert_int_equal(v.damaged_chunks, 0);
	}
}

/* An image that is right but for @run, which only verify looks at. */
static void assert_run_is_named(struct ambro_run run, const char *says)
{
	_cleanup_forge_ struct forge f = small_forge();
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	_cleanup_close_ int fd = -EBADF;
	struct verify_result v;
	struct err e = { 0 };

	forge_record(&f, AMBRO_RECORD_RUN, &run, sizeof(run));
	forge_end(&f, NULL);
	fd = image_memfd(f.image.data, f.image.len);
	assert_int_equal(image_reader_open(fd, &r, &e), 0);
	assert_says(&e, image_verify(r, 1, NULL, NULL, NULL, &v, &e), says);
}

static void a_run_that_lies_is_named_by_verify(void **state)
{
	static const uint64_t lies[][2] = {
		{ UINT64_MAX, UINT64_MAX },
		{ FIXTURE_CHUNK, 5 },
		{ 1, UINT64_C(1) << 40 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		assert_run_is_named((struct ambro_run){ .plain_len = le64(lies[i][0]),
							.frames_len = le64(lies[i][1]) },
				    "frame");
	}
}

static void a_run_of_another_state_is_named_by_verify(void **state)
{
	static const uint8_t states[] = { CHUNK_DATA, CHUNK_SAME, 5, UINT8_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		assert_run_is_named((struct ambro_run){ .state = states[i], .count = le64(1) },
				    "has a state");
	}
}

static int limit_time_and_memory(void **state)
{
	alarm(SECONDS_MAX);
	/* sanitizers take the whole address space for themselves */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	const struct rlimit most = { MEMORY_MAX, MEMORY_MAX };

	assert_int_equal(setrlimit(RLIMIT_AS, &most), 0);
#endif
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_honest_forgery_is_an_image),
		cmocka_unit_test(a_manifest_that_lies_is_refused),
		cmocka_unit_test(a_partition_that_is_there_twice_is_refused),
		cmocka_unit_test(a_manifest_of_hostile_json_is_refused),
		cmocka_unit_test(a_manifest_of_too_many_regions_is_refused),
		cmocka_unit_test(a_header_that_lies_is_refused),
		cmocka_unit_test(counts_of_the_index_that_lie_are_refused),
		cmocka_unit_test(locations_of_the_index_that_lie_are_refused),
		cmocka_unit_test(locations_that_overlap_are_refused),
		cmocka_unit_test(a_location_of_something_else_is_refused),
		cmocka_unit_test(a_chunk_shorter_than_its_place_is_refused),
		cmocka_unit_test(frames_that_are_not_their_chunk_are_refused),
		cmocka_unit_test(pages_that_lie_are_refused),
		cmocka_unit_test(a_page_that_the_index_does_not_know_is_refused),
		cmocka_unit_test(a_tree_that_does_not_go_down_is_refused),
		cmocka_unit_test(a_bad_chunk_above_the_leaves_is_refused),
		cmocka_unit_test(a_tree_that_uses_its_pages_again_is_refused_at_once),
		cmocka_unit_test(an_exabyte_of_nothing_is_planned_at_once),
		cmocka_unit_test(a_seek_table_that_lies_is_named_by_verify),
		cmocka_unit_test(a_run_that_lies_is_named_by_verify),
		cmocka_unit_test(a_run_of_another_state_is_named_by_verify),
	};

	return cmocka_run_group_tests(tests, limit_time_and_memory, NULL);
}
