/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * increment - see increment.h.
 *
 * Invariants of a tracked increment (T: tracker.h, S: snapshot_precopy.c, K: snapshot_cow.c):
 *  I1. The token of an image names an era E of a tracker that was in doubtless use, and that was opened before the
 *	image's instant, in such a way that whatever the image does not show was written by a write that has or gets a mark of
 *	E or later: precopy, the era opened while all stood still, whose marks S3 looked for; snapshots, K8; offline
 *	and still, an era opened before the first read.
 *  I2. The next capture's provider opens an era B of its own before increment_choose() looks for marks of E or later. By T3
 *	(A = E) what is not found then, and is not marked with B or later afterwards, is what it was at the parent's instant.
 *	What is marked with B or later is the provider's to read again (precopy) or not part of its instant (the others).
 *  I3. A snapshot stands before the marks are looked for, so all that it shows was marked by then: a write is marked at its
 *	submission, and one that was not submitted cannot be shown. What was written since costs a vain reading, no more.
 *  I4. What the page cache of the disk itself still holds has no mark yet: it is flushed before the marks are looked for.
 *  I5. A tracker is the one of the token only if boot, tracker (a random number in its pins), granule, disk size and the
 *	source's place on the disk agree, and it knows the token's stamp, which was made when all of the parent was read:
 *	then nothing that the parent shows happened in a time that was taken back since (T5). It is in no doubt before the
 *	first read and after the last.
 *  I6. What is in use now was in use in the parent, or written since, or never written by who has it (preallocated): all zeros
 *	will do for that, as they do for whatever is free. Where the parent knew less of a region than we do (it had a
 *	file system whose map said what is free, now all of it counts), all of the region is read.
 *  I7. Nobody believes a tracker blindly: some chunks that need not be read are, and compared. A block that is in use, was
 *	in the parent with something else, and has no mark even afterwards, is a missed write.
 */
#include "agent/increment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "agent/parent.h"
#include "lib/base/hex.h"
#include "lib/image/codec.h"

/* Of each tracked increment. A tracker that missed one chunk in a hundred is caught by half of the captures. */
#define SAMPLE_MAX 64u
/* Ours have about 160 bytes. */
#define TOKEN_MAX     256u
#define TOKEN_VERSION "2"

_Static_assert(TRACKER_STAMPS == 4096, "token_read() says so");

/* A chunk that need not be read, and is. */
struct sample {
	uint32_t region;
	uint64_t index;
	uint64_t offset; /* bytes of the source */
	uint32_t length;
	uint32_t first; /* its first byte that is in use, from `offset` */
	bool done, different, missed;
	uint64_t missed_at; /* byte of the source */
};

struct increment {
	struct parent *parent; /* NULL: none */
	struct snapshot *snapshot;
	enum increment_kind kind;
	char reason[CAPTURE_INCREMENT_REASON_MAX];
	uint32_t since; /* the token's era */
	struct extent_set
		written; /* of the source, since then; and regions that the parent knew less of */
	struct sample samples[SAMPLE_MAX];
	size_t n_samples;
	uint64_t met;	 /* chunks that could have been samples */
	uint64_t random; /* state */
};

int increment_new(int parent_fd, struct cancel *cancel, struct increment **ret, struct err *e)
{
	struct increment *i = calloc(1, sizeof(*i));
	int r;

	if (!i)
		return err_oom(e);
	r = parent_fd < 0 ? 0 : parent_open(parent_fd, cancel, &i->parent, e);
	if (r < 0) {
		increment_free(i);
		return r;
	}
	*ret = i;
	return 0;
}

void increment_free(struct increment *i)
{
	if (!i)
		return;
	parent_free(i->parent);
	extent_set_done(&i->written);
	free(i);
}

uint32_t increment_chunk_size(const struct increment *i)
{
	return i->parent ? (uint32_t)parent_manifest(i->parent)->chunk_size : 0;
}

enum increment_kind increment_kind(const struct increment *i)
{
	return i->kind;
}

void increment_break(struct increment *i)
{
	if (i)
		parent_break(i->parent);
}

/* ---- the token ------------------------------------------------------------------------------------ */

/* What of a token is its image's own. */
struct stamp {
	uint32_t era;
	uint8_t nonce[TRACKER_STAMP_SIZE];
};

/* I5: what has to agree, and the stamp. */
static void token_make(const struct snapshot *s, const struct stamp *stamp, char ret[TOKEN_MAX])
{
	char boot[33], id[33], nonce[2 * TRACKER_STAMP_SIZE + 1];

	snprintf(ret, TOKEN_MAX, TOKEN_VERSION ":%s:%s:%" PRIu32 ":%s:%u:%" PRIu64 ":%" PRIu64,
		 hex_encode(tracker_boot_id(s->tracker), 16, boot),
		 hex_encode(tracker_id(s->tracker), 16, id), stamp->era,
		 hex_encode(stamp->nonce, sizeof(stamp->nonce), nonce),
		 tracker_granule_shift(s->tracker), tracker_size(s->tracker),
		 s->disk->whole_offset);
}

/* "ERA:NONCE:…", shorter than TOKEN_MAX. */
static bool token_stamp(const char *text, struct stamp *ret)
{
	char nonce[2 * TRACKER_STAMP_SIZE + 1], *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || !n || n > UINT32_MAX || *end != ':')
		return false;
	ret->era = (uint32_t)n;
	snprintf(nonce, sizeof(nonce), "%s", end + 1);
	return hex_decode(nonce, ret->nonce, sizeof(ret->nonce)) == 0;
}

/* NULL, and the era; or why @token is of no use. */
static const char *token_read(const char *token, const struct snapshot *s, uint32_t *ret_era)
{
	const size_t ids = sizeof(TOKEN_VERSION ":") - 1, boot = ids + 33, era = boot + 33;
	struct stamp stamp = { 0 };
	char ours[TOKEN_MAX];

	token_make(s, &stamp, ours);
	if (strnlen(token, TOKEN_MAX) == TOKEN_MAX || strncmp(token, ours, ids) != 0)
		return "the parent is of an agent that this one does not understand";
	if (strncmp(token, ours, boot) != 0)
		return "the machine was started since the parent was made";
	if (strncmp(token, ours, era) != 0)
		return "tracking began anew since the parent was made";
	if (!token_stamp(token + era, &stamp))
		return "the parent's token cannot be";
	token_make(s, &stamp, ours);
	if (strcmp(token, ours) != 0)
		return "the parent is of another place on the disk";
	if (!tracker_stamped(s->tracker, stamp.era, stamp.nonce)) {
		return "the machine seems to have gone back in time (a snapshot was restored), "
		       "or the parent is older than 4096 captures";
	}
	*ret_era = stamp.era;
	return NULL;
}

/* ---- the choice ----------------------------------------------------------------------------------- */

static void increment_settle(struct increment *i, enum increment_kind kind, const char *reason)
{
	i->kind = kind;
	snprintf(i->reason, sizeof(i->reason), "%s", reason);
}

static bool same_regions(const struct manifest *a, const struct manifest *b)
{
	if (a->n_regions != b->n_regions)
		return false;
	for (size_t i = 0; i < a->n_regions; i++) {
		if (a->regions[i].start != b->regions[i].start ||
		    a->regions[i].length != b->regions[i].length)
			return false;
	}
	return true;
}

/* NULL, or why nothing can be compared. */
static const char *parent_misfit(const struct manifest *parent, const struct manifest *m)
{
	if (parent->chunk_size != m->chunk_size)
		return "the parent has chunks of another size";
	if (parent->disk_size != m->disk_size)
		return "the parent is of a disk of another size";
	if (!same_regions(parent, m))
		return "the parent is of a disk that was partitioned in another way";
	if (parent->bad.count)
		return "the parent has unreadable places";
	return NULL;
}

static bool same_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

/* I6: did the parent know at least as much of the region as we do? */
static bool region_was_known(const struct manifest_region *parent, const struct manifest_region *m)
{
	if (parent->content == CONTENT_ALL)
		return true;
	return parent->content == m->content && same_text(parent->fs_type, m->fs_type) &&
	       same_text(parent->fs_uuid, m->fs_uuid);
}

/* I2, I4, I6: what has to be read. NULL with *ret 0, or why it is not known; *ret -ENOMEM. */
static const char *increment_look(struct increment *i, const struct manifest *m, int *ret)
{
	const struct manifest *parent = parent_manifest(i->parent);
	const struct snapshot *s = i->snapshot;

	/* a disk that cannot be written to has nothing to be flushed */
	if (fsync(s->disk->fd) < 0 && errno != EROFS && errno != EINVAL)
		return "what is cached of the disk cannot be flushed";
	*ret = tracker_scan(s->tracker, i->since, &i->written);
	if (*ret < 0)
		return NULL;
	disk_clip_whole(s->disk, &i->written);
	for (size_t k = 0; k < m->n_regions && *ret >= 0; k++) {
		if (!region_was_known(&parent->regions[k], &m->regions[k])) {
			*ret = extent_set_add(&i->written, m->regions[k].start,
					      m->regions[k].length);
		}
	}
	extent_set_normalise(&i->written);
	return NULL;
}

/* NULL: tracked; or why not. */
static const char *increment_track(struct increment *i, const struct manifest *m, int *ret)
{
	const char *token = parent_manifest(i->parent)->track, *why;
	const struct snapshot *s = i->snapshot;

	if (!token)
		return "nothing tracked the disk when the parent was made";
	if (!s->tracker)
		return "nothing tracks the disk";
	why = token_read(token, s, &i->since);
	if (why)
		return why;
	why = increment_look(i, m, ret);
	if (why || *ret < 0)
		return why;
	return tracker_doubt(s->tracker, NULL) ? "tracking of the disk is in doubt" : NULL;
}

static void increment_tell(const struct increment *i, struct capture_status *status)
{
	memcpy(status->increment_reason, i->reason, sizeof(status->increment_reason));
	atomic_store(&status->increment, (int)i->kind + 1);
}

int increment_choose(struct increment *i, struct snapshot *s, struct manifest *m,
		     struct capture_status *status, struct err *e)
{
	const char *why;
	int r = 0;

	i->snapshot = s;
	why = i->parent ? parent_misfit(parent_manifest(i->parent), m) : "";
	if (why) {
		increment_settle(i, INCREMENT_FULL, why);
		increment_tell(i, status);
		return 0;
	}
	why = increment_track(i, m, &r);
	if (r < 0)
		return err_oom(e);
	increment_settle(i, why ? INCREMENT_COMPARED : INCREMENT_TRACKED, why ? why : "");
	increment_tell(i, status);
	m->has_parent = true;
	memcpy(m->parent_id, parent_manifest(i->parent)->image_id, sizeof(m->parent_id));
	return 0;
}

/* ---- what is read ---------------------------------------------------------------------------------- */

/* xorshift64*: nobody gains by foreseeing it, the disk's own users do not see it. */
static uint64_t increment_random(struct increment *i, uint64_t below)
{
	i->random ^= i->random >> 12;
	i->random ^= i->random << 25;
	i->random ^= i->random >> 27;
	return (i->random * UINT64_C(2685821657736338717)) % below;
}

/* Every chunk that is met gets the same chance. */
static void increment_offer(struct increment *i, const struct plan_chunk *c)
{
	uint64_t place = i->met++;
	uint32_t b = 0;

	if (place >= SAMPLE_MAX)
		place = increment_random(i, i->met);
	if (place >= SAMPLE_MAX)
		return;
	while (!plan_chunk_block(c, b))
		b++;
	i->samples[place] = (struct sample){
		.region = c->region,
		.index = c->index,
		.offset = c->offset,
		.length = c->length,
		.first = b * PLAN_BLOCK,
	};
	i->n_samples = MAX(i->n_samples, (size_t)place + 1);
}

/* How far the disk's chunks have been spoken of. */
struct base {
	struct image_writer *writer;
	const struct manifest *manifest;
	uint32_t region;
	uint64_t index;
	uint64_t same; /* chunks up to `index` that are SAME and were not told yet */
};

/* A word for each run, not for each chunk: the writer counts what it knows at every word. */
static int base_tell_same(struct base *b, struct err *e)
{
	const uint64_t n = b->same;

	b->same = 0;
	return n ? image_writer_run(b->writer, b->region, b->index - n, n, CHUNK_SAME, e) : 0;
}

/* All that lies before chunk @index of @region and was not spoken of is free. */
static int base_free_until(struct base *b, uint32_t region, uint64_t index, struct err *e)
{
	int r = 0;

	if (b->region < region || b->index < index)
		r = base_tell_same(b, e);
	while (r >= 0 && (b->region < region || (b->region == region && b->index < index))) {
		const uint64_t end = b->region < region
					     ? region_chunks(b->manifest->regions[b->region].length,
							     b->manifest->chunk_size)
					     : index;

		if (b->index < end) {
			r = image_writer_run(b->writer, b->region, b->index, end - b->index,
					     CHUNK_FREE, e);
		}
		b->index = end;
		if (b->region < region) {
			b->region++;
			b->index = 0;
		}
	}
	return r;
}

/* Speak of every chunk; and choose samples among those that hold something and will not be read. */
static int increment_base(struct increment *i, const struct plan *plan,
			  const struct extent_set *read, struct base *b, struct err *e)
{
	struct plan_chunk c;
	uint64_t at = 0;
	int r = 0;

	while (r >= 0 && plan_next(plan, plan_used(plan), &at, &c)) {
		r = base_free_until(b, c.region, c.index, e);
		b->index = c.index + 1;
		b->same++;
		if (!extent_set_overlaps(read, c.offset, c.length))
			increment_offer(i, &c);
	}
	if (r >= 0)
		r = base_free_until(b, (uint32_t)b->manifest->n_regions, 0, e);
	return r;
}

static int increment_plan_tracked(struct increment *i, const struct plan *plan,
				  struct image_writer *w, struct extent_set *ret, struct err *e)
{
	struct base b = { .writer = w, .manifest = parent_manifest(i->parent) };
	int r;

	if (getrandom(&i->random, sizeof(i->random), 0) != sizeof(i->random))
		return err_set_errno(e, -errno, "no random numbers");
	i->random |= 1;
	if (extent_set_intersect(plan_used(plan), &i->written, ret) < 0)
		return err_oom(e);
	r = increment_base(i, plan, ret, &b, e);
	for (size_t k = 0; k < i->n_samples && r >= 0; k++) {
		const struct sample *s = &i->samples[k];

		/* one block that is in use: plan_next() adds all others of its chunk */
		if (extent_set_add(ret, s->offset + s->first,
				   MIN(PLAN_BLOCK, s->length - s->first)) < 0)
			return err_oom(e);
	}
	extent_set_normalise(ret);
	return r;
}

int increment_plan(struct increment *i, const struct plan *plan, struct image_writer *w,
		   struct extent_set *ret, struct err *e)
{
	const struct extent_set none = { 0 };

	if (i->kind == INCREMENT_TRACKED)
		return increment_plan_tracked(i, plan, w, ret, e);
	/* a copy: what is in use grows while we read */
	return extent_set_union(plan_used(plan), &none, ret) < 0 ? err_oom(e) : 0;
}

/* ---- comparison ------------------------------------------------------------------------------------ */

/* NULL: no sample, or looked at already. */
static struct sample *increment_sample(struct increment *i, const struct plan_chunk *c)
{
	for (size_t k = 0; k < i->n_samples; k++) {
		struct sample *s = &i->samples[k];

		if (s->region == c->region && s->index == c->index)
			return s->done ? NULL : s;
	}
	return NULL;
}

/* I7: is there a block that only a write can have changed? */
static void sample_look(struct sample *s, const struct plan_chunk *c, bool hides,
			const uint8_t *plain, const uint8_t *before)
{
	for (uint32_t at = 0; at < c->length && !s->missed; at += PLAN_BLOCK) {
		const uint32_t len = MIN(PLAN_BLOCK, c->length - at);

		if (!plan_chunk_block(c, at / PLAN_BLOCK) || !memcmp(plain + at, before + at, len))
			continue;
		/* what is zero there was not in use then; a snapshot shows its own store as zeros */
		s->missed = !chunk_is_zero(before + at, len) &&
			    !(hides && chunk_is_zero(plain + at, len));
		s->missed_at = c->offset + at;
	}
}

/* Its id is another than the parent's. */
static int increment_examine(struct increment *i, struct sample *s, const struct plan_chunk *c,
			     const void *plain, struct err *e)
{
	_cleanup_free_ uint8_t *before = malloc(c->length);
	int r;

	if (!before)
		return err_oom(e);
	r = parent_content(i->parent, c->region, c->index, before, e);
	if (r >= 0)
		sample_look(s, c, i->snapshot->ops->below, plain, before);
	/* who has no key cannot say what it was */
	return r == -EACCES ? 0 : r;
}

int increment_compare(struct increment *i, const struct plan_chunk *c, const void *plain,
		      const struct chunk_id *id, bool *ret, struct err *e)
{
	enum chunk_state state = CHUNK_FREE;
	struct sample *s;
	struct chunk_id was;
	int r;

	*ret = false;
	if (i->kind == INCREMENT_FULL)
		return 0;
	s = increment_sample(i, c);
	if (!id && !s)
		return 0;
	r = parent_chunk(i->parent, c->region, c->index, &state, &was, e);
	if (r < 0)
		return r;
	*ret = id && state == CHUNK_DATA && chunk_id_equal(id, &was);
	if (!s)
		return 0;
	s->done = true;
	s->different = id ? !*ret : state == CHUNK_DATA;
	return s->different && state == CHUNK_DATA ? increment_examine(i, s, c, plain, e) : 0;
}

/* ---- the end --------------------------------------------------------------------------------------- */

static int increment_check_samples(const struct increment *i, struct manifest *m, struct err *e)
{
	const struct snapshot *s = i->snapshot;

	for (size_t k = 0; k < i->n_samples; k++) {
		const struct sample *x = &i->samples[k];

		m->sample_checked += x->done;
		m->sample_different += x->different;
		if (!x->missed || tracker_touched(s->tracker, i->since,
						  s->disk->whole_offset + x->offset, x->length))
			continue;
		tracker_distrust(s->tracker);
		return err_set(e, -EUCLEAN,
			       "%s differs from the parent at byte %" PRIu64
			       ", where nobody is known to have written: tracking missed a write; "
			       "it is started anew, capture again: everything will be compared",
			       s->disk->path, x->missed_at);
	}
	return 0;
}

/* T5: nothing is read any more. */
static int increment_sign(const struct increment *i, struct manifest *m, struct err *e)
{
	struct stamp stamp = { .era = i->snapshot->era };
	char token[TOKEN_MAX];
	int r;

	r = tracker_stamp(i->snapshot->tracker, stamp.era, stamp.nonce, e);
	if (r < 0)
		return r;
	token_make(i->snapshot, &stamp, token);
	m->track = strdup(token);
	return m->track ? 0 : err_oom(e);
}

static int increment_describe(const struct increment *i, struct manifest *m, struct err *e)
{
	m->increment = strdup(capture_increment_name(i->kind));
	m->increment_reason = *i->reason ? strdup(i->reason) : NULL;
	return m->increment && (m->increment_reason || !*i->reason) ? 0 : err_oom(e);
}

int increment_conclude(struct increment *i, struct manifest *m, struct err *e)
{
	const struct snapshot *s = i->snapshot;
	struct err why = { 0 };
	const bool trusted = s->tracker && s->era && !tracker_doubt(s->tracker, &why);
	int r;

	if (i->kind == INCREMENT_TRACKED && !trusted) {
		return err_set(e, -ESTALE,
			       "what was written to %s since the parent was made is not known for "
			       "certain: %s; capture it again: everything will be compared",
			       s->disk->path, why.text);
	}
	r = i->kind == INCREMENT_TRACKED ? increment_check_samples(i, m, e) : 0;
	if (r < 0)
		return r;
	r = increment_describe(i, m, e);
	return r >= 0 && trusted ? increment_sign(i, m, e) : r;
}
