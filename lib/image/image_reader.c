/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/image_reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/io.h"
#include "lib/image/digest.h"
#include "lib/image/framing.h"
#include "lib/image/image_index.h"
#include "lib/image/record.h"
#include "lib/image/tree.h"

/* Chunk numbers have at most 48 bits (64 bits of bytes, chunks of 2^16), 12 of them per level. */
#define DEPTH_MAX 4
/* Records of later versions may stand behind the HEADER and among the last ones; no more than these. */
#define EXTRA_FRAMES_MAX 1024

struct image_reader {
	int fd;
	uint64_t size;
	struct ambro_header header;
	uint64_t head_end; /* behind HEADER and guard */
	struct ambro_trailer trailer;
	struct image_span trailer_span;
	struct manifest *manifest;
	struct image_index *index;
};

void image_reader_free(struct image_reader *r)
{
	if (!r)
		return;
	manifest_free(r->manifest);
	image_index_free(r->index);
	free(r);
}

const struct manifest *image_reader_manifest(const struct image_reader *r)
{
	return r->manifest;
}

uint64_t image_reader_require(const struct image_reader *r)
{
	return le64_get(r->header.require_features);
}

uint64_t image_reader_size(const struct image_reader *r)
{
	return r->size;
}

size_t image_reader_frame_max(const struct image_reader *r)
{
	return image_index_frame_max(r->index);
}

static int reader_pread(const struct image_reader *r, void *buf, size_t len, uint64_t offset,
			struct err *e)
{
	int n;

	if (offset > r->size || len > r->size - offset) {
		err_set(e, -EBADMSG, "the image ends too early, at byte %" PRIu64, r->size);
		return -EBADMSG;
	}
	n = io_pread_all(r->fd, buf, len, offset);
	if (n == -ENODATA) {
		err_set(e, -EBADMSG, "the image became shorter while it was read");
		return -EBADMSG;
	}
	if (n < 0)
		err_set_errno(e, n, "cannot read the image at byte %" PRIu64, offset);
	return n;
}

/* The record at @at, whose body must have @len bytes, into @body. */
static int reader_record_into(const struct image_reader *r, enum ambro_record_type type,
			      const char *what, const struct image_span *at, void *body,
			      struct err *e)
{
	const uint64_t len = at->length - sizeof(struct record_head);
	struct record_head head;
	int n;

	n = reader_pread(r, &head, sizeof(head), at->offset, e);
	if (n < 0)
		return n;
	n = record_head_check(&head, type, at->length, what, e);
	if (n < 0)
		return n;
	if (record_body_len(&head) != len) {
		return err_set(e, -EBADMSG, "the %s record has not the length it should have",
			       what);
	}
	n = reader_pread(r, body, len, at->offset + sizeof(head), e);
	if (n < 0)
		return n;
	return record_body_check(&head, body, what, e);
}

/* The same, allocated. */
static int reader_record(const struct image_reader *r, enum ambro_record_type type,
			 const char *what, const struct image_span *at, void **ret, struct err *e)
{
	_cleanup_free_ void *body = NULL;
	int n;

	if (at->length < sizeof(struct record_head) || at->offset > r->size ||
	    at->length > r->size - at->offset)
		return err_set(e, -EBADMSG, "the %s record is said to lie outside the image", what);
	/* never 0 bytes, for which malloc() may return NULL */
	body = malloc(at->length);
	if (!body)
		return err_oom(e);
	n = reader_record_into(r, type, what, at, body, e);
	if (n < 0)
		return n;
	*ret = TAKE_PTR(body);
	return 0;
}

static int reader_open_header(struct image_reader *r, struct err *e)
{
	struct image_span at = { 0, record_frame_len(sizeof(r->header)) };
	struct ambro_header *h = &r->header;
	struct record_head start;
	uint64_t require;
	int n;

	if (r->size < at.length || io_pread_all(r->fd, &start, sizeof(start), 0) < 0 ||
	    le32_get(start.skip.magic) != AMBRO_SKIPPABLE ||
	    memcmp(start.record.magic, AMBRO_RECORD_MAGIC, sizeof(start.record.magic)) != 0)
		return err_set(e, -EBADMSG, "this is not an image (it does not begin like one)");
	/* the one record whose length a later version may change before this one can see that it did */
	if (record_version_check(&start, "HEADER", e) < 0)
		return -ENOTSUP;
	n = reader_record_into(r, AMBRO_RECORD_HEADER, "HEADER", &at, h, e);
	if (n < 0)
		return n;
	if (memcmp(h->magic, AMBRO_IMAGE_MAGIC, sizeof(h->magic)) != 0 || !le32_get(h->version))
		return err_set(e, -EBADMSG, "this is not an image (its HEADER has another magic)");
	if (le32_get(h->version) > AMBRO_FORMAT_VERSION) {
		return err_set(e, -ENOTSUP,
			       "the image has format %" PRIu32
			       ", this tool reads up to %d: a newer tool is needed",
			       le32_get(h->version), AMBRO_FORMAT_VERSION);
	}
	require = le64_get(h->require_features);
	if (require & ~AMBRO_REQUIRE_KNOWN) {
		return err_set(e, -ENOTSUP,
			       "the image needs features (%#" PRIx64
			       ") that this tool does not know: a newer tool is needed",
			       require & ~AMBRO_REQUIRE_KNOWN);
	}
	r->head_end = at.length;
	if (require) {
		uint8_t guard[AMBRO_GUARD_SIZE];

		n = reader_pread(r, guard, sizeof(guard), at.length, e);
		if (n < 0)
			return n;
		if (memcmp(guard, ambro_guard, sizeof(guard)) != 0)
			return err_set(e, -EBADMSG, "the guard behind the HEADER is damaged");
		r->head_end += sizeof(guard);
	}
	return 0;
}

/* From the last bytes: the seek table's extent, and so where the TRAILER is. */
static int reader_open_trailer(struct image_reader *r, struct err *e)
{
	const uint64_t room = r->size - r->head_end;
	const le32_t magic = le32(AMBRO_SEEK_FOOTER_MAGIC);
	struct ambro_seek_footer footer;
	struct ambro_skippable skip;
	uint64_t frames, table_len;
	int n;

	if (room < sizeof(footer) + sizeof(skip) + AMBRO_TRAILER_FRAME_LEN)
		return err_set(e, -EBADMSG, "the image is incomplete: it ends after its head");
	n = reader_pread(r, &footer, sizeof(footer), r->size - sizeof(footer), e);
	if (n < 0)
		return n;
	if (memcmp(footer.magic, &magic, sizeof(magic)) != 0) {
		return err_set(e, -EBADMSG,
			       "the image is incomplete: its end is missing (the capture or a copy "
			       "of it was cut off)");
	}
	frames = le32_get(footer.frames);
	table_len = sizeof(skip) + frames * sizeof(struct ambro_seek_entry) + sizeof(footer);
	if (footer.descriptor || frames > AMBRO_SEEK_MAX_FRAMES ||
	    table_len > room - AMBRO_TRAILER_FRAME_LEN)
		return err_set(e, -EBADMSG, "the seek table's footer is damaged");
	n = reader_pread(r, &skip, sizeof(skip), r->size - table_len, e);
	if (n < 0)
		return n;
	if (le32_get(skip.magic) != AMBRO_SEEK_SKIPPABLE ||
	    le32_get(skip.length) != table_len - sizeof(skip))
		return err_set(e, -EBADMSG, "the seek table is damaged");
	r->trailer_span.length = AMBRO_TRAILER_FRAME_LEN;
	r->trailer_span.offset = r->size - table_len - AMBRO_TRAILER_FRAME_LEN;
	n = reader_record_into(r, AMBRO_RECORD_TRAILER, "TRAILER", &r->trailer_span, &r->trailer,
			       e);
	if (n < 0)
		return n;
	if (memcmp(r->trailer.image_id, r->header.image_id, sizeof(r->header.image_id)) != 0)
		return err_set(e, -EBADMSG, "HEADER and TRAILER are of different images");
	if (le64_get(r->trailer.seek_frames) != frames)
		return err_set(e, -EBADMSG, "the seek table has not the length that it should");
	return 0;
}

/*
 * Step over skippable frames from @at to @end, and refuse when one is a critical record that this version
 * does not know. Ends early at the first frame that is none of these, if @may_stop.
 */
static int reader_check_extras(const struct image_reader *r, uint64_t at, uint64_t end,
			       bool may_stop, struct err *e)
{
	for (unsigned int i = 0; at < end; i++) {
		struct record_head head = { 0 };
		const uint64_t room = end - at;
		uint64_t len;
		bool ours;
		int n;

		if (i == EXTRA_FRAMES_MAX || room < sizeof(head.skip))
			return err_set(e, -EBADMSG, "there is no known frame at byte %" PRIu64, at);
		n = reader_pread(r, &head, MIN(room, (uint64_t)sizeof(head)), at, e);
		if (n < 0)
			return n;
		len = sizeof(head.skip) + (uint64_t)le32_get(head.skip.length);
		ours = le32_get(head.skip.magic) == AMBRO_SKIPPABLE && len >= sizeof(head) &&
		       !memcmp(head.record.magic, AMBRO_RECORD_MAGIC, sizeof(head.record.magic));
		if (ours && (head.record.type < AMBRO_RECORD_HEADER ||
			     head.record.type > AMBRO_RECORD_TRAILER)) {
			if (le16_get(head.record.flags) & AMBRO_RECORD_CRITICAL) {
				return err_set(
					e, -ENOTSUP,
					"the image has a record of type %u that this tool does "
					"not know and may not skip: a newer tool is needed",
					head.record.type);
			}
		} else if (may_stop && (ours || !AMBRO_IS_SKIPPABLE(le32_get(head.skip.magic)))) {
			return 0;
		}
		if (!AMBRO_IS_SKIPPABLE(le32_get(head.skip.magic)) || len > room)
			return err_set(e, -EBADMSG, "there is no known frame at byte %" PRIu64, at);
		at += len;
	}
	return 0;
}

static int reader_open_index(struct image_reader *r, struct err *e)
{
	const struct image_span at = { le64_get(r->trailer.index_offset),
				       le64_get(r->trailer.index_frame_len) };
	const struct image_span within = { r->head_end, at.offset - r->head_end };
	_cleanup_free_ void *body = NULL;
	uint8_t hash[DIGEST_SIZE];
	size_t len;
	int n;

	n = reader_record(r, AMBRO_RECORD_INDEX, "INDEX", &at, &body, e);
	if (n < 0)
		return n;
	len = at.length - sizeof(struct record_head);
	digest_of(&(struct iovec){ body, len }, 1, hash);
	if (memcmp(hash, r->trailer.index_sha256, sizeof(hash)) != 0)
		return err_set(e, -EBADMSG, "the INDEX is not the one of the TRAILER");
	return image_index_new(TAKE_PTR(body), len, &within,
			       UINT64_C(1) << le32_get(r->header.chunk_shift), &r->index, e);
}

static int reader_open_manifest(struct image_reader *r, struct err *e)
{
	const struct image_span at = { le64_get(r->trailer.manifest_offset),
				       le64_get(r->trailer.manifest_frame_len) };
	const struct ambro_header *h = &r->header;
	_cleanup_free_ void *body = NULL;
	uint8_t hash[DIGEST_SIZE];
	struct manifest *m;
	size_t len;
	int n;

	n = reader_record(r, AMBRO_RECORD_MANIFEST, "MANIFEST", &at, &body, e);
	if (n < 0)
		return n;
	len = at.length - sizeof(struct record_head);
	digest_of(&(struct iovec){ body, len }, 1, hash);
	if (memcmp(hash, r->trailer.manifest_sha256, sizeof(hash)) != 0)
		return err_set(e, -EBADMSG, "the MANIFEST is not the one of the TRAILER");
	n = manifest_from_json(body, len, &r->manifest, e);
	if (n < 0)
		return n;
	m = r->manifest;
	if (memcmp(m->image_id, h->image_id, sizeof(h->image_id)) != 0 ||
	    m->disk_size != le64_get(h->disk_size) ||
	    m->chunk_size != UINT64_C(1) << le32_get(h->chunk_shift) ||
	    m->n_regions != le32_get(h->regions) || m->logical_sector != le32_get(h->sector_size) ||
	    m->created_ns != le64_get(h->created_ns))
		return err_set(e, -EBADMSG, "HEADER and MANIFEST contradict each other");
	return 0;
}

static int reader_open_all(struct image_reader *r, struct err *e)
{
	uint64_t index, manifest, end;
	uint32_t shift;
	int n;

	n = reader_open_header(r, e);
	if (n < 0)
		return n;
	shift = le32_get(r->header.chunk_shift);
	if (shift < AMBRO_CHUNK_SHIFT_MIN || shift > AMBRO_CHUNK_SHIFT_MAX)
		return err_set(e, -EBADMSG, "the HEADER says chunks of 2^%" PRIu32 " bytes", shift);
	n = reader_open_trailer(r, e);
	if (n < 0)
		return n;
	index = le64_get(r->trailer.index_offset);
	manifest = le64_get(r->trailer.manifest_offset);
	end = r->trailer_span.offset;
	if (index < r->head_end || index > end || manifest < r->head_end || manifest > end)
		return err_set(e, -EBADMSG, "the TRAILER points outside the image");
	n = reader_check_extras(r, r->head_end, end, true, e);
	if (n < 0)
		return n;
	n = reader_check_extras(r, MIN(index, manifest), end, false, e);
	if (n < 0)
		return n;
	n = reader_open_index(r, e);
	if (n < 0)
		return n;
	return reader_open_manifest(r, e);
}

int image_reader_open(int fd, struct image_reader **ret, struct err *e)
{
	_cleanup_(image_reader_freep) struct image_reader *r = calloc(1, sizeof(*r));
	int n;

	if (!r)
		return err_oom(e);
	r->fd = fd;
	n = io_size(fd, &r->size);
	if (n == -ENOTBLK) {
		return err_set(e, -ESPIPE,
			       "an image can be read from a regular file or a block device only");
	}
	if (n < 0)
		return err_set_errno(e, n, "cannot tell the image's size");
	n = reader_open_all(r, e);
	if (n < 0)
		return n;
	*ret = TAKE_PTR(r);
	return 0;
}

/* The page of one level that the cursor stands in. */
struct cursor_level {
	uint8_t *body;	 /* NULL while none was read */
	uint64_t number; /* of the page in its level */
	struct page_view view;
	uint16_t ranks[AMBRO_PAGE_FANOUT]; /* of each entry: data entries before it */
};

struct image_cursor {
	const struct image_reader *reader;
	uint32_t region;
	uint64_t length;
	uint64_t chunks;
	unsigned int depth;
	uint64_t lost_end; /* first chunk behind what is being looked for */
	uint64_t pages;	   /* read */
	struct cursor_level *levels[DEPTH_MAX];
};

int image_cursor_new(const struct image_reader *r, uint32_t region, struct image_cursor **ret)
{
	_cleanup_(image_cursor_freep) struct image_cursor *c = NULL;
	const struct manifest *m = r->manifest;

	if (region >= m->n_regions || m->regions[region].depth > DEPTH_MAX)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->reader = r;
	c->region = region;
	c->length = m->regions[region].length;
	c->chunks = region_chunks(c->length, m->chunk_size);
	c->depth = m->regions[region].depth;
	for (unsigned int i = 0; i < c->depth; i++) {
		c->levels[i] = calloc(1, sizeof(*c->levels[i]));
		if (!c->levels[i])
			return -ENOMEM;
	}
	*ret = TAKE_PTR(c);
	return 0;
}

void image_cursor_free(struct image_cursor *c)
{
	if (!c)
		return;
	for (unsigned int i = 0; i < DEPTH_MAX; i++) {
		if (c->levels[i])
			free(c->levels[i]->body);
		free(c->levels[i]);
	}
	free(c);
}

/* How many chunks one entry of a page of @level speaks of. */
static uint64_t level_span(unsigned int level)
{
	uint64_t span = 1;

	while (level--)
		span *= AMBRO_PAGE_FANOUT;
	return span;
}

/* Read page @number of @level, whose id is @id, unless the cursor stands in it already. */
static int cursor_load(struct image_cursor *c, unsigned int level, uint64_t number,
		       const struct chunk_id *id, struct err *e)
{
	struct cursor_level *l = c->levels[level];
	const uint64_t entries = (c->chunks - 1) / level_span(level) + 1;
	const uint64_t count =
		MIN(entries - number * AMBRO_PAGE_FANOUT, (uint64_t)AMBRO_PAGE_FANOUT);
	_cleanup_free_ void *body = NULL;
	struct image_place place;
	struct page_view view;
	struct image_span at;
	struct chunk_id found;
	uint16_t rank = 0;
	int n;

	if (l->body && l->number == number)
		return 0;
	if (image_index_page(c->reader->index, id, &place) < 0)
		return err_set(e, -EBADMSG, "the index does not know the page");
	c->pages++;
	at = (struct image_span){ place.offset, place.frame_len };
	n = reader_record(c->reader, AMBRO_RECORD_PAGE, "PAGE", &at, &body, e);
	if (n < 0)
		return n;
	chunk_id_of(body, place.plain_len, &found);
	if (!chunk_id_equal(&found, id) ||
	    page_parse(body, place.plain_len, level, count, &view) < 0) {
		return err_set(e, -EBADMSG, "the page at byte %" PRIu64 " is not the right one",
			       place.offset);
	}
	free(l->body);
	l->body = TAKE_PTR(body);
	l->number = number;
	l->view = view;
	for (uint32_t i = 0; i < view.count; i++) {
		l->ranks[i] = rank;
		rank += view.states[i] == CHUNK_DATA;
	}
	return 0;
}

static int cursor_data_run(const struct image_cursor *c, uint64_t index, const struct chunk_id *id,
			   struct image_run *ret, struct err *e)
{
	const uint64_t chunk_size = c->reader->manifest->chunk_size;
	struct image_place place;

	if (image_index_chunk(c->reader->index, id, &place) < 0)
		return err_set(e, -EBADMSG, "the index does not know the chunk");
	if (place.plain_len != region_chunk_len(c->length, chunk_size, index)) {
		return err_set(e, -EBADMSG,
			       "the index says that the chunk has %" PRIu32
			       " bytes, its place has %" PRIu32,
			       place.plain_len, region_chunk_len(c->length, chunk_size, index));
	}
	*ret = (struct image_run){ .state = CHUNK_DATA,
				   .index = index,
				   .count = 1,
				   .id = *id,
				   .offset = place.offset,
				   .frame_len = place.frame_len,
				   .plain_len = place.plain_len };
	return 0;
}

static int cursor_walk(struct image_cursor *c, uint64_t index, struct image_run *ret, struct err *e)
{
	struct chunk_id id = c->reader->manifest->regions[c->region].root;

	for (unsigned int level = c->depth; level-- > 0;) {
		const uint64_t span = level_span(level), entry = index / span;
		const struct cursor_level *l = c->levels[level];
		const uint32_t first = entry % AMBRO_PAGE_FANOUT;
		uint32_t last = first;
		uint64_t end;
		int n;

		c->lost_end = MIN((entry - first + AMBRO_PAGE_FANOUT) * span, c->chunks);
		n = cursor_load(c, level, entry / AMBRO_PAGE_FANOUT, &id, e);
		if (n < 0)
			return n;
		if (l->view.states[first] == CHUNK_DATA) {
			id = l->view.ids[l->ranks[first]];
			continue;
		}
		while (last < l->view.count && l->view.states[last] == l->view.states[first])
			last++;
		end = MIN((entry - first + last) * span, c->chunks);
		*ret = (struct image_run){ .state = l->view.states[first],
					   .index = index,
					   .count = end - index };
		return 0;
	}
	c->lost_end = index + 1;
	return cursor_data_run(c, index, &id, ret, e);
}

int image_cursor_at(struct image_cursor *c, uint64_t index, struct image_run *ret, struct err *e)
{
	int n;

	if (index >= c->chunks)
		return 0;
	n = cursor_walk(c, index, ret, e);
	if (n < 0) {
		err_prefix(e, "region %" PRIu32 ", chunk %" PRIu64, c->region, index);
		return n;
	}
	return 1;
}

uint64_t image_cursor_pages(const struct image_cursor *c)
{
	return c->pages;
}

int image_reader_check_use(const struct image_reader *r, uint64_t pages, uint64_t chunks,
			   struct err *e)
{
	return image_index_check_use(r->index, pages, chunks, e);
}

uint64_t image_cursor_lost_end(const struct image_cursor *c)
{
	return c->lost_end;
}

int image_reader_chunk(const struct image_reader *r, const struct image_run *run,
		       struct codec *codec, void *frame, void *plain, struct err *e)
{
	struct chunk_id found;
	int n;

	n = reader_pread(r, frame, run->frame_len, run->offset, e);
	if (n < 0)
		return n;
	n = codec_decompress(codec, frame, run->frame_len, plain, run->plain_len);
	if (n == -ENOMEM)
		return err_oom(e);
	if (n >= 0)
		chunk_id_of(plain, run->plain_len, &found);
	if (n < 0 || !chunk_id_equal(&found, &run->id)) {
		return err_set(e, -EBADMSG,
			       "the chunk at byte %" PRIu64 " of the image is damaged (%s)",
			       run->offset,
			       n < 0 ? "it does not decode" : "its SHA-256 does not match");
	}
	return 0;
}

int image_reader_check_framing(const struct image_reader *r, struct cancel *c, struct err *e)
{
	struct framing f = {
		.fd = r->fd,
		.table_offset = r->trailer_span.offset + r->trailer_span.length,
		.frames = le64_get(r->trailer.seek_frames),
		.require = image_reader_require(r),
		.disk_size = r->manifest->disk_size,
		.index = r->index,
		.cancel = c,
	};

	return framing_check(&f, e);
}
