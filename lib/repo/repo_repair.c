/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Steps, each of which may be the last: 0 a note that keeps prunes away (gc_turn.h); 1 notes of gc made anew; 2 new index
 * files, the last of which supersedes all that were there when the packs were listed; 3 these are deleted; 4 the note of 0 is.
 * Until 3 is begun, what could be read before can be read still. Nothing is changed when the time of that note is over.
 *
 * Why no prune may be at work: it deletes packs that step 2 has listed, so that the new index would name what is not there;
 * and an index file that it merges from the old ones brings back what step 2 left out.
 */
#include "lib/repo/repo_repair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/array.h"
#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/image/digest.h"
#include "lib/repo/entry_check.h"
#include "lib/repo/gc_clock.h"
#include "lib/repo/gc_object.h"
#include "lib/repo/gc_turn.h"
#include "lib/repo/pack.h"
#include "lib/repo/pack_sessions.h"

/* Entries of one new index file: 48 bytes of memory each, and as much again while it is put. */
#define REPAIR_INDEX_ENTRIES ((uint64_t)1 << 20)

struct repair_name {
	uint8_t hash[REPO_NAME_HASH];
	uint64_t size;
};

struct repair_names {
	struct repair_name *items;
	size_t n, allocated;
};

struct repair {
	struct repo *repo;
	const struct repo_repair_settings *settings;
	struct repo_repair_result *result;
	struct gc_turn turn;
	struct repair_names index, packs;
	struct entry_checker *checker; /* NULL: without full rights */
	struct repo_index_builder *builder;
	uint64_t in_builder; /* entries */
	uint8_t *bytes;	     /* REPO_PACK_MAX */
};

static void repair_done(struct repair *p)
{
	gc_turn_end(&p->turn);
	free(p->index.items);
	free(p->packs.items);
	entry_checker_free(p->checker);
	repo_index_builder_free(p->builder);
	free(p->bytes);
}

static void repair_report(struct repair *p, const char *object, const char *what)
{
	if (p->settings->report)
		p->settings->report(p->settings->ctx, object, what);
}

static int on_name(void *ctx, const char *name, uint64_t size)
{
	struct repair_names *l = ctx;
	struct repair_name it = { .size = size };
	const char *slash = strrchr(name, '/');

	if (!slash || hex_decode(slash + 1, it.hash, sizeof(it.hash)) < 0)
		return 0;
	if (ARRAY_ROOM(l->items, l->n, l->allocated, 64) < 0)
		return -ENOMEM;
	l->items[l->n++] = it;
	return 0;
}

static int repair_list(struct repair *p, const char *folder, struct repair_names *l, struct err *e)
{
	int r = store_list(p->repo->store, folder, on_name, l, e);

	return r == -ENOMEM ? err_oom(e) : r;
}

/* ---- 1: notes ------------------------------------------------------------------------------------ */

static void repair_stamp(const struct repair *p, struct gc_object *o)
{
	struct gc_clock clock;

	gc_clock_read(&clock, p->settings->now_ns);
	gc_clock_stamp(&clock, o);
}

static int repair_note(struct repair *p, const struct gc_object *o, struct err *e)
{
	const struct repo *repo = p->repo;
	struct gc_object again = *o;
	char name[GC_OBJECT_NAME_SIZE];
	int r;

	gc_object_name(o->kind, o->hash, name);
	/* whose turn it is nobody can tell but who started it */
	if (o->kind == GC_PRUNE || o->kind == GC_REPAIR) {
		repair_report(p, name, "is damaged: with --alone it is removed");
		return 0;
	}
	repair_report(p, name, "is damaged: it is made anew");
	p->result->notes++;
	if (p->settings->dry_run)
		return 0;
	repair_stamp(p, &again);
	again.reason = o->kind == GC_MARK ? GC_REASON_DEAD : GC_REASON_NONE;
	r = gc_turn_goes_on(&p->turn, e);
	if (r >= 0)
		r = gc_object_del(repo->store, o->kind, o->hash, e);
	/* what the other two say, the next prune finds out by itself */
	if (r >= 0 && (o->kind == GC_MARK || o->kind == GC_FORGET))
		r = gc_object_put(repo->store, repo->format.id, repo->crypt, &again, e);
	return r;
}

static int repair_notes(struct repair *p, struct err *e)
{
	const struct repo *repo = p->repo;
	struct gc_objects l = { 0 };
	int r = gc_objects_load(repo->store, repo->format.id, repo->crypt, &l, e);

	for (size_t i = 0; r >= 0 && i < l.count; i++) {
		if (l.items[i].damaged)
			r = repair_note(p, &l.items[i], e);
	}
	gc_objects_done(&l);
	return r;
}

static int repair_note_loss(struct repair *p, struct err *e)
{
	const struct repo *repo = p->repo;
	struct gc_object o = { .kind = GC_LOSSY };

	if (getrandom(o.hash, sizeof(o.hash), 0) != sizeof(o.hash))
		return err_set_errno(e, -errno, "no random numbers");
	repair_stamp(p, &o);
	return gc_object_put(repo->store, repo->format.id, repo->crypt, &o, e);
}

/* ---- 2: packs ------------------------------------------------------------------------------------ */

static int repair_end_index(struct repair *p, bool last, struct err *e)
{
	const struct repo *repo = p->repo;
	uint8_t hash[REPO_NAME_HASH];
	int r = 0;

	if (!p->in_builder || p->settings->dry_run)
		return 0;
	for (size_t i = 0; last && i < p->index.n && r >= 0; i++)
		r = repo_index_builder_supersede(p->builder, p->index.items[i].hash);
	if (r < 0)
		return err_oom(e);
	r = gc_turn_goes_on(&p->turn, e);
	if (r < 0)
		return r;
	r = repo_index_builder_put(p->builder, repo->store, hash, e);
	if (r < 0)
		return r;
	/* made before, by a repair that was interrupted or has nothing to do: it is not an old one */
	for (size_t i = 0; i < p->index.n; i++) {
		if (!memcmp(p->index.items[i].hash, hash, sizeof(hash))) {
			p->index.items[i] = p->index.items[--p->index.n];
			break;
		}
	}
	p->result->index_files++;
	p->in_builder = 0;
	repo_index_builder_free(TAKE_PTR(p->builder));
	return 0;
}

static int repair_add(struct repair *p, const struct repair_name *pack,
		      const struct repo_entry *entries, size_t n, struct err *e)
{
	int r = 0;

	p->result->entries += n;
	if (!n)
		return 0;
	if (!p->builder)
		r = repo_index_builder_new(p->repo->format.id, p->repo->crypt, &p->builder, e);
	if (r >= 0) {
		r = repo_index_builder_pack(p->builder, pack->hash, (uint32_t)pack->size, entries,
					    n, e);
	}
	if (r < 0)
		return r;
	p->in_builder += n;
	return p->in_builder < REPAIR_INDEX_ENTRIES ? 0 : repair_end_index(p, false, e);
}

/* Those that are what they should be, moved to the beginning. *ret_n: how many these are. */
static int repair_sift(struct repair *p, const struct repair_name *pack,
		       const struct crypt_session *session, struct repo_entry *entries,
		       size_t *ret_n, struct err *e)
{
	size_t good = 0;

	for (size_t i = 0; i < *ret_n; i++) {
		const uint64_t offset = le32_get(entries[i].offset);
		int r = -EBADMSG;

		if (offset + le32_get(entries[i].frame_len) <= pack->size)
			r = entry_check(p->checker, &entries[i], session, p->bytes + offset, e);
		if (r < 0 && r != -EBADMSG)
			return r;
		if (r >= 0)
			entries[good++] = entries[i];
	}
	p->result->entries_lost += *ret_n - good;
	*ret_n = good;
	return 0;
}

static int repair_damaged(struct repair *p, const struct repair_name *pack, struct err *e)
{
	_cleanup_(crypt_session_freep) struct crypt_session *session = NULL;
	_cleanup_free_ struct repo_entry *entries = NULL;
	const struct repo *repo = p->repo;
	struct repo_pack_head head;
	struct err why = { 0 };
	size_t n = 0;
	int r;

	r = pack_read_index(repo->store, pack->hash, repo->format.id, true, &entries, &n, &why);
	if (r >= 0 && repo->format.encrypted) {
		r = pack_head_check(p->bytes, pack->size, REPO_PURPOSE_PACK, repo->format.id, &head,
				    &why);
		if (r >= 0 && p->checker)
			r = crypt_session_open(repo->crypt, head.session, &session, &why);
	}
	if (r == -EBADMSG || r == -EXDEV || r == -ENOTSUP)
		return 0;
	if (r >= 0 && p->checker)
		r = repair_sift(p, pack, session, entries, &n, &why);
	if (r < 0) {
		if (e)
			*e = why;
		return r;
	}
	return repair_add(p, pack, entries, n, e);
}

/* Its bytes, and whether they are those that were written. -ENOENT: it was deleted meanwhile. */
static int repair_read(struct repair *p, const struct repair_name *pack, const char *name,
		       bool *ret_whole, struct err *e)
{
	uint8_t hash[DIGEST_SIZE];
	int r;

	*ret_whole = false;
	if (pack->size > REPO_PACK_MAX)
		return 0;
	r = store_get(p->repo->store, name, 0, p->bytes, pack->size, e);
	if (r == -EIO || r == -ENODATA) {
		/* pack_read_index() finds out what can be read, and an entry that cannot is not found right */
		memset(p->bytes, 0, pack->size);
		return 0;
	}
	if (r < 0)
		return r;
	digest_of(&(struct iovec){ p->bytes, pack->size }, 1, hash);
	*ret_whole = memcmp(hash, pack->hash, sizeof(hash)) == 0;
	return 0;
}

static int repair_pack(struct repair *p, const struct repair_name *pack, struct err *e)
{
	_cleanup_free_ struct repo_entry *entries = NULL;
	const struct repo *repo = p->repo;
	const uint64_t before = p->result->entries;
	char name[PACK_NAME_SIZE], what[128];
	bool whole;
	size_t n;
	int r;

	r = repair_read(p, pack, pack_name(pack->hash, name), &whole, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	p->result->packs++;
	if (whole) {
		r = pack_read_index(repo->store, pack->hash, repo->format.id, false, &entries, &n,
				    NULL);
		if (r >= 0)
			return repair_add(p, pack, entries, n, e);
	}
	p->result->packs_damaged++;
	r = repair_damaged(p, pack, e);
	snprintf(what, sizeof(what), "is damaged: %" PRIu64 " entries of it are whole",
		 p->result->entries - before);
	repair_report(p, name, what);
	return r;
}

static int repair_packs(struct repair *p, struct err *e)
{
	uint64_t done = 0, total = 0;
	int r = 0;

	for (size_t i = 0; i < p->packs.n; i++)
		total += p->packs.items[i].size;
	for (size_t i = 0; i < p->packs.n && r >= 0; i++) {
		if (cancel_raised(p->settings->cancel))
			return err_set(e, -ECANCELED, "interrupted");
		r = repair_pack(p, &p->packs.items[i], e);
		done += p->packs.items[i].size;
		if (p->settings->progress)
			p->settings->progress(p->settings->ctx, done, total);
	}
	return r < 0 ? r : repair_end_index(p, true, e);
}

/* ---- 3: old index files -------------------------------------------------------------------------- */

static int repair_delete_old(struct repair *p, struct err *e)
{
	for (size_t i = 0; i < p->index.n; i++) {
		char hex[2 * REPO_NAME_HASH + 1], name[STORE_NAME_MAX];
		int r = 0;

		snprintf(name, sizeof(name), "index/%s",
			 hex_encode(p->index.items[i].hash, REPO_NAME_HASH, hex));
		if (!p->settings->dry_run)
			r = gc_turn_goes_on(&p->turn, e);
		if (r >= 0 && !p->settings->dry_run)
			r = store_del(p->repo->store, name, e);
		if (r < 0)
			return r;
		p->result->index_deleted++;
	}
	return 0;
}

/* Steps 1 to 3. */
static int repair_all(struct repair *p, struct err *e)
{
	int r = repair_notes(p, e);

	/* before the index is made anew: whoever then builds on an image looks at it first */
	if (r >= 0 && !p->settings->dry_run)
		r = repair_note_loss(p, e);
	/* index files first: one that comes later is not replaced, whatever of its packs is seen */
	if (r >= 0)
		r = repair_list(p, "index/", &p->index, e);
	if (r >= 0)
		r = repair_list(p, "packs/", &p->packs, e);
	if (r >= 0)
		r = repair_packs(p, e);
	return r < 0 ? r : repair_delete_old(p, e);
}

static int repair_begin_turn(struct repair *p, struct err *e)
{
	const struct repo_repair_settings *s = p->settings;
	struct gc_clock clock;

	if (s->dry_run)
		return 0;
	gc_clock_read(&clock, s->now_ns);
	return gc_turn_begin(&p->turn, p->repo, GC_REPAIR, s->now_ns ? &clock : NULL, s->alone, e);
}

int repo_repair(struct repo *r, const struct repo_repair_settings *s,
		struct repo_repair_result *ret, struct err *e)
{
	_cleanup_(repair_done) struct repair p = { .repo = r, .settings = s, .result = ret };
	int n = 0;

	*ret = (struct repo_repair_result){ 0 };
	if (r->format.encrypted && !r->crypt)
		return err_set(e, -ENOKEY, "the repository is encrypted: give its key");
	if (r->crypt && crypt_rights(r->crypt) != CRYPT_RIGHTS_FULL) {
		return err_set(
			e, -EACCES,
			"a repair takes a key with full rights: with this one nobody can tell "
			"which chunks are damaged");
	}
	repo_index_free(TAKE_PTR(r->index));
	pack_sessions_free(TAKE_PTR(r->sessions));
	p.bytes = malloc(REPO_PACK_MAX);
	if (!p.bytes)
		return err_oom(e);
	n = entry_checker_new(r, &p.checker);
	if (n < 0)
		return err_oom(e);
	n = repair_begin_turn(&p, e);
	return n < 0 ? n : repair_all(&p, e);
}
