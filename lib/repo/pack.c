/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/pack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/hex.h"
#include "lib/image/digest.h"
#include "lib/image/record.h"
#include "lib/image/tree.h"

static_assert(PACK_HEAD_SIZE == sizeof(struct record_head) + sizeof(struct repo_pack_head),
	      "on-disk size");

/* What stands before a chunk's frame, around a page's body, around what is sealed. */
#define CHUNK_OVERHEAD	(sizeof(struct record_head) + sizeof(struct ambro_chunk))
#define PAGE_OVERHEAD	sizeof(struct record_head)
#define SEALED_OVERHEAD (PAGE_OVERHEAD + sizeof(struct repo_sealed_head) + REPO_SEAL_EXTRA)

#define PACK_FOLDER "packs/"

struct pack_end {
	struct record_head head;
	struct repo_pack_end end;
};
static_assert(sizeof(struct pack_end) == 64, "on-disk size");

struct pack {
	uint8_t repo_id[REPO_ID_SIZE];
	const struct crypt *crypt;     /* NULL: not encrypted */
	struct crypt_session *session; /* likewise */
	struct store *store;
	struct store_draft *draft; /* has what was flushed; NULL: nothing yet */
	struct digest *digest;	   /* of the same */
	uint8_t *bytes;		   /* what was not flushed yet: the last of `used` */
	size_t held, bytes_room;
	size_t used;
	struct repo_entry *entries;
	size_t n, room;
	/* made by pack_seal() */
	struct record_head index;
	struct pack_end end;
	uint8_t hash[REPO_NAME_HASH];
	char name[PACK_NAME_SIZE]; /* "": not sealed yet */
};

char *pack_name(const uint8_t hash[REPO_NAME_HASH], char ret[PACK_NAME_SIZE])
{
	char hex[2 * REPO_NAME_HASH + 1];

	hex_encode(hash, REPO_NAME_HASH, hex);
	snprintf(ret, PACK_NAME_SIZE, PACK_FOLDER "%.2s/%s", hex, hex);
	return ret;
}

/* ---- the first record ------------------------------------------------------------------------------ */

static int head_judge(const struct repo_pack_head *h, enum repo_purpose purpose,
		      const uint8_t repo_id[REPO_ID_SIZE], struct err *e)
{
	static const char *const whats[] = { "nothing known", "a pack", "an index file",
					     "an image" };
	const uint64_t features = le64_get(h->require_features);

	if (memcmp(h->magic, REPO_PACK_MAGIC, sizeof(h->magic)) != 0)
		return err_set(e, -EBADMSG, "it is no object of a repository");
	if (le32_get(h->version) > REPO_PACK_VERSION || features & ~REPO_REQUIRE_KNOWN) {
		return err_set(e, -ENOTSUP,
			       "it has version %" PRIu32 " and features %#" PRIx64
			       ": a newer tool is needed",
			       le32_get(h->version), features);
	}
	if (memcmp(h->repo_id, repo_id, sizeof(h->repo_id)) != 0)
		return err_set(e, -EXDEV, "it belongs to another repository");
	if (h->purpose != purpose) {
		return err_set(e, -EBADMSG, "it is %s, not %s as its name says",
			       whats[h->purpose < ARRAY_SIZE(whats) ? h->purpose : 0],
			       whats[purpose]);
	}
	if (!le32_get(h->version) || h->reserved[0] || h->reserved[1] || h->reserved[2])
		return err_set(e, -EBADMSG, "its PACK record contradicts itself");
	return 0;
}

int pack_head_check(const void *bytes, size_t len, enum repo_purpose purpose,
		    const uint8_t repo_id[REPO_ID_SIZE], struct repo_pack_head *ret, struct err *e)
{
	struct repo_pack_head body;
	struct record_head head;
	int r;

	if (len < PACK_HEAD_SIZE)
		return err_set(e, -EBADMSG, "it is too short for a PACK record");
	memcpy(&head, bytes, sizeof(head));
	memcpy(&body, (const uint8_t *)bytes + sizeof(head), sizeof(body));
	r = record_head_check(&head, (enum ambro_record_type)REPO_RECORD_PACK, len, "PACK", e);
	if (r < 0)
		return r;
	if (record_body_len(&head) != sizeof(body))
		return err_set(e, -EBADMSG, "the PACK record has a wrong length");
	r = record_body_check(&head, &body, "PACK", e);
	if (r < 0)
		return r;
	r = head_judge(&body, purpose, repo_id, e);
	if (r < 0)
		return r;
	*ret = body;
	return 0;
}

int pack_head_make(const struct crypt *crypt, enum repo_purpose purpose,
		   const uint8_t repo_id[REPO_ID_SIZE], uint8_t ret[PACK_HEAD_SIZE],
		   struct crypt_session **ret_session, struct err *e)
{
	_cleanup_(crypt_session_freep) struct crypt_session *session = NULL;
	struct repo_pack_head body = {
		.version = le32(REPO_PACK_VERSION),
		.purpose = (uint8_t)purpose,
		.require_features = le64(crypt ? REPO_REQUIRE_SEALED : 0),
	};
	struct record_head head;
	int r = 0;

	memcpy(body.magic, REPO_PACK_MAGIC, sizeof(body.magic));
	memcpy(body.repo_id, repo_id, sizeof(body.repo_id));
	if (crypt && purpose != REPO_PURPOSE_INDEX) {
		r = crypt_session_new(crypt, body.session, &session, e);
	} else if (getrandom(body.session, sizeof(body.session), 0) != sizeof(body.session)) {
		r = err_set_errno(e, -EIO, "the kernel has no random bytes");
	} else if (crypt) {
		r = crypt_session_index(crypt, &session, e);
	}
	if (r < 0)
		return r;
	record_make((enum ambro_record_type)REPO_RECORD_PACK, &body, sizeof(body), &head);
	memcpy(ret, &head, sizeof(head));
	memcpy(ret + sizeof(head), &body, sizeof(body));
	*ret_session = TAKE_PTR(session);
	return 0;
}

/* ---- filling --------------------------------------------------------------------------------------- */

/* So much is hashed and written at a time, in the processor's cache still. */
#define FLUSH_BYTES ((size_t)1 << 20)

static int pack_append(struct pack *p, const struct iovec *parts, size_t n, struct err *e)
{
	int r = p->draft ? 0 : store_draft_new(p->store, PACK_FOLDER, &p->draft, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		digest_add(p->digest, parts[i].iov_base, parts[i].iov_len);
	return store_draft_add(p->draft, parts, n, e);
}

static int pack_flush(struct pack *p, struct err *e)
{
	const struct iovec part = { p->bytes, p->held };
	int r = pack_append(p, &part, 1, e);

	if (r == 0)
		p->held = 0;
	return r;
}

static int pack_reserve(struct pack *p, size_t len)
{
	uint8_t *more;

	if (len <= p->bytes_room - p->held)
		return 0;
	more = realloc(p->bytes, p->held + len);
	if (!more)
		return -ENOMEM;
	p->bytes = more;
	p->bytes_room = p->held + len;
	return 0;
}

int pack_new(struct store *store, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
	     struct pack **ret, struct err *e)
{
	_cleanup_(pack_freep) struct pack *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_oom(e);
	p->digest = digest_new();
	if (pack_reserve(p, FLUSH_BYTES) < 0)
		return err_oom(e);
	p->store = store;
	memcpy(p->repo_id, repo_id, sizeof(p->repo_id));
	p->crypt = crypt;
	r = pack_head_make(crypt, REPO_PURPOSE_PACK, repo_id, p->bytes, &p->session, e);
	if (r < 0)
		return r;
	p->held = p->used = PACK_HEAD_SIZE;
	*ret = TAKE_PTR(p);
	return 0;
}

void pack_free(struct pack *p)
{
	if (!p)
		return;
	crypt_session_free(p->session);
	digest_free(p->digest);
	store_draft_free(p->draft);
	free(p->entries);
	free(p->bytes);
	free(p);
}

uint64_t pack_bytes(const struct pack *p)
{
	return p->used + record_frame_len(p->n * sizeof(*p->entries)) + sizeof(p->end);
}

size_t pack_entries(const struct pack *p)
{
	return p->n;
}

const struct repo_entry *pack_entry(const struct pack *p, size_t i)
{
	return &p->entries[i];
}

bool pack_entry_plausible(const struct repo_entry *entry, bool sealed, uint64_t end)
{
	const bool page = le32_get(entry->plain_len) & REPO_ENTRY_PAGE;
	const uint32_t plain = le32_get(entry->plain_len) & ~REPO_ENTRY_PAGE;
	const uint64_t chunk_max = UINT64_C(1) << AMBRO_CHUNK_SHIFT_MAX;
	const uint64_t offset = le32_get(entry->offset), len = le32_get(entry->frame_len);
	const uint64_t around = sealed ? SEALED_OVERHEAD : page ? PAGE_OVERHEAD : 0;

	if (offset < PACK_HEAD_SIZE || offset + len > end || len <= around || !plain)
		return false;
	if (page)
		return plain <= AMBRO_PAGE_MAX && len == around + plain;
	return plain <= chunk_max && len - around <= AMBRO_FRAME_MAX(chunk_max);
}

static int entries_reserve(struct pack *p)
{
	const size_t room = p->room ? 2 * p->room : 1024;
	struct repo_entry *more;

	if (p->n < p->room)
		return 0;
	more = realloc(p->entries, room * sizeof(*more));
	if (!more)
		return -ENOMEM;
	p->entries = more;
	p->room = room;
	return 0;
}

static void chunk_write(uint8_t *at, const struct repo_entry *entry, const void *frame)
{
	const struct ambro_chunk chunk = {
		.plain_len = entry->plain_len,
		.frame_len = entry->frame_len,
		.id = entry->name,
	};
	struct record_head head;

	record_make(AMBRO_RECORD_CHUNK, &chunk, sizeof(chunk), &head);
	memcpy(at, &head, sizeof(head));
	memcpy(at + sizeof(head), &chunk, sizeof(chunk));
	memcpy(at + CHUNK_OVERHEAD, frame, le32_get(entry->frame_len));
}

static void page_write(uint8_t *at, const void *body, size_t len)
{
	struct record_head head;

	record_make(AMBRO_RECORD_PAGE, body, len, &head);
	memcpy(at, &head, sizeof(head));
	memcpy(at + sizeof(head), body, len);
}

/* What the sealed bytes are bound to: a place of their own in one repository. */
struct pack_bound {
	uint8_t repo_id[REPO_ID_SIZE];
	struct repo_sealed_head head;
};
static_assert(sizeof(struct pack_bound) == 64, "no padding");

static void sealed_write(const struct pack *p, uint8_t *at, const struct repo_entry *entry,
			 const void *frame, uint32_t frame_len)
{
	const uint32_t plain = le32_get(entry->plain_len);
	struct pack_bound bound = { .head = {
					    .kind = plain & REPO_ENTRY_PAGE ? REPO_KIND_PAGE
									    : REPO_KIND_CHUNK,
					    .plain_len = le32(plain & ~REPO_ENTRY_PAGE),
					    .frame_len = le32(frame_len),
					    .name = entry->name,
				    } };
	uint8_t *body = at + sizeof(struct record_head);
	struct record_head head;

	memcpy(bound.repo_id, p->repo_id, sizeof(bound.repo_id));
	memcpy(body, &bound.head, sizeof(bound.head));
	crypt_seal(p->session, &bound, sizeof(bound), frame, frame_len, body + sizeof(bound.head));
	record_make((enum ambro_record_type)REPO_RECORD_SEALED, body,
		    le32_get(entry->frame_len) - sizeof(head), &head);
	memcpy(at, &head, sizeof(head));
}

/* what an entry is takes so many words: NOLINTNEXTLINE(readability-function-size) */
int pack_add(struct pack *p, enum repo_kind kind, const struct chunk_id *id, uint32_t plain_len,
	     const void *frame, uint32_t frame_len, struct err *e)
{
	const bool page = kind == REPO_KIND_PAGE, bare = !p->session && !page;
	const size_t around = p->session ? SEALED_OVERHEAD : page ? PAGE_OVERHEAD : 0;
	const size_t before = bare ? CHUNK_OVERHEAD : 0;
	struct repo_entry entry = {
		.offset = le32((uint32_t)(p->used + before)),
		.frame_len = le32((uint32_t)(frame_len + around)),
		.plain_len = le32(plain_len | (page ? REPO_ENTRY_PAGE : 0)),
	};
	uint8_t *at;

	if (*p->name || (!page && kind != REPO_KIND_CHUNK) || plain_len & REPO_ENTRY_PAGE ||
	    !pack_entry_plausible(&entry, p->session, UINT64_MAX)) {
		return err_set(e, -EINVAL, "%" PRIu32 " bytes of no chunk or page for a pack",
			       frame_len);
	}
	if (pack_bytes(p) + before + around + frame_len + sizeof(entry) > REPO_PACK_MAX)
		return err_set(e, -EFBIG, "a pack has no room for %" PRIu32 " bytes", frame_len);
	if (entries_reserve(p) < 0 || pack_reserve(p, before + around + frame_len) < 0)
		return err_oom(e);
	at = p->bytes + p->held;
	crypt_name(p->crypt, id, &entry.name);
	if (p->session) {
		sealed_write(p, at, &entry, frame, frame_len);
	} else if (page) {
		page_write(at, frame, frame_len);
	} else {
		chunk_write(at, &entry, frame);
	}
	p->used += before + around + frame_len;
	p->held += before + around + frame_len;
	p->entries[p->n++] = entry;
	return p->held < FLUSH_BYTES ? 0 : pack_flush(p, e);
}

/* ---- the end --------------------------------------------------------------------------------------- */

/* The list of what is in it, and its end. */
static int pack_append_list(struct pack *p, struct err *e)
{
	const size_t index_len = p->n * sizeof(*p->entries);
	const struct iovec parts[] = {
		{ &p->index, sizeof(p->index) },
		{ p->entries, index_len },
		{ &p->end, sizeof(p->end) },
	};

	record_make((enum ambro_record_type)REPO_RECORD_PACK_INDEX, p->entries, index_len,
		    &p->index);
	p->end.end = (struct repo_pack_end){
		.index_offset = le64(p->used),
		.index_frame_len = le64(record_frame_len(index_len)),
		.entries = le64(p->n),
	};
	record_make((enum ambro_record_type)REPO_RECORD_PACK_END, &p->end.end, sizeof(p->end.end),
		    &p->end.head);
	return pack_append(p, parts, ARRAY_SIZE(parts), e);
}

int pack_seal(struct pack *p, uint8_t ret_hash[REPO_NAME_HASH], struct err *e)
{
	int r;

	if (*p->name) {
		memcpy(ret_hash, p->hash, REPO_NAME_HASH);
		return 0;
	}
	/* an empty list is no null pointer for those who hash and write it */
	if (!p->entries && entries_reserve(p) < 0)
		return err_oom(e);
	r = pack_flush(p, e);
	if (r == 0)
		r = pack_append_list(p, e);
	if (r < 0)
		return r;
	digest_end(p->digest, p->hash);
	memcpy(ret_hash, p->hash, REPO_NAME_HASH);
	pack_name(p->hash, p->name);
	return 0;
}

int pack_put(struct pack *p, struct err *e)
{
	int r;

	if (!*p->name)
		return err_set(e, -EINVAL, "a pack that was not sealed cannot be stored");
	r = store_draft_put(p->draft, p->name, e);
	return r == -EEXIST ? 0 : r;
}

/* ---- taking an entry out --------------------------------------------------------------------------- */

/* The seal proves every byte, so that the record's check would prove nothing more. */
static int sealed_open(const struct repo_entry *entry, const uint8_t repo_id[REPO_ID_SIZE],
		       const struct crypt_session *session, const uint8_t *stored, void *ret,
		       struct err *e)
{
	const uint32_t len = le32_get(entry->frame_len), plain = le32_get(entry->plain_len);
	struct pack_bound bound;
	struct record_head head;
	int r;

	memcpy(&head, stored, sizeof(head));
	r = record_head_check(&head, (enum ambro_record_type)REPO_RECORD_SEALED, len, "SEALED", e);
	if (r == 0)
		r = record_version_check(&head, "SEALED", e);
	if (r < 0)
		return r;
	memcpy(bound.repo_id, repo_id, sizeof(bound.repo_id));
	memcpy(&bound.head, stored + sizeof(head), sizeof(bound.head));
	if (record_frame_len(record_body_len(&head)) != len ||
	    le32_get(bound.head.frame_len) != len - SEALED_OVERHEAD ||
	    le32_get(bound.head.plain_len) != (plain & ~REPO_ENTRY_PAGE) ||
	    bound.head.kind != (plain & REPO_ENTRY_PAGE ? REPO_KIND_PAGE : REPO_KIND_CHUNK) ||
	    memcmp(&bound.head.name, &entry->name, sizeof(entry->name)) != 0)
		return err_set(e, -EBADMSG, "another sealed entry stands where it should be");
	r = crypt_open(session, &bound, sizeof(bound), stored + sizeof(head) + sizeof(bound.head),
		       len - sizeof(head) - sizeof(bound.head), ret);
	if (r < 0)
		return err_set(e, r, "its seal is broken: it is damaged, or was altered");
	return 0;
}

static int page_open(const struct repo_entry *entry, const uint8_t *stored, void *ret,
		     struct err *e)
{
	const uint32_t len = le32_get(entry->frame_len);
	struct record_head head;
	int r;

	memcpy(&head, stored, sizeof(head));
	r = record_head_check(&head, AMBRO_RECORD_PAGE, len, "PAGE", e);
	if (r < 0)
		return r;
	if (record_frame_len(record_body_len(&head)) != len)
		return err_set(e, -EBADMSG, "the PAGE record has a wrong length");
	r = record_body_check(&head, stored + sizeof(head), "PAGE", e);
	if (r < 0)
		return r;
	memcpy(ret, stored + sizeof(head), len - sizeof(head));
	return 0;
}

/* what an entry is takes so many words: NOLINTNEXTLINE(readability-function-size) */
int pack_entry_open(const struct repo_entry *entry, const uint8_t repo_id[REPO_ID_SIZE],
		    const struct crypt_session *session, const void *stored, void *ret,
		    size_t *ret_len, struct err *e)
{
	const uint32_t len = le32_get(entry->frame_len);
	const bool page = le32_get(entry->plain_len) & REPO_ENTRY_PAGE;
	int r = 0;

	if (!pack_entry_plausible(entry, session, UINT64_MAX))
		return err_set(e, -EBADMSG, "its place in the pack cannot be");
	if (session) {
		r = sealed_open(entry, repo_id, session, stored, ret, e);
		*ret_len = len - SEALED_OVERHEAD;
	} else if (page) {
		r = page_open(entry, stored, ret, e);
		*ret_len = len - PAGE_OVERHEAD;
	} else {
		memcpy(ret, stored, len);
		*ret_len = len;
	}
	return r;
}
