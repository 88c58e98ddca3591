/* SPDX-License-Identifier: GPL-2.0-or-later */
/* make-seeds - the first inputs of the fuzzers, into the directory given (see README.md). */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/image/record.h"
#include "lib/image/tree.h"
#include "tests/unit/image-fixture.h"

static void save(const char *dir, const char *name, const void *head, size_t head_len,
		 const struct bytes *body)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(fwrite(head, 1, head_len, f), head_len);
	assert_int_equal(fwrite(body->data, 1, body->len, f), body->len);
	assert_int_equal(fclose(f), 0);
}

static void save_image(const char *dir, const char *name, const uint64_t *lengths, size_t n,
		       uint64_t require)
{
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, n);
	_cleanup_free_ char *json = NULL;
	char path[256];
	size_t len;

	f.manifest->tool = strdup("ambrotype");
	f.manifest->table = strdup("gpt");
	f.manifest->regions[0].fs_type = strdup("ext4");
	assert_int_equal(extent_set_add(&f.manifest->bad, 0, 1), 0);
	fixture_write(&f, require);
	/* as it is, and with checks and hashes mended */
	snprintf(path, sizeof(path), "image/%s", name);
	save(dir, path, "", 1, &f.image);
	snprintf(path, sizeof(path), "image/%s-mended", name);
	save(dir, path, "\x03", 1, &f.image);
	assert_int_equal(manifest_to_json(f.manifest, &json, &len, NULL), 0);
	snprintf(path, sizeof(path), "manifest/%s", name);
	save(dir, path, "", 0, &(struct bytes){ (uint8_t *)json, len, len });
}

struct page_seed {
	const char *dir;
	unsigned int count;
};

static int save_page(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	struct page_seed *p = ctx;
	const uint8_t *bytes = page;
	/* level and count, as the page's own head says */
	const uint8_t head[3] = { bytes[0], bytes[4], bytes[5] };
	char path[64];

	(void)id;
	snprintf(path, sizeof(path), "page/page-%u", p->count++);
	save(p->dir, path, head, sizeof(head), &(struct bytes){ (uint8_t *)page, len, len });
	return 0;
}

static void save_pages(struct page_seed *p, uint64_t chunks, uint64_t step)
{
	_cleanup_(tree_freep) struct tree *t = NULL;
	struct chunk_id id;

	assert_int_equal(tree_new(chunks, &t), 0);
	for (uint64_t i = 0; i < chunks; i += step) {
		chunk_id_of(&i, sizeof(i), &id);
		assert_int_equal(tree_set(t, i, (i / step + 2) % 4, &id), 0);
	}
	assert_int_equal(tree_emit(t, save_page, p, &id), 0);
}

/* The INDEX of an image, as fuzz-index wants it. */
static void save_index(const char *dir, const struct bytes *image, size_t trailer)
{
	const uint8_t head[2] = { 0, 20 };
	struct ambro_trailer t;
	struct bytes body;

	memcpy(&t, image->data + trailer + sizeof(struct record_head), sizeof(t));
	body.data = image->data + le64_get(t.index_offset) + sizeof(struct record_head);
	body.len = le64_get(t.index_frame_len) - sizeof(struct record_head);
	save(dir, "index/small", head, sizeof(head), &body);
}

/* All frames and the seek table but for its footer, as fuzz-framing wants them; and the first chunk's frame. */
static void save_framing(const char *dir, uint64_t require)
{
	/* 2^12 bytes in all */
	static const uint64_t lengths[] = { 700, 324, 1024, 512, 1024, 512 };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, ARRAY_SIZE(lengths));
	uint8_t head[4] = { (uint8_t)(require | 4), 12 };
	struct ambro_seek_footer footer;
	struct bytes part;
	char name[64];

	fixture_write(&f, require);
	memcpy(&footer, f.image.data + f.image.len - sizeof(footer), sizeof(footer));
	head[2] = (uint8_t)le32_get(footer.frames);
	part = (struct bytes){ .data = f.image.data, .len = f.image.len - sizeof(footer) };
	snprintf(name, sizeof(name), "framing/require-%u", (unsigned int)require);
	save(dir, name, head, sizeof(head), &part);
	head[0] |= 8;
	snprintf(name, sizeof(name), "framing/require-%u-elsewhere", (unsigned int)require);
	save(dir, name, head, sizeof(head), &part);
	if (!require) {
		save_index(dir, &f.image,
			   part.len - 8 * (size_t)le32_get(footer.frames) - 8 -
				   AMBRO_TRAILER_FRAME_LEN);
	}
}

static void save_frame(const char *dir, const char *name, size_t len, bool noise)
{
	_cleanup_(codec_freep) struct codec *c = NULL;
	_cleanup_free_ uint8_t *plain = malloc(len), *frame = malloc(codec_bound(len));
	const uint8_t head[3] = { (uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16) };
	ssize_t n;

	assert_true(plain && frame && codec_new(CODEC_LEVEL_DEFAULT, &c) == 0);
	(noise ? fill_noise : fill_text)(plain, len, 1);
	n = codec_compress(c, plain, len, frame, codec_bound(len));
	assert_true(n > 0);
	save(dir, name, head, sizeof(head), &(struct bytes){ .data = frame, .len = (size_t)n });
}

int main(int argc, char **argv)
{
	static const uint64_t small[] = { 700, 900, 1, 5, 512, 300, 2000 };
	static const uint64_t one[] = { 3 };
	static const uint64_t deep[] = { FIXTURE_CHUNK, FIXTURE_CHUNK + 1 };
	struct page_seed pages = { argc > 1 ? argv[1] : ".", 0 };

	save_image(pages.dir, "small", small, ARRAY_SIZE(small), 0);
	save_image(pages.dir, "guarded", small, ARRAY_SIZE(small), AMBRO_REQUIRE_WHOLE);
	save_image(pages.dir, "one", one, ARRAY_SIZE(one), 0);
	save_image(pages.dir, "edges", deep, ARRAY_SIZE(deep), AMBRO_REQUIRE_SPARSE);
	save_pages(&pages, 10, 1);
	save_pages(&pages, 1, 1);
	save_pages(&pages, 4097, 300);
	for (uint64_t require = 0; require <= AMBRO_REQUIRE_WHOLE; require++)
		save_framing(pages.dir, require);
	save_frame(pages.dir, "codec/text", 3000, false);
	save_frame(pages.dir, "codec/noise", 1000, true);
	return 0;
}
