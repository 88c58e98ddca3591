/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/stream_reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/codec.h"
#include "lib/image/digest.h"
#include "lib/image/manifest_fields.h"
#include "lib/image/record.h"
#include "lib/repo/stream_buffer.h"

#define STREAM_REGIONS_MAX 65536u
#define STREAM_SECTOR_MIN  512u
#define STREAM_SECTOR_MAX  65536u

struct stream_reader {
	struct stream_buffer in;
	struct stream_header header;
	uint8_t stage; /* the type of the last record that has its place in the sequence; 0: none yet */
	uint64_t record_at; /* where the record begins that is looked at */
	/* what the TRAILER has to say */
	struct ambro_trailer expected;
	uint64_t seek_frames;
	uint8_t *manifest;
};

int stream_reader_new(int fd, struct cancel *c, struct stream_reader **ret)
{
	_cleanup_(stream_reader_freep) struct stream_reader *s = calloc(1, sizeof(*s));

	if (!s || stream_buffer_init(&s->in, fd, c) < 0)
		return -ENOMEM;
	*ret = TAKE_PTR(s);
	return 0;
}

void stream_reader_free(struct stream_reader *s)
{
	if (!s)
		return;
	stream_buffer_done(&s->in);
	free(s->manifest);
	free(s);
}

const struct stream_header *stream_reader_header(const struct stream_reader *s)
{
	return &s->header;
}

uint64_t stream_reader_bytes(const struct stream_reader *s)
{
	return s->in.taken;
}

static int stream_bad(const struct stream_reader *s, struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "%s, at byte %" PRIu64 " of the stream", what, s->record_at);
}

/* ---- the envelope ------------------------------------------------------------------------------- */

static const char *type_name(uint8_t type)
{
	static const char *const names[] = { "",     "HEADER", "CHUNK",	   "RUN",
					     "PAGE", "INDEX",  "MANIFEST", "TRAILER" };

	return type < ARRAY_SIZE(names) ? names[type] : "";
}

/* The longest body that a record of @type can have; all but PAGE, INDEX and MANIFEST have one length. */
static uint64_t type_body_max(uint8_t type)
{
	switch (type) {
	case AMBRO_RECORD_HEADER:
		return sizeof(struct ambro_header);
	case AMBRO_RECORD_CHUNK:
		return sizeof(struct ambro_chunk);
	case AMBRO_RECORD_RUN:
		return sizeof(struct ambro_run);
	case AMBRO_RECORD_PAGE:
		return AMBRO_PAGE_MAX;
	case AMBRO_RECORD_MANIFEST:
		return MANIFEST_TEXT_MAX;
	case AMBRO_RECORD_TRAILER:
		return sizeof(struct ambro_trailer);
	default:
		return RECORD_BODY_MAX;
	}
}

static bool type_has_one_length(uint8_t type)
{
	return type != AMBRO_RECORD_PAGE && type != AMBRO_RECORD_INDEX &&
	       type != AMBRO_RECORD_MANIFEST;
}

/* May a record of @type come now? */
static bool stream_order_fits(const struct stream_reader *s, uint8_t type)
{
	switch (type) {
	case AMBRO_RECORD_HEADER:
		return !s->stage;
	case AMBRO_RECORD_CHUNK:
	case AMBRO_RECORD_RUN:
		return s->stage && s->stage <= AMBRO_RECORD_RUN;
	case AMBRO_RECORD_PAGE:
		return s->stage && s->stage <= AMBRO_RECORD_PAGE;
	default:
		return s->stage == type - 1;
	}
}

/* The head of a record of a type that we know: its lengths, its place. */
static int stream_head_check(struct stream_reader *s, const struct record_head *h, struct err *e)
{
	const uint8_t type = h->record.type;
	const uint64_t len = record_body_len(h);

	if (type == AMBRO_RECORD_HEADER && !s->stage && record_version_check(h, "HEADER", e) < 0)
		return -ENOTSUP;
	if (record_head_check(h, (enum ambro_record_type)type, record_frame_len(RECORD_BODY_MAX),
			      type_name(type), e) < 0)
		return stream_bad(s, e, "a record's head is damaged");
	if (len > type_body_max(type) || (type_has_one_length(type) && len != type_body_max(type)))
		return stream_bad(s, e, "a record has a length that it cannot have");
	if (!stream_order_fits(s, type))
		return stream_bad(s, e, "a record is not where it belongs");
	return 0;
}

/* A record whose body fits into the buffer: at stream_buffer_at() afterwards, checked, its head taken. */
static int stream_small_body(struct stream_reader *s, const struct record_head *h, struct err *e)
{
	const size_t len = record_body_len(h);
	const uint8_t *at;
	int r = stream_buffer_need(&s->in, sizeof(*h) + len, e);

	if (r < 0)
		return r;
	at = stream_buffer_at(&s->in);
	r = record_body_check(h, at + sizeof(*h), type_name(h->record.type), e);
	if (r < 0)
		return err_prefix(e, "byte %" PRIu64 " of the stream", s->record_at), r;
	stream_buffer_take(&s->in, sizeof(*h));
	return 0;
}

/* One whose length its type says, and which was checked with the head: into @ret, and taken. */
static int stream_fixed_body(struct stream_reader *s, const struct record_head *h, void *ret,
			     size_t size, struct err *e)
{
	int r = stream_small_body(s, h, e);

	if (r < 0)
		return r;
	memcpy(ret, stream_buffer_at(&s->in), size);
	stream_buffer_take(&s->in, size);
	return 0;
}

/* ---- the records, in their order ---------------------------------------------------------------- */

static int stream_header_parse(const struct ambro_header *h, struct stream_header *ret,
			       struct err *e)
{
	if (memcmp(h->magic, AMBRO_IMAGE_MAGIC, sizeof(h->magic)) != 0 || !le32_get(h->version))
		return err_set(e, -EBADMSG, "this is not an image (its HEADER has another magic)");
	*ret = (struct stream_header){
		.chunk_shift = le32_get(h->chunk_shift),
		.require = le64_get(h->require_features),
		.disk_size = le64_get(h->disk_size),
		.sector_size = le32_get(h->sector_size),
		.regions = le32_get(h->regions),
		.created_ns = le64_get(h->created_ns),
	};
	memcpy(ret->image_id, h->image_id, sizeof(ret->image_id));
	if (le32_get(h->version) > AMBRO_FORMAT_VERSION || ret->require & ~AMBRO_REQUIRE_KNOWN) {
		return err_set(e, -ENOTSUP,
			       "the image (format %" PRIu32 ", features %#" PRIx64
			       ") needs a newer tool",
			       le32_get(h->version), ret->require);
	}
	if (ret->chunk_shift < AMBRO_CHUNK_SHIFT_MIN || ret->chunk_shift > AMBRO_CHUNK_SHIFT_MAX ||
	    !ret->disk_size || ret->disk_size > INT64_MAX || !ret->regions ||
	    ret->regions > STREAM_REGIONS_MAX || ret->regions > ret->disk_size ||
	    ret->sector_size < STREAM_SECTOR_MIN || ret->sector_size > STREAM_SECTOR_MAX ||
	    (ret->require & AMBRO_REQUIRE_PARENT &&
	     ~ret->require & (AMBRO_REQUIRE_RESENT | AMBRO_REQUIRE_SPARSE)))
		return err_set(e, -EBADMSG, "the HEADER says what cannot be");
	return 0;
}

static int stream_header(struct stream_reader *s, const struct record_head *h, struct err *e)
{
	struct ambro_header body;
	int r = stream_fixed_body(s, h, &body, sizeof(body), e);

	if (r < 0)
		return r;
	r = stream_header_parse(&body, &s->header, e);
	if (r < 0)
		return r;
	memcpy(s->expected.image_id, s->header.image_id, sizeof(s->expected.image_id));
	if (stream_buffer_grow(&s->in, AMBRO_FRAME_MAX(UINT64_C(1) << s->header.chunk_shift)) < 0)
		return err_oom(e);
	if (!s->header.require)
		return 0;
	r = stream_buffer_need(&s->in, AMBRO_GUARD_SIZE, e);
	if (r < 0)
		return r;
	if (memcmp(stream_buffer_at(&s->in), ambro_guard, AMBRO_GUARD_SIZE) != 0)
		return stream_bad(s, e, "the guard behind the HEADER is damaged");
	stream_buffer_take(&s->in, AMBRO_GUARD_SIZE);
	return 0;
}

/* Can there be such chunks on a disk of this size? The regions' lengths come with the manifest. */
static bool stream_place_fits(const struct stream_reader *s, const struct stream_item *i)
{
	const unsigned int shift = s->header.chunk_shift;
	const uint64_t most = ((s->header.disk_size - 1) >> shift) + 1;

	return i->region < s->header.regions && i->count && i->index < most &&
	       i->count <= most - i->index && i->plain_len <= i->count << shift &&
	       i->plain_len > (i->count - 1) << shift && i->plain_len <= s->header.disk_size;
}

static int stream_chunk(struct stream_reader *s, const struct record_head *h,
			struct stream_item *ret, struct err *e)
{
	const le32_t magic = le32(ZSTD_FRAME_MAGIC);
	struct ambro_chunk body;
	int r = stream_fixed_body(s, h, &body, sizeof(body), e);

	if (r < 0)
		return r;
	ret->region = le32_get(body.region);
	ret->index = le64_get(body.index);
	ret->count = 1;
	ret->plain_len = le32_get(body.plain_len);
	ret->state = CHUNK_DATA;
	ret->id = body.id;
	ret->frame_len = le32_get(body.frame_len);
	if (!stream_place_fits(s, ret) || ret->frame_len <= sizeof(magic) ||
	    ret->frame_len > AMBRO_FRAME_MAX(UINT64_C(1) << s->header.chunk_shift))
		return stream_bad(s, e, "a CHUNK record says what cannot be");
	r = stream_buffer_need(&s->in, ret->frame_len, e);
	if (r < 0)
		return r;
	ret->frame = stream_buffer_at(&s->in);
	stream_buffer_take(&s->in, ret->frame_len);
	if (memcmp(ret->frame, &magic, sizeof(magic)) != 0)
		return stream_bad(s, e, "a chunk's frame is damaged");
	return 0;
}

static bool run_state_fits(uint8_t state, uint64_t require)
{
	return state == CHUNK_FREE || state == CHUNK_ZERO || state == CHUNK_BAD ||
	       (state == CHUNK_SAME && require & AMBRO_REQUIRE_PARENT);
}

static int stream_run(struct stream_reader *s, const struct record_head *h, struct stream_item *ret,
		      struct err *e)
{
	const bool sparse = s->header.require & AMBRO_REQUIRE_SPARSE;
	struct ambro_run body;
	int r = stream_fixed_body(s, h, &body, sizeof(body), e);

	if (r < 0)
		return r;
	ret->region = le32_get(body.region);
	ret->index = le64_get(body.index);
	ret->count = le64_get(body.count);
	ret->plain_len = le64_get(body.plain_len);
	ret->state = (enum chunk_state)body.state;
	if (!stream_place_fits(s, ret) || !run_state_fits(body.state, s->header.require) ||
	    sparse != !le64_get(body.frames_len))
		return stream_bad(s, e, "a RUN record says what cannot be");
	return stream_buffer_pass(&s->in, le64_get(body.frames_len), NULL, NULL, e);
}

static int stream_page(struct stream_reader *s, const struct record_head *h,
		       struct stream_item *ret, struct err *e)
{
	int r = stream_small_body(s, h, e);

	if (r < 0)
		return r;
	ret->body = stream_buffer_at(&s->in);
	ret->body_len = record_body_len(h);
	stream_buffer_take(&s->in, ret->body_len);
	return 0;
}

struct index_digests {
	struct digest *record, *body;
};

static void index_hash(void *ctx, const void *bytes, size_t n)
{
	const struct index_digests *d = ctx;

	digest_add(d->record, bytes, n);
	digest_add(d->body, bytes, n);
}

/* As large as the disk, and of no use here: only its hashes are looked at. */
static int stream_index(struct stream_reader *s, const struct record_head *h, struct err *e)
{
	_cleanup_(digest_freep) struct digest *record = digest_new(), *body = digest_new();
	struct index_digests digests = { record, body };
	struct ambro_record head = h->record;
	uint8_t check[DIGEST_SIZE];
	int r;

	s->expected.index_offset = le64(s->record_at);
	s->expected.index_frame_len = le64(record_frame_len(record_body_len(h)));
	memset(head.check, 0, sizeof(head.check));
	digest_add(record, &head, sizeof(head));
	stream_buffer_take(&s->in, sizeof(*h));
	r = stream_buffer_pass(&s->in, record_body_len(h), index_hash, &digests, e);
	digest_end(record, check);
	digest_end(body, s->expected.index_sha256);
	if (r < 0)
		return r;
	if (memcmp(check, h->record.check, sizeof(h->record.check)) != 0)
		return stream_bad(s, e, "the INDEX record is damaged");
	return record_version_check(h, "INDEX", e);
}

struct manifest_text {
	uint8_t *bytes;
	size_t len, allocated;
	bool failed;
};

/* Grows as bytes come, so that a length that is a lie costs nothing. */
static void manifest_add(void *ctx, const void *bytes, size_t n)
{
	struct manifest_text *m = ctx;

	if (m->failed)
		return;
	if (m->allocated - m->len < n) {
		size_t size = MAX(m->allocated * 2, m->len + n);
		uint8_t *more = realloc(m->bytes, size);

		if (!more) {
			m->failed = true;
			return;
		}
		m->bytes = more;
		m->allocated = size;
	}
	memcpy(m->bytes + m->len, bytes, n);
	m->len += n;
}

static int stream_manifest(struct stream_reader *s, const struct record_head *h,
			   struct stream_item *ret, struct err *e)
{
	struct manifest_text text = { 0 };
	struct iovec body;
	int r;

	s->expected.manifest_offset = le64(s->record_at);
	s->expected.manifest_frame_len = le64(record_frame_len(record_body_len(h)));
	stream_buffer_take(&s->in, sizeof(*h));
	r = stream_buffer_pass(&s->in, record_body_len(h), manifest_add, &text, e);
	s->manifest = text.bytes;
	if (r < 0)
		return r;
	if (text.failed)
		return err_oom(e);
	body = (struct iovec){ text.bytes, text.len };
	r = record_body_check(h, text.len ? text.bytes : (const void *)"", "MANIFEST", e);
	if (r < 0)
		return r;
	digest_of(&body, 1, s->expected.manifest_sha256);
	ret->body = text.bytes;
	ret->body_len = text.len;
	return 0;
}

static int stream_trailer(struct stream_reader *s, const struct record_head *h, struct err *e)
{
	struct ambro_trailer body;
	int r = stream_fixed_body(s, h, &body, sizeof(body), e);

	if (r < 0)
		return r;
	s->seek_frames = le64_get(body.seek_frames);
	s->expected.seek_frames = body.seek_frames;
	if (memcmp(&body, &s->expected, sizeof(body)) != 0 ||
	    s->seek_frames > AMBRO_SEEK_MAX_FRAMES)
		return stream_bad(s, e, "the TRAILER does not fit what came before it");
	return 0;
}

/* Nothing here needs it; that it is there, and nothing behind it, says that the stream is whole. */
static int stream_seek_table(struct stream_reader *s, const struct ambro_skippable *skip,
			     struct err *e)
{
	const le32_t magic = le32(AMBRO_SEEK_FOOTER_MAGIC);
	const uint64_t entries = s->seek_frames * sizeof(struct ambro_seek_entry);
	struct ambro_seek_footer footer;
	int r;

	if (le32_get(skip->length) != entries + sizeof(footer))
		return stream_bad(s, e, "the seek table has not the length it should have");
	stream_buffer_take(&s->in, sizeof(*skip));
	r = stream_buffer_pass(&s->in, entries, NULL, NULL, e);
	if (r >= 0)
		r = stream_buffer_need(&s->in, sizeof(footer), e);
	if (r < 0)
		return r;
	memcpy(&footer, stream_buffer_at(&s->in), sizeof(footer));
	stream_buffer_take(&s->in, sizeof(footer));
	if (le32_get(footer.frames) != s->seek_frames || footer.descriptor ||
	    memcmp(footer.magic, &magic, sizeof(magic)) != 0)
		return stream_bad(s, e, "the seek table's footer is damaged");
	return stream_buffer_check_end(&s->in, e);
}

/* ---- one after the other ------------------------------------------------------------------------ */

static int stream_record(struct stream_reader *s, const struct record_head *h,
			 struct stream_item *ret, struct err *e)
{
	*ret = (struct stream_item){ .type = (enum ambro_record_type)h->record.type };
	switch (ret->type) {
	case AMBRO_RECORD_HEADER:
		return stream_header(s, h, e);
	case AMBRO_RECORD_CHUNK:
		return stream_chunk(s, h, ret, e);
	case AMBRO_RECORD_RUN:
		return stream_run(s, h, ret, e);
	case AMBRO_RECORD_PAGE:
		return stream_page(s, h, ret, e);
	case AMBRO_RECORD_INDEX:
		return stream_index(s, h, e);
	case AMBRO_RECORD_MANIFEST:
		return stream_manifest(s, h, ret, e);
	default:
		return stream_trailer(s, h, e);
	}
}

/* A frame that begins with our magic. 1: a record of a type that we know is in @ret; 0: stepped over. */
static int stream_ours(struct stream_reader *s, struct stream_item *ret, struct err *e)
{
	struct record_head h;
	int r = stream_buffer_need(&s->in, sizeof(h), e);

	if (r < 0)
		return r;
	memcpy(&h, stream_buffer_at(&s->in), sizeof(h));
	if (memcmp(h.record.magic, AMBRO_RECORD_MAGIC, sizeof(h.record.magic)) != 0 ||
	    le32_get(h.skip.length) < sizeof(h.record))
		return stream_bad(s, e, "a record is damaged");
	if (h.record.type >= AMBRO_RECORD_HEADER && h.record.type <= AMBRO_RECORD_TRAILER) {
		r = stream_head_check(s, &h, e);
		if (r >= 0)
			r = stream_record(s, &h, ret, e);
		if (r >= 0)
			s->stage = h.record.type;
		return r < 0 ? r : 1;
	}
	if (!s->stage)
		return stream_bad(s, e, "this is not an image (it does not begin like one)");
	if (le16_get(h.record.flags) & AMBRO_RECORD_CRITICAL) {
		return err_set(e, -ENOTSUP,
			       "the stream has a record of type %u that this tool does not know: a "
			       "newer tool is needed",
			       h.record.type);
	}
	return stream_buffer_pass(&s->in, sizeof(h.skip) + (uint64_t)le32_get(h.skip.length), NULL,
				  NULL, e);
}

int stream_reader_next(struct stream_reader *s, struct stream_item *ret, struct err *e)
{
	for (;;) {
		struct ambro_skippable skip;
		int r;

		s->record_at = s->in.taken;
		r = stream_buffer_need(&s->in, sizeof(skip), e);
		if (r < 0)
			return r;
		memcpy(&skip, stream_buffer_at(&s->in), sizeof(skip));
		if (le32_get(skip.magic) == AMBRO_SEEK_SKIPPABLE &&
		    s->stage == AMBRO_RECORD_TRAILER)
			return stream_seek_table(s, &skip, e);
		if (le32_get(skip.magic) == AMBRO_SKIPPABLE) {
			r = stream_ours(s, ret, e);
		} else if (AMBRO_IS_SKIPPABLE(le32_get(skip.magic)) && s->stage) {
			r = stream_buffer_pass(&s->in,
					       sizeof(skip) + (uint64_t)le32_get(skip.length), NULL,
					       NULL, e);
		} else {
			return stream_bad(s, e,
					  s->stage ? "a frame has no record before it"
						   : "this is not an image");
		}
		if (r)
			return r;
	}
}
