/* SPDX-License-Identifier: GPL-2.0-or-later */
/* image_reader over a source that is no file: one pack for each chunk, all in memory. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include "lib/image/tree.h"
#include "lib/image/verify.h"
#include "tests/unit/image-fixture.h"

#define ITEMS_MAX 8
#define CHUNKS	  5u
#define TAIL	  777u /* bytes of the last chunk */

struct item {
	struct chunk_id id;
	bool is_page;
	struct bytes bytes; /* body or frame */
	struct image_place place;
};

struct packs {
	struct item items[ITEMS_MAX];
	uint32_t n;
	uint8_t disk[CHUNKS * FIXTURE_CHUNK];
	struct manifest *manifest; /* the reader's, once it was made */
	int page_error, find_error, frame_error, use_error;
	unsigned int frees;
};

static struct item *packs_find(struct packs *p, const struct chunk_id *id, bool is_page)
{
	for (uint32_t i = 0; i < p->n; i++) {
		if (p->items[i].is_page == is_page && chunk_id_equal(&p->items[i].id, id))
			return &p->items[i];
	}
	return NULL;
}

static int packs_page(void *ctx, const struct chunk_id *id, void **ret_body, size_t *ret_len,
		      struct err *e)
{
	struct packs *p = ctx;
	const struct item *item = packs_find(p, id, true);

	if (p->page_error)
		return err_set(e, p->page_error, "the store says no");
	if (!item)
		return -ENOENT;
	*ret_body = malloc(item->bytes.len);
	assert_non_null(*ret_body);
	memcpy(*ret_body, item->bytes.data, item->bytes.len);
	*ret_len = item->bytes.len;
	return 0;
}

static int packs_place(void *ctx, const struct chunk_id *id, struct image_place *ret, struct err *e)
{
	struct packs *p = ctx;
	const struct item *item = packs_find(p, id, false);

	if (p->find_error)
		return err_set(e, p->find_error, "the store says no");
	if (!item)
		return -ENOENT;
	*ret = item->place;
	return 0;
}

static int packs_frame(void *ctx, const struct image_run *run, void *frame, struct err *e)
{
	struct packs *p = ctx;
	const struct item *item;

	if (p->frame_error)
		return err_set(e, p->frame_error, "the store says no");
	assert_true(run->container < p->n);
	item = &p->items[run->container];
	assert_int_equal(run->offset, item->place.offset);
	assert_int_equal(run->frame_len, item->place.frame_len);
	memcpy(frame, item->bytes.data, item->bytes.len);
	return 0;
}

static int packs_check_use(void *ctx, uint64_t pages, uint64_t chunks, struct err *e)
{
	struct packs *p = ctx;

	return p->use_error ? err_set(e, p->use_error, "that is too much") : 0;
}

static void packs_where(void *ctx, const struct image_run *run, char *buf, size_t size)
{
	snprintf(buf, size, "byte %llu of pack %u", (unsigned long long)run->offset,
		 run->container);
}

static void packs_count_free(void *ctx)
{
	struct packs *p = ctx;

	p->frees++;
}

static const struct image_source_ops packs_ops = {
	.page = packs_page,
	.find = packs_place,
	.frame = packs_frame,
	.check_use = packs_check_use,
	.where = packs_where,
	.free = packs_count_free,
};

static int packs_add_page(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	struct packs *p = ctx;
	struct item *item = &p->items[p->n++];

	assert_true(p->n <= ITEMS_MAX);
	item->id = *id;
	item->is_page = true;
	return bytes_add(&item->bytes, page, len);
}

static struct chunk_id packs_add_chunk(struct packs *p, struct codec *codec, const void *plain,
				       uint32_t len)
{
	struct item *item = &p->items[p->n++];
	uint8_t *frame = malloc(codec_bound(len));
	ssize_t n;

	assert_true(frame && p->n <= ITEMS_MAX);
	n = codec_compress(codec, plain, len, frame, codec_bound(len));
	assert_true(n > 0);
	chunk_id_of(plain, len, &item->id);
	item->bytes = (struct bytes){ .data = frame, .len = (size_t)n };
	item->place = (struct image_place){ .offset = 1000000 - 1000 * (uint64_t)p->n,
					    .frame_len = (uint32_t)n,
					    .plain_len = len,
					    .container = p->n - 1 };
	return item->id;
}

/* Data, zeros, nothing, noise, and a tail of data. */
static struct packs *packs_new(void)
{
	struct packs *p = calloc(1, sizeof(*p));
	_cleanup_(codec_freep) struct codec *codec = NULL;
	_cleanup_(tree_freep) struct tree *tree = NULL;
	struct manifest *m;
	struct chunk_id id;

	assert_non_null(p);
	assert_int_equal(manifest_new(1, &p->manifest), 0);
	assert_int_equal(codec_new(CODEC_LEVEL_DEFAULT, &codec), 0);
	assert_int_equal(tree_new(CHUNKS, &tree), 0);
	m = p->manifest;
	m->chunk_size = FIXTURE_CHUNK;
	m->disk_size = (CHUNKS - 1) * FIXTURE_CHUNK + TAIL;
	m->data_chunks = 3;
	m->regions[0].kind = REGION_WHOLE;
	m->regions[0].length = m->disk_size;
	m->regions[0].depth = 1;
	fill_text(p->disk, FIXTURE_CHUNK, 1);
	fill_noise(p->disk + 3 * FIXTURE_CHUNK, FIXTURE_CHUNK, 2);
	fill_text(p->disk + 4 * FIXTURE_CHUNK, TAIL, 3);
	assert_int_equal(tree_set(tree, 1, CHUNK_ZERO, NULL), 0);
	for (uint64_t i = 0; i < CHUNKS; i += i ? 1 : 3) {
		id = packs_add_chunk(p, codec, p->disk + i * FIXTURE_CHUNK,
				     region_chunk_len(m->disk_size, FIXTURE_CHUNK, i));
		assert_int_equal(tree_set(tree, i, CHUNK_DATA, &id), 0);
	}
	assert_int_equal(tree_emit(tree, packs_add_page, p, &m->regions[0].root), 0);
	return p;
}

static void packs_free(struct packs *p)
{
	for (uint32_t i = 0; i < p->n; i++)
		free(p->items[i].bytes.data);
	manifest_free(p->manifest);
	free(p);
}

static void packs_freep(struct packs **p)
{
	packs_free(*p);
}
#define _cleanup_packs_ _cleanup_(packs_freep)

static struct image_reader *packs_open(struct packs *p)
{
	struct image_reader *r = NULL;

	assert_int_equal(image_reader_new(&packs_ops, p, TAKE_PTR(p->manifest), 0,
					  UINT64_C(1) << 40, &r),
			 0);
	return r;
}

static void an_image_in_packs_is_read_as_one_in_a_file(void **state)
{
	_cleanup_packs_ struct packs *p = packs_new();
	struct image_reader *r = packs_open(p);
	_cleanup_free_ uint8_t *disk = calloc(1, sizeof(p->disk));
	struct verify_result result;
	struct image_cursor *c;
	struct image_run run;
	struct err e = { 0 };

	assert_int_equal(image_reader_size(r), UINT64_C(1) << 40);
	assert_int_equal(image_reader_require(r), 0);
	assert_int_equal(image_reader_frame_max(r), AMBRO_FRAME_MAX(FIXTURE_CHUNK));
	assert_int_equal(region_read_back(r, 0, disk, &e), 0);
	assert_memory_equal(disk, p->disk, sizeof(p->disk));
	assert_int_equal(image_verify(r, 2, NULL, NULL, NULL, &result, &e), 0);
	assert_int_equal(result.data_chunks, 3);
	/* whoever reads many can sort by these */
	assert_int_equal(image_cursor_new(r, 0, &c), 0);
	assert_int_equal(image_cursor_at(c, 3, &run, &e), 1);
	assert_int_equal(run.container, 1);
	assert_int_equal(run.offset, 998000);
	assert_int_equal(image_cursor_at(c, 4, &run, &e), 1);
	assert_int_equal(run.container, 2);
	image_cursor_free(c);
	assert_int_equal(p->frees, 0);
	image_reader_free(r);
	assert_int_equal(p->frees, 1);
}

static void a_read_chunk_leaves_its_frame_to_be_copied(void **state)
{
	_cleanup_packs_ struct packs *p = packs_new();
	_cleanup_(image_reader_freep) struct image_reader *r = packs_open(p);
	_cleanup_(image_cursor_freep) struct image_cursor *c = NULL;
	_cleanup_(codec_freep) struct codec *codec = NULL;
	_cleanup_free_ uint8_t *frame = malloc(image_reader_frame_max(r));
	_cleanup_free_ uint8_t *plain = malloc(FIXTURE_CHUNK);
	struct image_run run;
	struct err e = { 0 };

	assert_int_equal(codec_new(CODEC_LEVEL_DEFAULT, &codec), 0);
	assert_int_equal(image_cursor_new(r, 0, &c), 0);
	assert_int_equal(image_cursor_at(c, 3, &run, &e), 1);
	assert_int_equal(image_reader_chunk(r, &run, codec, frame, plain, &e), 0);
	assert_int_equal(run.frame_len, p->items[1].bytes.len);
	assert_memory_equal(frame, p->items[1].bytes.data, run.frame_len);
}

/* Reading ends with @code and the words; verifying, too, where that is damage. */
static void assert_refused(struct packs *p, int code, const char *words)
{
	_cleanup_(image_reader_freep) struct image_reader *r = packs_open(p);
	_cleanup_free_ uint8_t *disk = calloc(1, sizeof(p->disk));
	struct verify_result result;
	struct err e = { 0 };

	assert_int_equal(region_read_back(r, 0, disk, &e), code);
	assert_int_equal(e.code, code);
	if (!strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
	assert_int_equal(image_verify(r, 1, NULL, NULL, NULL, &result, &e),
			 code == -EIO ? -EBADMSG : code);
	assert_non_null(strstr(e.text, words));
}

static void a_wrong_page_is_refused(void **state)
{
	_cleanup_packs_ struct packs *flipped = packs_new(), *longer = packs_new(),
				     *gone = packs_new(), *same = packs_new();

	flipped->items[3].bytes.data[9] ^= 1;
	assert_refused(flipped, -EBADMSG, "is not the right one");
	bytes_add(&longer->items[3].bytes, "x", 1);
	assert_refused(longer, -EBADMSG, "is not the right one");
	gone->items[3].id.b[0] ^= 1;
	assert_refused(gone, -EBADMSG, "does not know the page");
	/* an honest page of an increment: states follow the 8 bytes of its head */
	same->items[3].bytes.data[9] = CHUNK_SAME;
	chunk_id_of(same->items[3].bytes.data, same->items[3].bytes.len, &same->items[3].id);
	same->manifest->regions[0].root = same->items[3].id;
	assert_refused(same, -EBADMSG, "is not the right one");
}

static void a_wrong_place_is_refused(void **state)
{
	_cleanup_packs_ struct packs *plain = packs_new(), *none = packs_new(),
				     *large = packs_new(), *gone = packs_new();

	plain->items[1].place.plain_len--;
	assert_refused(plain, -EBADMSG, "its place has 65536");
	none->items[1].place.frame_len = 0;
	assert_refused(none, -EBADMSG, "frame has 0 bytes, which cannot be");
	/* would be read behind the end of what image_reader_frame_max() made people allocate */
	large->items[1].place.frame_len = AMBRO_FRAME_MAX(FIXTURE_CHUNK) + 1;
	assert_refused(large, -EBADMSG, "frame has 131073 bytes, which cannot be");
	gone->items[1].id.b[0] ^= 1;
	assert_refused(gone, -EBADMSG, "does not know the chunk");
}

static void a_wrong_frame_is_refused_and_the_source_says_where(void **state)
{
	_cleanup_packs_ struct packs *noise = packs_new(), *other = packs_new();

	fill_noise(noise->items[1].bytes.data, noise->items[1].bytes.len, 9);
	assert_refused(noise, -EBADMSG,
		       "the chunk at byte 998000 of pack 1 is damaged (it does not decode)");
	/* a good frame, of another chunk */
	other->items[1].bytes.len = 0;
	bytes_add(&other->items[1].bytes, other->items[0].bytes.data, other->items[0].bytes.len);
	other->items[1].place.frame_len = other->items[0].place.frame_len;
	assert_refused(
		other, -EBADMSG,
		"the chunk at byte 998000 of pack 1 is damaged (its SHA-256 does not match)");
}

static void what_the_source_reports_is_passed_on(void **state)
{
	for (int i = 0; i < 3; i++) {
		for (int code = 0; code < 2; code++) {
			_cleanup_packs_ struct packs *p = packs_new();
			int *errors[] = { &p->page_error, &p->find_error, &p->frame_error };

			*errors[i] = code ? -EACCES : -EIO;
			assert_refused(p, *errors[i], "the store says no");
		}
	}
}

static void a_walk_longer_than_the_source_allows_ends(void **state)
{
	_cleanup_packs_ struct packs *p = packs_new();
	_cleanup_(image_reader_freep) struct image_reader *r = packs_open(p);
	struct verify_result result;
	struct err e = { 0 };

	p->use_error = -EBADMSG;
	assert_int_equal(image_verify(r, 1, NULL, NULL, NULL, &result, &e), -EBADMSG);
	assert_int_equal(result.damaged_chunks, CHUNKS);
	assert_non_null(strstr(e.text, "that is too much"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_image_in_packs_is_read_as_one_in_a_file),
		cmocka_unit_test(a_read_chunk_leaves_its_frame_to_be_copied),
		cmocka_unit_test(a_wrong_page_is_refused),
		cmocka_unit_test(a_wrong_place_is_refused),
		cmocka_unit_test(a_wrong_frame_is_refused_and_the_source_says_where),
		cmocka_unit_test(what_the_source_reports_is_passed_on),
		cmocka_unit_test(a_walk_longer_than_the_source_allows_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
