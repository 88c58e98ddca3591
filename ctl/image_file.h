/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_file - an image named on the command line, opened for show, verify, restore and export: a file, or with --repo (or
 * AMBRO_REPOSITORY, unless there is a file of that name) one of a repository.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "lib/base/err.h"
#include "lib/image/image_reader.h"
#include "lib/repo/repo_image.h"
#include "lib/repo/sealed_reader.h"

struct image_file {
	const char *path;	      /* borrowed */
	int fd;			      /* of the file, or of the repository's directory */
	struct sealed_reader *sealed; /* below `reader`, when the file is encrypted */
	struct image_reader *reader;
	const struct manifest *manifest; /* the reader's */
	/* in a repository, else NULL */
	struct repo *repo;
	struct repo_image *image;
	struct repo_images images; /* that `image` is one of */
};
#define IMAGE_FILE_NONE      \
	{                    \
		.fd = -EBADF \
	}

/*
 * A regular file or a repository's image ("-" is refused with the reason); -EBADMSG when it is damaged or no image. What is
 * encrypted is unlocked by arg_repo's keys (ctl/key_source.h): -ENOKEY, … Who gives a key for a file that is not encrypted is
 * refused by -EINVAL. Without @chunks only the manifest can be looked at, and a repository's index need not be whole.
 */
int image_file_open(const char *path, bool chunks, struct image_file *ret, struct err *e);
/* Accepts IMAGE_FILE_NONE. */
void image_file_done(struct image_file *f);

/* What it is called, whatever was written for it: the file's path, or the name in full. Into @buf where that is needed. */
const char *image_file_name(const struct image_file *f, char buf[REPO_IMAGE_NAME_MAX]);
/* That, and which of several of that name: "image" and, of a repository's, "hash" into @o (NULL: nothing). 0 or -ENOMEM. */
int image_file_to_json(const struct image_file *f, json_t *o);

/* "2024-05-01 13:37:00 UTC" of nanoseconds since 1970; "unknown" for 0. Returns @buf of @size bytes. */
char *image_file_time(uint64_t realtime_ns, char *buf, size_t size);
/* How @disk_bytes compare with @stored_bytes: "3.2 : 1". Returns @buf of @size bytes. */
char *image_file_ratio(uint64_t disk_bytes, uint64_t stored_bytes, char *buf, size_t size);
