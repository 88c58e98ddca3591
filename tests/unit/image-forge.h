/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image-forge - images by a writer that lies: every check and hash is right, what is said may be anything.
 *
 * Between forge_begin() and forge_end() a test may change whatever the forge has noted so far.
 */
#pragma once

#include "lib/image/digest.h"
#include "lib/image/record.h"
#include "lib/image/tree.h"
#include "tests/unit/image-fixture.h"

#define FORGE_MAX 64

struct forge {
	struct bytes image;
	struct manifest *manifest;
	struct ambro_header header;
	struct ambro_location chunks[FORGE_MAX], pages[FORGE_MAX];
	uint64_t n_chunks, n_pages; /* of the locations above */
	struct ambro_index index;   /* as it is written */
	struct ambro_seek_entry seek[4 * FORGE_MAX];
	uint64_t n_seek;
	struct codec *codec;
};

static inline void forge_done(struct forge *f)
{
	manifest_free(f->manifest);
	codec_free(f->codec);
	free(f->image.data);
	*f = (struct forge){ 0 };
}
#define _cleanup_forge_ _cleanup_(forge_done)

static inline void forge_note(struct forge *f, uint64_t compressed, uint64_t plain)
{
	assert_true(f->n_seek < ARRAY_SIZE(f->seek));
	f->seek[f->n_seek++] =
		(struct ambro_seek_entry){ le32((uint32_t)compressed), le32((uint32_t)plain) };
}

static inline void forge_record(struct forge *f, enum ambro_record_type type, const void *body,
				size_t len)
{
	struct record_head head;

	record_make(type, body, len, &head);
	bytes_add(&f->image, &head, sizeof(head));
	bytes_add(&f->image, body, len);
	forge_note(f, record_frame_len(len), 0);
}

/* One region over a disk of @chunks chunks; its root and depth are the test's to set. */
static inline struct forge forge_new(uint64_t chunks)
{
	struct forge f = { 0 };
	struct manifest *m;

	assert_int_equal(manifest_new(1, &f.manifest), 0);
	assert_int_equal(codec_new(CODEC_LEVEL_DEFAULT, &f.codec), 0);
	m = f.manifest;
	m->chunk_size = FIXTURE_CHUNK;
	m->logical_sector = 512;
	memcpy(m->image_id, "0123456789abcdef", sizeof(m->image_id));
	m->disk_size = chunks * FIXTURE_CHUNK;
	m->regions[0].kind = REGION_WHOLE;
	m->regions[0].length = m->disk_size;
	m->regions[0].depth = tree_depth(chunks);
	f.header = (struct ambro_header){
		.version = le32(AMBRO_FORMAT_VERSION),
		.chunk_shift = le32(AMBRO_CHUNK_SHIFT_MIN),
		.require_features = le64(AMBRO_REQUIRE_WHOLE),
		.disk_size = le64(m->disk_size),
		.sector_size = le32(m->logical_sector),
		.regions = le32(1),
	};
	memcpy(f.header.magic, AMBRO_IMAGE_MAGIC, sizeof(f.header.magic));
	memcpy(f.header.image_id, m->image_id, sizeof(f.header.image_id));
	return f;
}

static inline void forge_begin(struct forge *f)
{
	forge_record(f, AMBRO_RECORD_HEADER, &f->header, sizeof(f->header));
	bytes_add(&f->image, ambro_guard, sizeof(ambro_guard));
	forge_note(f, sizeof(ambro_guard), 0);
}

/* A chunk of a frame of one's own. */
static inline void forge_frame(struct forge *f, const struct chunk_id *id, const void *frame,
			       size_t frame_len, uint32_t plain_len)
{
	const struct ambro_chunk c = { .plain_len = le32(plain_len),
				       .frame_len = le32((uint32_t)frame_len),
				       .id = *id };

	assert_true(f->n_chunks < FORGE_MAX);
	forge_record(f, AMBRO_RECORD_CHUNK, &c, sizeof(c));
	f->chunks[f->n_chunks++] = (struct ambro_location){ *id, le64(f->image.len),
							    le32((uint32_t)frame_len),
							    le32(plain_len) };
	bytes_add(&f->image, frame, frame_len);
	forge_note(f, frame_len, plain_len);
	f->index.chunks = le64(f->n_chunks);
}

/* An honest chunk of text. */
static inline struct chunk_id forge_chunk(struct forge *f, size_t len, uint64_t seed)
{
	_cleanup_free_ uint8_t *plain = malloc(len), *frame = malloc(codec_bound(len));
	struct chunk_id id;
	ssize_t n;

	assert_true(plain && frame);
	fill_text(plain, len, seed);
	chunk_id_of(plain, len, &id);
	n = codec_compress(f->codec, plain, len, frame, codec_bound(len));
	assert_true(n > 0);
	forge_frame(f, &id, frame, (size_t)n, (uint32_t)len);
	return id;
}

/* A page of any bytes. */
static inline struct chunk_id forge_page_of(struct forge *f, const void *body, size_t len)
{
	struct chunk_id id;

	assert_true(f->n_pages < FORGE_MAX);
	chunk_id_of(body, len, &id);
	f->pages[f->n_pages++] = (struct ambro_location){ id, le64(f->image.len),
							  le32((uint32_t)record_frame_len(len)),
							  le32((uint32_t)len) };
	forge_record(f, AMBRO_RECORD_PAGE, body, len);
	f->index.pages = le64(f->n_pages);
	return id;
}

/* A page whose @count entries are @states one after the other and round again, those with data all with @id. */
static inline struct chunk_id forge_page(struct forge *f, uint8_t level, uint32_t count,
					 const char *states, const struct chunk_id *id)
{
	const struct ambro_page head = { .level = level, .count = le32(count) };
	struct bytes body = { 0 };
	struct chunk_id made;

	bytes_add(&body, &head, sizeof(head));
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t state = (uint8_t)(states[i % strlen(states)] - '0');

		bytes_add(&body, &state, 1);
	}
	for (uint32_t i = 0; id && i < count; i++) {
		if (states[i % strlen(states)] == '0' + CHUNK_DATA)
			bytes_add(&body, id, sizeof(*id));
	}
	made = forge_page_of(f, body.data, body.len);
	free(body.data);
	return made;
}

static inline void forge_index(struct forge *f, struct ambro_trailer *t)
{
	struct bytes body = { 0 };

	bytes_add(&body, &f->index, sizeof(f->index));
	bytes_add(&body, f->chunks, f->n_chunks * sizeof(f->chunks[0]));
	bytes_add(&body, f->pages, f->n_pages * sizeof(f->pages[0]));
	t->index_offset = le64(f->image.len);
	t->index_frame_len = le64(record_frame_len(body.len));
	digest_of(&(struct iovec){ body.data, body.len }, 1, t->index_sha256);
	forge_record(f, AMBRO_RECORD_INDEX, body.data, body.len);
	free(body.data);
}

/* INDEX, MANIFEST (@json, or what f->manifest says when that is NULL), TRAILER and seek table. */
static inline void forge_end(struct forge *f, const char *json)
{
	struct ambro_skippable skip = { .magic = le32(AMBRO_SEEK_SKIPPABLE) };
	struct ambro_seek_footer footer = { 0 };
	const le32_t magic = le32(AMBRO_SEEK_FOOTER_MAGIC);
	_cleanup_free_ char *own = NULL;
	struct ambro_trailer t = { 0 };
	size_t len;

	forge_index(f, &t);
	assert_int_equal(manifest_to_json(f->manifest, &own, &len, NULL), 0);
	if (!json)
		json = own;
	t.manifest_offset = le64(f->image.len);
	t.manifest_frame_len = le64(record_frame_len(strlen(json)));
	digest_of(&(struct iovec){ (void *)json, strlen(json) }, 1, t.manifest_sha256);
	forge_record(f, AMBRO_RECORD_MANIFEST, json, strlen(json));
	memcpy(t.image_id, f->header.image_id, sizeof(t.image_id));
	t.seek_frames = le64(f->n_seek + 1);
	forge_record(f, AMBRO_RECORD_TRAILER, &t, sizeof(t));
	skip.length = le32((uint32_t)(f->n_seek * sizeof(f->seek[0]) + sizeof(footer)));
	footer.frames = le32((uint32_t)f->n_seek);
	memcpy(footer.magic, &magic, sizeof(magic));
	bytes_add(&f->image, &skip, sizeof(skip));
	bytes_add(&f->image, f->seek, f->n_seek * sizeof(f->seek[0]));
	bytes_add(&f->image, &footer, sizeof(footer));
}
