/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source of an image_reader that is a single file: what docs/FORMAT.md calls an image. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/image/digest.h"
#include "lib/image/framing.h"
#include "lib/image/image_index.h"
#include "lib/image/image_io.h"
#include "lib/image/image_reader.h"
#include "lib/image/record.h"

/* Records of later versions may stand behind the HEADER and among the last ones; no more than these. */
#define EXTRA_FRAMES_MAX 1024

struct file_source {
	struct image_io io;
	struct ambro_header header;
	uint64_t head_end; /* behind HEADER and guard */
	struct ambro_trailer trailer;
	struct image_span trailer_span;
	struct image_index *index;
};

static void file_free(void *ctx)
{
	struct file_source *f = ctx;

	if (!f)
		return;
	image_index_free(f->index);
	free(f);
}

static void file_freep(struct file_source **f)
{
	file_free(*f);
}

static int file_pread(const struct file_source *f, void *buf, size_t len, uint64_t offset,
		      struct err *e)
{
	return image_io_read(&f->io, buf, len, offset, e);
}

/* The record at @at, whose body must have @len bytes, into @body. */
static int file_record_into(const struct file_source *f, enum ambro_record_type type,
			    const char *what, const struct image_span *at, void *body,
			    struct err *e)
{
	const uint64_t len = at->length - sizeof(struct record_head);
	struct record_head head;
	int n;

	n = file_pread(f, &head, sizeof(head), at->offset, e);
	if (n < 0)
		return n;
	n = record_head_check(&head, type, at->length, what, e);
	if (n < 0)
		return n;
	if (record_body_len(&head) != len) {
		return err_set(e, -EBADMSG, "the %s record has not the length it should have",
			       what);
	}
	n = file_pread(f, body, len, at->offset + sizeof(head), e);
	if (n < 0)
		return n;
	return record_body_check(&head, body, what, e);
}

/* The same, allocated. */
static int file_record(const struct file_source *f, enum ambro_record_type type, const char *what,
		       const struct image_span *at, void **ret, struct err *e)
{
	_cleanup_free_ void *body = NULL;
	int n;

	if (at->length < sizeof(struct record_head) || at->offset > f->io.size ||
	    at->length > f->io.size - at->offset)
		return err_set(e, -EBADMSG, "the %s record is said to lie outside the image", what);
	/* never 0 bytes, for which malloc() may return NULL */
	body = malloc(at->length);
	if (!body)
		return err_oom(e);
	n = file_record_into(f, type, what, at, body, e);
	if (n < 0)
		return n;
	*ret = TAKE_PTR(body);
	return 0;
}

/* Does @body, of the record at @at, have the hash that the TRAILER says? */
static int file_check_body(const char *what, const struct image_span *at, void *body,
			   const uint8_t sha256[DIGEST_SIZE], struct err *e)
{
	uint8_t hash[DIGEST_SIZE];

	digest_of(&(struct iovec){ body, at->length - sizeof(struct record_head) }, 1, hash);
	if (memcmp(hash, sha256, sizeof(hash)) != 0)
		return err_set(e, -EBADMSG, "the %s is not the one of the TRAILER", what);
	return 0;
}

static int file_open_header(struct file_source *f, struct err *e)
{
	struct image_span at = { 0, record_frame_len(sizeof(f->header)) };
	struct ambro_header *h = &f->header;
	struct record_head start;
	uint64_t require;
	int n;

	n = f->io.size < at.length ? 0 : file_pread(f, &start, sizeof(start), 0, e);
	if (n < 0)
		return n;
	if (f->io.size < at.length || le32_get(start.skip.magic) != AMBRO_SKIPPABLE ||
	    memcmp(start.record.magic, AMBRO_RECORD_MAGIC, sizeof(start.record.magic)) != 0)
		return err_set(e, -EBADMSG, "this is not an image (it does not begin like one)");
	/* the one record whose length a later version may change before this one can see that it did */
	if (record_version_check(&start, "HEADER", e) < 0)
		return -ENOTSUP;
	n = file_record_into(f, AMBRO_RECORD_HEADER, "HEADER", &at, h, e);
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
	f->head_end = at.length;
	if (require) {
		uint8_t guard[AMBRO_GUARD_SIZE];

		n = file_pread(f, guard, sizeof(guard), at.length, e);
		if (n < 0)
			return n;
		if (memcmp(guard, ambro_guard, sizeof(guard)) != 0)
			return err_set(e, -EBADMSG, "the guard behind the HEADER is damaged");
		f->head_end += sizeof(guard);
	}
	return 0;
}

/* From the last bytes: the seek table's extent, and so where the TRAILER is. */
static int file_open_trailer(struct file_source *f, struct err *e)
{
	const uint64_t room = f->io.size - f->head_end;
	const le32_t magic = le32(AMBRO_SEEK_FOOTER_MAGIC);
	struct ambro_seek_footer footer;
	struct ambro_skippable skip;
	uint64_t frames, table_len;
	int n;

	if (room < sizeof(footer) + sizeof(skip) + AMBRO_TRAILER_FRAME_LEN)
		return err_set(e, -EBADMSG, "the image is incomplete: it ends after its head");
	n = file_pread(f, &footer, sizeof(footer), f->io.size - sizeof(footer), e);
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
	n = file_pread(f, &skip, sizeof(skip), f->io.size - table_len, e);
	if (n < 0)
		return n;
	if (le32_get(skip.magic) != AMBRO_SEEK_SKIPPABLE ||
	    le32_get(skip.length) != table_len - sizeof(skip))
		return err_set(e, -EBADMSG, "the seek table is damaged");
	f->trailer_span.length = AMBRO_TRAILER_FRAME_LEN;
	f->trailer_span.offset = f->io.size - table_len - AMBRO_TRAILER_FRAME_LEN;
	n = file_record_into(f, AMBRO_RECORD_TRAILER, "TRAILER", &f->trailer_span, &f->trailer, e);
	if (n < 0)
		return n;
	if (memcmp(f->trailer.image_id, f->header.image_id, sizeof(f->header.image_id)) != 0)
		return err_set(e, -EBADMSG, "HEADER and TRAILER are of different images");
	if (le64_get(f->trailer.seek_frames) != frames)
		return err_set(e, -EBADMSG, "the seek table has not the length that it should");
	return 0;
}

/*
 * Step over skippable frames from @at to @end, and refuse when one is a critical record that this version
 * does not know. Ends early at the first frame that is none of these, if @may_stop.
 */
static int file_check_extras(const struct file_source *f, uint64_t at, uint64_t end, bool may_stop,
			     struct err *e)
{
	for (unsigned int i = 0; at < end; i++) {
		struct record_head head = { 0 };
		const uint64_t room = end - at;
		uint64_t len;
		bool ours;
		int n;

		if (i == EXTRA_FRAMES_MAX || room < sizeof(head.skip))
			return err_set(e, -EBADMSG, "there is no known frame at byte %" PRIu64, at);
		n = file_pread(f, &head, MIN(room, (uint64_t)sizeof(head)), at, e);
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

static int file_open_index(struct file_source *f, struct err *e)
{
	const struct image_span at = { le64_get(f->trailer.index_offset),
				       le64_get(f->trailer.index_frame_len) };
	const struct image_span within = { f->head_end, at.offset - f->head_end };
	_cleanup_free_ void *body = NULL;
	int n;

	n = file_record(f, AMBRO_RECORD_INDEX, "INDEX", &at, &body, e);
	if (n >= 0)
		n = file_check_body("INDEX", &at, body, f->trailer.index_sha256, e);
	if (n < 0)
		return n;
	return image_index_new(TAKE_PTR(body), at.length - sizeof(struct record_head), &within,
			       UINT64_C(1) << le32_get(f->header.chunk_shift), &f->index, e);
}

/* Its chunks are all good, and yet the disk is not in it. */
static int file_refuse_increment(const struct manifest *m, struct err *e)
{
	char id[2 * sizeof(m->parent_id) + 1];

	if (!m->has_parent)
		return err_set(e, -EBADMSG, "this is an increment that does not say on what image");
	return err_set(e, -ENOTSUP,
		       "this is an increment on image %s: it is complete only in a repository that "
		       "holds that image; import it there",
		       hex_encode(m->parent_id, sizeof(m->parent_id), id));
}

static int file_open_manifest(const struct file_source *f, struct manifest **ret, struct err *e)
{
	const struct image_span at = { le64_get(f->trailer.manifest_offset),
				       le64_get(f->trailer.manifest_frame_len) };
	const struct ambro_header *h = &f->header;
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	_cleanup_free_ void *body = NULL;
	int n;

	n = file_record(f, AMBRO_RECORD_MANIFEST, "MANIFEST", &at, &body, e);
	if (n >= 0)
		n = file_check_body("MANIFEST", &at, body, f->trailer.manifest_sha256, e);
	if (n < 0)
		return n;
	n = manifest_from_json(body, at.length - sizeof(struct record_head), &m, e);
	if (n < 0)
		return n;
	if (memcmp(m->image_id, h->image_id, sizeof(h->image_id)) != 0 ||
	    m->disk_size != le64_get(h->disk_size) ||
	    m->chunk_size != UINT64_C(1) << le32_get(h->chunk_shift) ||
	    m->n_regions != le32_get(h->regions) || m->logical_sector != le32_get(h->sector_size) ||
	    m->created_ns != le64_get(h->created_ns))
		return err_set(e, -EBADMSG, "HEADER and MANIFEST contradict each other");
	if (le64_get(h->require_features) & AMBRO_REQUIRE_PARENT)
		return file_refuse_increment(m, e);
	*ret = TAKE_PTR(m);
	return 0;
}

static int file_open_all(struct file_source *f, struct manifest **ret, struct err *e)
{
	uint64_t index, manifest, end;
	uint32_t shift;
	int n;

	n = file_open_header(f, e);
	if (n < 0)
		return n;
	shift = le32_get(f->header.chunk_shift);
	if (shift < AMBRO_CHUNK_SHIFT_MIN || shift > AMBRO_CHUNK_SHIFT_MAX)
		return err_set(e, -EBADMSG, "the HEADER says chunks of 2^%" PRIu32 " bytes", shift);
	n = file_open_trailer(f, e);
	if (n < 0)
		return n;
	index = le64_get(f->trailer.index_offset);
	manifest = le64_get(f->trailer.manifest_offset);
	end = f->trailer_span.offset;
	if (index < f->head_end || index > end || manifest < f->head_end || manifest > end)
		return err_set(e, -EBADMSG, "the TRAILER points outside the image");
	n = file_check_extras(f, f->head_end, end, true, e);
	if (n < 0)
		return n;
	n = file_check_extras(f, MIN(index, manifest), end, false, e);
	if (n < 0)
		return n;
	n = file_open_index(f, e);
	if (n < 0)
		return n;
	return file_open_manifest(f, ret, e);
}

static int file_page(void *ctx, const struct chunk_id *id, void **ret_body, size_t *ret_len,
		     struct err *e)
{
	const struct file_source *f = ctx;
	struct image_place place;
	int n;

	n = image_index_page(f->index, id, &place);
	if (n < 0)
		return n;
	/* the index has held frame_len against plain_len */
	*ret_len = place.plain_len;
	return file_record(f, AMBRO_RECORD_PAGE, "PAGE",
			   &(struct image_span){ place.offset, place.frame_len }, ret_body, e);
}

static int file_find(void *ctx, const struct chunk_id *id, struct image_place *ret, struct err *e)
{
	const struct file_source *f = ctx;

	(void)e; /* a lookup in memory fails by -ENOENT only */
	return image_index_chunk(f->index, id, ret);
}

static int file_frame(void *ctx, const struct image_run *run, void *frame, struct err *e)
{
	return file_pread(ctx, frame, run->frame_len, run->offset, e);
}

static int file_check_use(void *ctx, uint64_t pages, uint64_t chunks, struct err *e)
{
	const struct file_source *f = ctx;

	return image_index_check_use(f->index, pages, chunks, e);
}

static int file_check_framing(void *ctx, struct cancel *c, struct err *e)
{
	const struct file_source *f = ctx;
	const struct framing framing = {
		.io = &f->io,
		.table_offset = f->trailer_span.offset + f->trailer_span.length,
		.frames = le64_get(f->trailer.seek_frames),
		.require = le64_get(f->header.require_features),
		.disk_size = le64_get(f->header.disk_size),
		.index = f->index,
		.cancel = c,
	};

	return framing_check(&framing, e);
}

static size_t file_frame_max(void *ctx)
{
	const struct file_source *f = ctx;

	return image_index_frame_max(f->index);
}

static const struct image_source_ops file_ops = {
	.page = file_page,
	.find = file_find,
	.frame = file_frame,
	.check_use = file_check_use,
	.check_framing = file_check_framing,
	.frame_max = file_frame_max,
	.free = file_free,
};

int image_reader_open_io(const struct image_io *io, struct image_reader **ret, struct err *e)
{
	_cleanup_(file_freep) struct file_source *f = calloc(1, sizeof(*f));
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	uint64_t require;
	int n;

	if (!f)
		return err_oom(e);
	f->io = *io;
	n = file_open_all(f, &m, e);
	if (n < 0)
		return n;
	require = le64_get(f->header.require_features);
	n = image_reader_new(&file_ops, TAKE_PTR(f), TAKE_PTR(m), require, io->size, ret);
	return n < 0 ? err_oom(e) : 0;
}

int image_reader_open(int fd, struct image_reader **ret, struct err *e)
{
	struct image_io io;
	int n = image_io_file(fd, &io, e);

	return n < 0 ? n : image_reader_open_io(&io, ret, e);
}
