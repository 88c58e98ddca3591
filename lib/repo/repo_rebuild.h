/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_rebuild - the object "format" made anew, of what the other objects say, when it is lost or damaged.
 *
 * What is in it, and where else that stands:
 *	repository	in the PACK record of every pack, index file and image; in key slots
 *	encryption	in the same records
 *	chunk_shift	in the manifest of every image; in key slots
 *	chunk_hash	in the manifest of every image, whose reader knows one only
 *	created_ns	in key slots. Where nothing is encrypted nobody depends on it: the time of the oldest image takes its place
 *	format, require	1, and nothing: what a newer tool needs, it says in the objects' own versions and features, too
 *
 * Why that makes nothing worse:
 *  R1. A "format" that is whole is never touched, this tool's or a newer one's; nor one that is damaged, and says that it is a
 *	newer one's. (One that the store cannot read counts as damaged: it is replaced by an equal one.)
 *  R2. All objects have to agree. What is damaged says nothing; what is whole, and another repository's or a newer tool's, ends
 *	it, and so do key slots that differ; at least one image must be whole.
 *  R3. Of an encrypted repository, what is found is taken only after a key slot was opened, with full rights: a slot is sealed
 *	with a hash over the id, chunk_shift and created_ns, and opens with the very ones that it was made with; the id follows from
 *	the secrets that are in it. So whoever can write to the store can keep this from being done, and bring
 *	in nothing of his own, unless he replaces the whole repository (key_text.h has what is against that).
 *	All slots open that opened before.
 *  R4. No other object is written, changed or deleted.
 *  R5. What is written in the end is what was lost (in the clear: but for created_ns). If a copy of that is found later, it may
 *	take its place.
 *
 * Steps, each of which may be the last: 1 looking, which changes nothing; 2 one that is damaged is looked at once more, and
 * deleted; 3 the new one is put, where there is none. Behind 2 it is missing instead of damaged, and all can be done again. One
 * that somebody puts back meanwhile is found at 2, or stays at 3; between the two looks of 2 it may be deleted, and 3 puts an equal one.
 *
 * Blocks; for one thread. Hostile objects are safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/repo/repo.h"

struct repo_rebuild_result {
	uint64_t objects, objects_damaged; /* PACK records that agree; that cannot be read */
	uint64_t slots; /* that agree; other ones are damaged, or another repository's */
	uint64_t images, images_damaged;
	bool damaged; /* there is a "format" that is damaged; else it is missing */
};

/*
 * The first half of step 1, for which no key is needed: the records' heads, and the key slots. @s is taken over, also on
 * failure. What results is to be unlocked, where it is encrypted, and is good for repo_rebuild() only. @cancel may be NULL.
 * -EEXIST: "format" is there, and whole; -ENOENT: there is no repository; -EBADMSG: the objects do not agree, or too little is
 * left; -ENOTSUP: a newer tool is needed; -ECANCELED.
 */
int repo_rebuild_open(struct store *s, const struct cancel *cancel, struct repo **ret,
		      struct repo_rebuild_result *result, struct err *e);
/*
 * The rest: images, then, unless @dry_run, steps 2 and 3. @r->format is filled. -ENOKEY: it is locked; -EACCES: the key may
 * only write; otherwise as above.
 */
int repo_rebuild(struct repo *r, bool dry_run, const struct cancel *cancel,
		 struct repo_rebuild_result *result, struct err *e);
