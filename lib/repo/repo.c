/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/repo/hash_list.h"
#include "lib/repo/pack.h"
#include "lib/repo/pack_sessions.h"

/* The place of a name may be asked for so often, when packs are gone. */
#define REPO_PLACES_MAX 64u
#define NS_PER_HOUR	UINT64_C(3600000000000)
/* "gc/mark-" and the hash of the pack that is marked; gc.h. */
#define REPO_MARK_PREFIX "gc/mark-"

void repo_free(struct repo *r)
{
	if (!r)
		return;
	pack_sessions_free(r->sessions);
	repo_index_free(r->index);
	crypt_free(r->crypt);
	store_free(r->store);
	free(r);
}

int repo_open(struct store *s, struct repo **ret, struct err *e)
{
	_cleanup_(repo_freep) struct repo *r = calloc(1, sizeof(*r));
	int n;

	if (!r) {
		store_free(s);
		return err_oom(e);
	}
	r->store = s;
	n = repo_format_get(s, &r->format, e);
	if (n < 0)
		return n;
	*ret = TAKE_PTR(r);
	return 0;
}

int repo_unlock(struct repo *r, struct crypt *c, struct err *e)
{
	if (!r->format.encrypted) {
		crypt_free(c);
		return err_set(
			e, -EINVAL,
			"the repository is not encrypted, but a key was given for it: nothing "
			"is written in the clear to a place that should be encrypted");
	}
	crypt_free(r->crypt);
	r->crypt = c;
	return 0;
}

/* ---- the index ---------------------------------------------------------------------------------- */

int repo_load_whole_index(struct repo *r, struct err *e)
{
	_cleanup_(repo_index_freep) struct repo_index *index = NULL;
	struct pack_sessions *sessions = NULL;
	int n;

	if (r->format.encrypted && !r->crypt)
		return err_set(e, -ENOKEY, "the repository is encrypted: give its key");
	n = repo_index_open(r->store, r->format.id, r->crypt, &index, e);
	if (n < 0)
		return n;
	if (r->crypt && pack_sessions_new(r->store, r->format.id, r->crypt, &sessions) < 0)
		return err_oom(e);
	repo_index_free(r->index);
	pack_sessions_free(r->sessions);
	r->index = TAKE_PTR(index);
	r->sessions = sessions;
	return 0;
}

int repo_load_index(struct repo *r, struct err *e)
{
	_cleanup_(hash_list_done) struct hash_list marks = { 0 };
	const uint64_t now = io_boot_ns(), realtime = io_realtime_ns();
	int n;

	if (r->format.encrypted && !r->crypt)
		return err_set(e, -ENOKEY, "the repository is encrypted: give its key");
	n = hash_list_load(r->store, REPO_MARK_PREFIX, &marks, e);
	if (n >= 0)
		n = repo_load_whole_index(r, e);
	if (n < 0)
		return n;
	for (size_t i = 0; i < marks.count; i++)
		repo_index_exclude(r->index, marks.items[i]);
	r->loaded_ns = now;
	r->loaded_realtime_ns = realtime;
	return 0;
}

int repo_in_time(const struct repo *r, uint64_t grace_ns, struct err *e)
{
	const uint64_t realtime = io_realtime_ns(), since = r->loaded_realtime_ns;

	if (io_boot_ns() - r->loaded_ns < grace_ns &&
	    (realtime < since || realtime - since < grace_ns))
		return 0;
	return err_set(e, -ESTALE,
		       "it took longer than the repository's grace period (%" PRIu64
		       " hours), after which chunks that it counts on may be gone: do it again, "
		       "most of what was stored is not stored twice",
		       grace_ns / NS_PER_HOUR);
}

int repo_find(struct repo *r, const struct chunk_id *id, enum repo_kind kind,
	      struct repo_place *ret, struct err *e)
{
	uint64_t after = UINT64_MAX;
	struct repo_place place;
	struct chunk_id name;
	int n;

	crypt_name(r->crypt, id, &name);
	n = repo_index_find(r->index, &name, NULL, &place, e);
	/* who writes to a disk can make a chunk that is a page, byte for byte */
	while (n >= 0 && (place.kind != kind || repo_index_pack(r->index, place.pack)->excluded)) {
		n = repo_index_find(r->index, &name, &after, &place, e);
		after = place.ordinal;
	}
	if (n >= 0)
		*ret = place;
	return n;
}

int repo_locate(struct repo *r, const struct chunk_id *id, enum repo_kind kind,
		struct repo_place *ret, struct err *e)
{
	uint64_t after = UINT64_MAX;
	struct chunk_id name;
	int n;

	n = repo_find(r, id, kind, ret, e);
	if (n != -ENOENT)
		return n;
	crypt_name(r->crypt, id, &name);
	do {
		n = repo_index_find(r->index, &name, &after, ret, e);
		after = ret->ordinal;
	} while (n >= 0 && ret->kind != kind);
	return n;
}

/* ---- reading ------------------------------------------------------------------------------------ */

int repo_read_stored(struct repo *r, const struct repo_place *p, void *ret, struct err *e)
{
	const struct repo_index_pack_info *pack = repo_index_pack(r->index, p->pack);
	const uint32_t len = le32_get(p->entry.frame_len), offset = le32_get(p->entry.offset);
	char name[PACK_NAME_SIZE];
	int n;

	if (offset > pack->size || len > pack->size - offset) {
		return err_set(e, -EBADMSG, "the index names bytes behind the end of %s",
			       pack_name(pack->hash, name));
	}
	n = store_get(r->store, pack_name(pack->hash, name), offset, ret, len, e);
	if (n == -ENODATA)
		return err_set(e, -EBADMSG, "%s is shorter than it was", name);
	return n;
}

int repo_open_entry(struct repo *r, const struct repo_place *p, const void *stored, void *ret,
		    size_t *ret_len, struct err *e)
{
	const struct repo_index_pack_info *pack = repo_index_pack(r->index, p->pack);
	struct pack_session *session = NULL;
	char name[PACK_NAME_SIZE];
	int n = 0;

	if (r->sessions)
		n = pack_sessions_get(r->sessions, p->pack, pack->hash, &session, e);
	if (n >= 0) {
		n = pack_entry_open(&p->entry, r->format.id, pack_session_crypt(session), stored,
				    ret, ret_len, e);
	}
	pack_sessions_put(r->sessions, session);
	if (n == -EBADMSG) {
		err_prefix(e, "%s, byte %" PRIu32, pack_name(pack->hash, name),
			   le32_get(p->entry.offset));
	}
	return n;
}

int repo_read_place(struct repo *r, const struct repo_place *p, void *ret, size_t *ret_len,
		    struct err *e)
{
	_cleanup_free_ void *stored = malloc(le32_get(p->entry.frame_len) + 1);
	int n;

	if (!stored)
		return err_oom(e);
	n = repo_read_stored(r, p, stored, e);
	return n < 0 ? n : repo_open_entry(r, p, stored, ret, ret_len, e);
}

static int repo_read_from(struct repo *r, const struct repo_place *p, void **ret, size_t *ret_len,
			  struct err *e)
{
	_cleanup_free_ void *bytes = malloc(le32_get(p->entry.frame_len) + 1);
	int n;

	if (!bytes)
		return err_oom(e);
	n = repo_read_place(r, p, bytes, ret_len, e);
	if (n >= 0)
		*ret = TAKE_PTR(bytes);
	return n;
}

int repo_read(struct repo *r, const struct chunk_id *id, enum repo_kind kind, void **ret,
	      size_t *ret_len, struct err *e)
{
	struct repo_place place;
	struct chunk_id name;
	uint64_t after = UINT64_MAX;
	char hex[2 * AMBRO_ID_SIZE + 1];
	int n, last = -ENOENT;

	crypt_name(r->crypt, id, &name);
	for (unsigned int i = 0; i < REPO_PLACES_MAX; i++) {
		n = repo_index_find(r->index, &name, &after, &place, e);
		if (n < 0)
			break;
		after = place.ordinal;
		if (place.kind != kind)
			continue;
		n = repo_read_from(r, &place, ret, ret_len, e);
		if (n != -ENOENT && n != -EBADMSG)
			return n;
		last = n;
	}
	if (n < 0 && n != -ENOENT && n != -EBADMSG)
		return n;
	if (last == -EBADMSG || n == -EBADMSG)
		return e ? (e->code = -EBADMSG) : -EBADMSG;
	return err_set(e, -ENOENT, "the repository has no %s %.16s",
		       kind == REPO_KIND_PAGE ? "page" : "chunk",
		       hex_encode(id->b, sizeof(id->b), hex));
}
