/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a stored pack says it holds, or what is found in it when it cannot say so any more. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/codec.h"
#include "lib/image/record.h"
#include "lib/image/tree.h"
#include "lib/repo/pack.h"

#define END_FRAME_LEN (sizeof(struct record_head) + sizeof(struct repo_pack_end))
#define SMALLEST      (PACK_HEAD_SIZE + sizeof(struct record_head) + END_FRAME_LEN)
#define CHUNK_MAX     (UINT64_C(1) << AMBRO_CHUNK_SHIFT_MAX)

/* Read with the end at once: some 1300 entries, more than most packs have. */
#define TAIL_LEN ((size_t)64 << 10)

struct stored_pack {
	struct store *store;
	char name[PACK_NAME_SIZE];
	uint64_t size;
	bool sealed;
};

/* ---- by its own list ------------------------------------------------------------------------------- */

static int end_parse(const struct stored_pack *p, const uint8_t *at, struct repo_pack_end *ret,
		     struct err *e)
{
	uint64_t offset, len, entries;
	struct record_head head;
	int r;

	memcpy(&head, at, sizeof(head));
	memcpy(ret, at + sizeof(head), sizeof(*ret));
	r = record_head_check(&head, (enum ambro_record_type)REPO_RECORD_PACK_END, END_FRAME_LEN,
			      "PACK_END", e);
	if (r < 0)
		return r;
	if (record_body_len(&head) != sizeof(*ret))
		return err_set(e, -EBADMSG, "the PACK_END record has a wrong length");
	r = record_body_check(&head, ret, "PACK_END", e);
	if (r < 0)
		return r;
	offset = le64_get(ret->index_offset);
	len = le64_get(ret->index_frame_len);
	entries = le64_get(ret->entries);
	if (offset < PACK_HEAD_SIZE || offset > p->size ||
	    len != p->size - END_FRAME_LEN - offset || entries > len / sizeof(struct repo_entry) ||
	    len != record_frame_len(entries * sizeof(struct repo_entry)))
		return err_set(e, -EBADMSG, "the PACK_END record contradicts the pack's size");
	return 0;
}

static int entries_check(const struct stored_pack *p, const struct repo_entry *entries, size_t n,
			 uint64_t end, struct err *e)
{
	uint64_t at = PACK_HEAD_SIZE;

	for (size_t i = 0; i < n; i++) {
		if (!pack_entry_plausible(&entries[i], p->sealed, end) ||
		    le32_get(entries[i].offset) < at || le32_get(entries[i].pack)) {
			return err_set(e, -EBADMSG, "entry %zu of PACK_INDEX lies where it cannot",
				       i);
		}
		at = (uint64_t)le32_get(entries[i].offset) + le32_get(entries[i].frame_len);
	}
	return 0;
}

/* @frame: the whole PACK_INDEX record. */
static int index_parse(const struct stored_pack *p, const struct repo_pack_end *end,
		       const uint8_t *frame, struct repo_entry **ret, struct err *e)
{
	_cleanup_free_ struct repo_entry *entries = NULL;
	const size_t n = le64_get(end->entries), len = le64_get(end->index_frame_len);
	struct record_head head;
	int r;

	memcpy(&head, frame, sizeof(head));
	r = record_head_check(&head, (enum ambro_record_type)REPO_RECORD_PACK_INDEX, len,
			      "PACK_INDEX", e);
	if (r < 0)
		return r;
	if (record_frame_len(record_body_len(&head)) != len)
		return err_set(e, -EBADMSG, "the PACK_INDEX record has a wrong length");
	r = record_body_check(&head, frame + sizeof(head), "PACK_INDEX", e);
	if (r < 0)
		return r;
	entries = calloc(MAX(n, 1u), sizeof(*entries));
	if (!entries)
		return err_oom(e);
	memcpy(entries, frame + sizeof(head), n * sizeof(*entries));
	r = entries_check(p, entries, n, le64_get(end->index_offset), e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(entries);
	return 0;
}

static int list_read(const struct stored_pack *p, struct repo_entry **ret, size_t *ret_n,
		     struct err *e)
{
	const size_t tail_len = MIN(p->size, TAIL_LEN);
	_cleanup_free_ uint8_t *tail = malloc(tail_len), *frame = NULL;
	struct repo_pack_end end;
	uint64_t len;
	int r;

	if (!tail)
		return err_oom(e);
	r = store_get(p->store, p->name, p->size - tail_len, tail, tail_len, e);
	if (r == 0)
		r = end_parse(p, tail + tail_len - END_FRAME_LEN, &end, e);
	if (r < 0)
		return r;
	len = le64_get(end.index_frame_len);
	if (len + END_FRAME_LEN <= tail_len) {
		r = index_parse(p, &end, tail + tail_len - END_FRAME_LEN - len, ret, e);
	} else {
		frame = malloc(len);
		if (!frame)
			return err_oom(e);
		r = store_get(p->store, p->name, le64_get(end.index_offset), frame, len, e);
		if (r == 0)
			r = index_parse(p, &end, frame, ret, e);
	}
	if (r == 0)
		*ret_n = le64_get(end.entries);
	return r;
}

/* ---- by looking at every record -------------------------------------------------------------------- */

/*
 * Work that may be spent on what turns out to be damaged, in bytes hashed or decoded: as often as the pack is long. Rot
 * costs each byte once or twice; a pack that was made to keep us busy is given up.
 */
#define WALK_PATIENCE 16u

struct walk {
	const uint8_t *bytes;
	size_t len;
	bool sealed;
	uint64_t patience;
	struct codec *codec;
	uint8_t *plain; /* CHUNK_MAX */
	struct repo_entry *entries;
	size_t n, room;
};

static int walk_list(struct walk *w, const struct repo_entry *entry)
{
	const size_t room = w->room ? 2 * w->room : 1024;
	struct repo_entry *more;

	if (w->n == w->room) {
		more = realloc(w->entries, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		w->entries = more;
		w->room = room;
	}
	w->entries[w->n++] = *entry;
	return 0;
}

static void walk_spend(struct walk *w, uint64_t bytes)
{
	w->patience -= MIN(w->patience, bytes);
}

/* A record that fits at @at; 0 or -EBADMSG. */
static int walk_head(struct walk *w, size_t at, struct record_head *ret)
{
	uint64_t body;

	if (w->len - at < sizeof(*ret))
		return -EBADMSG;
	memcpy(ret, w->bytes + at, sizeof(*ret));
	if (record_head_check(ret, (enum ambro_record_type)ret->record.type, w->len - at, "", NULL))
		return -EBADMSG;
	body = record_body_len(ret);
	if (record_body_check(ret, w->bytes + at + sizeof(*ret), "", NULL) == 0)
		return 0;
	walk_spend(w, body + sizeof(*ret));
	return -EBADMSG;
}

/* The zstd frame behind the CHUNK record's body at @at. */
static int walk_chunk(struct walk *w, size_t at, size_t body_len, size_t *ret_next)
{
	struct repo_entry entry = { 0 };
	struct ambro_chunk chunk;
	struct chunk_id id;

	if (w->sealed || body_len != sizeof(chunk))
		return -EBADMSG;
	memcpy(&chunk, w->bytes + at, sizeof(chunk));
	at += sizeof(chunk);
	entry.name = chunk.id;
	entry.offset = le32((uint32_t)at);
	entry.frame_len = chunk.frame_len;
	entry.plain_len = chunk.plain_len;
	if (le32_get(chunk.plain_len) & REPO_ENTRY_PAGE ||
	    !pack_entry_plausible(&entry, false, w->len))
		return -EBADMSG;
	if (codec_decompress(w->codec, w->bytes + at, le32_get(chunk.frame_len), w->plain,
			     le32_get(chunk.plain_len)) == 0) {
		chunk_id_of(w->plain, le32_get(chunk.plain_len), &id);
		if (chunk_id_equal(&id, &chunk.id)) {
			*ret_next = at + le32_get(chunk.frame_len);
			return walk_list(w, &entry);
		}
	}
	walk_spend(w, (uint64_t)le32_get(chunk.plain_len) + le32_get(chunk.frame_len));
	return -EBADMSG;
}

/* @at: of the record, whose body and check are good. */
static int walk_page(struct walk *w, size_t at, size_t body_len)
{
	struct repo_entry entry = {
		.offset = le32((uint32_t)at),
		.frame_len = le32((uint32_t)(sizeof(struct record_head) + body_len)),
		.plain_len = le32((uint32_t)body_len | REPO_ENTRY_PAGE),
	};

	if (w->sealed || !pack_entry_plausible(&entry, false, w->len))
		return -EBADMSG;
	chunk_id_of(w->bytes + at + sizeof(struct record_head), body_len, &entry.name);
	return walk_list(w, &entry);
}

static int walk_sealed(struct walk *w, size_t at, size_t body_len)
{
	struct repo_sealed_head head;
	struct repo_entry entry;
	uint32_t plain;

	if (!w->sealed || body_len < sizeof(head) + REPO_SEAL_EXTRA)
		return -EBADMSG;
	memcpy(&head, w->bytes + at + sizeof(struct record_head), sizeof(head));
	plain = le32_get(head.plain_len);
	if (head.kind > REPO_KIND_PAGE || plain & REPO_ENTRY_PAGE ||
	    le32_get(head.frame_len) != body_len - sizeof(head) - REPO_SEAL_EXTRA)
		return -EBADMSG;
	entry = (struct repo_entry){
		.name = head.name,
		.offset = le32((uint32_t)at),
		.frame_len = le32((uint32_t)(sizeof(struct record_head) + body_len)),
		.plain_len = le32(plain | (head.kind == REPO_KIND_PAGE ? REPO_ENTRY_PAGE : 0)),
	};
	return pack_entry_plausible(&entry, true, w->len) ? walk_list(w, &entry) : -EBADMSG;
}

/* What stands at @at: 0 and where the next is, -EBADMSG, or -ENOMEM. */
static int walk_record(struct walk *w, size_t at, size_t *ret_next)
{
	struct record_head head;
	size_t body_len;
	int r = walk_head(w, at, &head);

	if (r < 0)
		return r;
	body_len = record_body_len(&head);
	*ret_next = at + sizeof(head) + body_len;
	switch (head.record.type) {
	case AMBRO_RECORD_CHUNK:
		return walk_chunk(w, at + sizeof(head), body_len, ret_next);
	case AMBRO_RECORD_PAGE:
		return walk_page(w, at, body_len);
	case REPO_RECORD_SEALED:
		return walk_sealed(w, at, body_len);
	default:
		return 0;
	}
}

/*
 * Where the next record may begin behind @at, or the end. The length of a damaged record is not believed: what lies inside
 * of it is looked at too. If that is a record (of somebody's image on the disk), what it names is there all the same.
 */
static size_t walk_resync(const struct walk *w, size_t at)
{
	const size_t before = sizeof(struct ambro_skippable);

	while (w->len - at > before + sizeof(struct ambro_record)) {
		const uint8_t *from = w->bytes + at + 1 + before;
		const uint8_t *found = memmem(from, (size_t)(w->bytes + w->len - from),
					      AMBRO_RECORD_MAGIC, strlen(AMBRO_RECORD_MAGIC));
		const le32_t magic = le32(AMBRO_SKIPPABLE);

		if (!found)
			break;
		at = (size_t)(found - w->bytes) - before;
		if (memcmp(w->bytes + at, &magic, sizeof(magic)) == 0)
			return at;
	}
	return w->len;
}

static int walk_all(struct walk *w, struct err *e)
{
	size_t at = 0, next = 0;

	w->plain = malloc(CHUNK_MAX);
	if (!w->plain || codec_new(0, &w->codec) < 0)
		return err_oom(e);
	w->patience = (uint64_t)WALK_PATIENCE * MAX(w->len, CHUNK_MAX);
	while (at < w->len) {
		const int r = walk_record(w, at, &next);

		if (r == -ENOMEM)
			return err_oom(e);
		if (!w->patience)
			return err_set(e, -EBADMSG, "it is full of records that are none");
		at = r < 0 ? walk_resync(w, at) : next;
	}
	return 0;
}

/* What a disk cannot read any more becomes zeros. */
#define SALVAGE_PIECE ((size_t)256 << 10)
static int salvage_read(const struct stored_pack *p, uint8_t *bytes, struct err *e)
{
	int r = store_get(p->store, p->name, 0, bytes, p->size, e);

	if (r != -EIO)
		return r;
	for (uint64_t at = 0; at < p->size; at += SALVAGE_PIECE) {
		const size_t n = MIN(SALVAGE_PIECE, p->size - at);

		r = store_get(p->store, p->name, at, bytes + at, n, e);
		if (r == -EIO) {
			memset(bytes + at, 0, n);
		} else if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int pack_walk(const struct stored_pack *p, struct repo_entry **ret, size_t *ret_n,
		     struct err *e)
{
	_cleanup_free_ uint8_t *bytes = malloc(MAX(p->size, 1u));
	struct walk w = { .bytes = bytes, .len = p->size, .sealed = p->sealed };
	int r;

	if (!bytes)
		return err_oom(e);
	r = salvage_read(p, bytes, e);
	if (r == 0)
		r = walk_all(&w, e);
	if (r == 0 && !w.entries) {
		w.entries = calloc(1, sizeof(*w.entries));
		if (!w.entries)
			r = err_oom(e);
	}
	codec_free(w.codec);
	free(w.plain);
	if (r < 0) {
		free(w.entries);
		return r;
	}
	*ret = w.entries;
	*ret_n = w.n;
	return 0;
}

/* ---- either ---------------------------------------------------------------------------------------- */

static int head_read(struct stored_pack *p, const uint8_t repo_id[REPO_ID_SIZE], struct err *e)
{
	uint8_t bytes[PACK_HEAD_SIZE];
	struct repo_pack_head head;
	int r;

	if (p->size < SMALLEST)
		return err_set(e, -EBADMSG, "its %" PRIu64 " bytes are too few", p->size);
	r = store_get(p->store, p->name, 0, bytes, sizeof(bytes), e);
	if (r == 0)
		r = pack_head_check(bytes, sizeof(bytes), REPO_PURPOSE_PACK, repo_id, &head, e);
	if (r == 0)
		p->sealed = le64_get(head.require_features) & REPO_REQUIRE_SEALED;
	return r;
}

/* NOLINTNEXTLINE(readability-function-size): two results, and where they come from */
int pack_read_index(struct store *s, const uint8_t hash[REPO_NAME_HASH],
		    const uint8_t repo_id[REPO_ID_SIZE], bool walk, struct repo_entry **ret,
		    size_t *ret_n, struct err *e)
{
	struct stored_pack p = { .store = s };
	int r = store_size(s, pack_name(hash, p.name), &p.size, e);

	if (r < 0)
		return r;
	if (p.size > REPO_PACK_MAX) {
		return err_set(e, -EBADMSG, "%s: no pack has %" PRIu64 " bytes", p.name, p.size);
	}
	r = head_read(&p, repo_id, e);
	if (r == 0)
		r = list_read(&p, ret, ret_n, e);
	if (walk && (r == -EBADMSG || r == -EIO))
		r = pack_walk(&p, ret, ret_n, e);
	if (r == -EBADMSG)
		err_prefix(e, "%s: damaged", p.name);
	return r;
}
