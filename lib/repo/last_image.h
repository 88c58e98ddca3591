/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * last_image - what a client keeps, outside of the repository, of the image of one disk that it put there last.
 *
 * With it a client that may only write (crypt.h) makes true increments: it cannot read its own images in the repository, so
 * it keeps that one's manifest and the pages of its hash trees. And any client finds out that the repository has lost, or
 * was robbed of, what this client put there.
 *
 * It is kept in a store of its own, in the clear, one for each repository, host and disk:
 *
 *	pages/<id>		a page of the hash trees, named by its id
 *	image/<number>-<sha256>	JSON (last_image.c), named by its bytes; the greatest number counts
 *
 * Steps of a capture, each of which may be the last one that happens:
 *  1. Pages that are not there yet are put, before the image is committed to the repository.
 *  2. The image was committed. All its pages are looked for, and held against their ids.
 *  3. The new image/ is put.
 *  4. The older ones are deleted.
 *  5. Pages that it does not name are deleted.
 *
 * Invariants:
 *  K1. The image/ that counts is of an image that was committed: 3 comes after the commit. A commit without 3 leaves the one
 *	before, and an increment upon that is as right.
 *  K2. It is only said to have pages when all of them are there: 2 comes before 3, and 5 deletes none of them. Until 4 an
 *	older one is there as well, which does not count.
 *  K3. Nothing is believed that does not prove itself: a page by its id, image/ by its name. What rotted, is of another
 *	repository, host, disk or chunk size, or of a newer tool, is as good as nothing.
 *  K4. Whose pages may be taken over unread is decided by the repository (last_image_find()), not by what is kept here.
 *
 * One client at a time: the caller sees to it. Calls block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/page_source.h"
#include "lib/repo/repo.h"
#include "lib/repo/repo_image.h"
#include "lib/repo/store.h"

struct last_image {
	struct repo_image *image; /* NULL: nothing is known */
	bool has_pages;		  /* all of them are there: it can be a parent */
	struct page_source pages; /* of it */
	/* the rest is last_image.c's */
	struct store *store;
	uint8_t repo_id[REPO_ID_SIZE];
	uint64_t number;   /* the greatest that is there */
	struct err failed; /* of last_image_on_page() */
};

/*
 * What is kept in @s (taken over, also on failure) of @disk of @host. What cannot be used is no failure: then @note says why
 * (its code is 0 otherwise). -ENOMEM.
 */
int last_image_open(struct store *s, const struct repo_format *f, const char *host,
		    const char *disk, struct last_image **ret, struct err *note);
void last_image_free(struct last_image *l);
DEFINE_CLEANUP(struct last_image, last_image_free);

enum last_image_fate {
	LAST_IMAGE_THERE,
	LAST_IMAGE_FORGOTTEN, /* a tombstone is there: it is no parent any more (W1 of gc_object.h) */
	LAST_IMAGE_GONE,      /* neither it nor a tombstone: pruned, or the store has lost it */
	LAST_IMAGE_DAMAGED,
};
/*
 * What became of @l->image, which is known, in @r, whose index is loaded: after that, as W1 has it. Needs no key. *ret_image:
 * the image as it is there; NULL where it is not, or cannot be read with the keys of @r. 0, -ENOMEM or an error of the store.
 */
int last_image_find(const struct last_image *l, struct repo *r, enum last_image_fate *ret,
		    struct repo_image **ret_image, struct err *e);

/* As on_page of struct ingest_settings: step 1. That it fails is told by last_image_keep(). From one thread at a time. */
void last_image_on_page(void *ctx, const void *page, size_t len, const struct chunk_id *id);
/*
 * @i was committed: steps 2 to 5. @pages: they were given to last_image_on_page(). What fails leaves what was there, the new
 * one, or the new one without pages. @l is for nothing but last_image_free() afterwards.
 */
int last_image_keep(struct last_image *l, const struct repo_image *i, bool pages, struct err *e);
