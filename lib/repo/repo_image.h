/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_image - the images of a repository: "images/<sha256>", each the commit of one capture.
 *
 * An image's body is JSON: { "format": 1, "host", "disk", "tags": […], "time_ns", "stored": {…}, "manifest": {…} } with the
 * manifest of docs/FORMAT.md as its last member. Names that people use are HOST/DISK/TIME.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/manifest.h"
#include "lib/repo/repo.h"

struct repo_image {
	uint8_t hash[REPO_NAME_HASH]; /* of the object */
	char *host, *disk;	      /* [A-Za-z0-9._-]+ */
	char **tags;		      /* NULL-terminated */
	uint64_t time_ns;	      /* the instant, since 1970 */
	/* what this capture added to the store */
	uint64_t new_chunks, new_bytes, all_chunks;
	struct manifest *manifest;
	bool forgotten; /* a tombstone is there (gc.h) */
};
void repo_image_free(struct repo_image *i);
DEFINE_CLEANUP(struct repo_image, repo_image_free);

/* As JSON: text, owned by the caller. 0, -ENOMEM, -EFBIG. In repo_image_json.c, as the next. */
int repo_image_to_json(const struct repo_image *i, char **ret, size_t *ret_len, struct err *e);
/* Checked; the hash is left zero. Hostile input is safe. */
int repo_image_from_json(const char *text, size_t len, struct repo_image **ret, struct err *e);

/* Commit: the last object that a capture writes. Fills @i->hash. */
int repo_image_put(struct repo *r, struct repo_image *i, struct err *e);
/* -EACCES with write rights only; -EBADMSG: damaged, or not what its name says. */
int repo_image_get(struct repo *r, const uint8_t hash[REPO_NAME_HASH], struct repo_image **ret,
		   struct err *e);
/* The two steps of it. First the object, with the bytes that its name says: allocated. Needs no key. 0, -ENOENT, -EBADMSG. */
int repo_image_stored(struct repo *r, const uint8_t hash[REPO_NAME_HASH], struct iovec *ret,
		      struct err *e);
/* Then what they hold. Asks nothing of the store. */
int repo_image_parse(struct repo *r, const uint8_t hash[REPO_NAME_HASH], const struct iovec *bytes,
		     struct repo_image **ret, struct err *e);

/* All of them, oldest first. Damaged ones are left out and counted, the first one in words. */
struct repo_images {
	struct repo_image **items;
	size_t count;
	size_t damaged;
	struct err first_damage;
	uint8_t (*damaged_hashes)[REPO_NAME_HASH];
	size_t damaged_allocated;
};
int repo_images_load(struct repo *r, bool forgotten_too, struct repo_images *ret, struct err *e);
void repo_images_done(struct repo_images *l);

/* "web1/vda/2026-11-21T18:10:05Z" */
#define REPO_IMAGE_NAME_MAX 256
char *repo_image_name(const struct repo_image *i, char ret[REPO_IMAGE_NAME_MAX]);
/*
 * The one image (of @host, if not NULL) that @text selects: "latest", HOST/latest, HOST/DISK/latest, a prefix of
 * HOST/DISK/TIME, or of the object's hash (8 digits or more). A name in full goes before those of which it is the beginning,
 * but images of one second have one name: -ENOTUNIQ, with names and hashes of the first few that it could be. -ENOENT: none.
 */
int repo_images_select(const struct repo_images *l, const char *text, const char *host,
		       struct repo_image **ret, struct err *e);
/*
 * Make a host's or disk's name fit: other characters become '-', and of one that is too long the last nine are '-' and the
 * beginning of the SHA-256 of all of it. Allocated; NULL: out of memory.
 */
char *repo_image_word(const char *text);
/*
 * The same of a disk without a name of the caller's: what is last in @path; of /dev/dm-0 the volume's name, which is its @model
 * (NULL: unknown), because the kernel counts volumes in the order in which they are made.
 */
char *repo_image_disk_word(const char *path, const char *model);
/* Bytes of a host's, a disk's name, a tag: longer ones would be refused whenever the image is read. */
#define REPO_IMAGE_WORD_MAX 100
/* Does it fit as it is? */
bool repo_image_word_valid(const char *text);
