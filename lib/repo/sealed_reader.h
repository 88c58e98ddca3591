/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sealed_reader - the plain bytes of an encrypted file (sealed_head.h), anywhere in it.
 *
 * A segment is read and opened as a whole, and kept for who reads near it: SEALED_CACHE segments, shared by all threads, each
 * opened by one while others wait for it. What is kept is not in locked memory: it is the image, not its key.
 *
 * Blocks; sealed_reader_read() is thread-safe. Hostile files are safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/image_io.h"
#include "lib/repo/sealed_head.h"

/* Segments of 1 MiB: two for each of eight threads, as a chunk may lie in two. */
#define SEALED_CACHE 16

struct sealed_reader;

/* The head of the encrypted file @fd. 0: it is none; 1: *@ret is its head, locked; -EBADMSG, -ENOTSUP: sealed_head_parse(). */
int sealed_reader_head(int fd, struct sealed_head **ret, struct err *e);
/*
 * @head, unlocked, is taken over in any case; @fd, a regular file or a block device, is borrowed. The last segment is opened.
 * -EBADMSG: it is damaged, or no longer the last one; which of these is told.
 */
int sealed_reader_new(int fd, struct sealed_head *head, struct sealed_reader **ret, struct err *e);
void sealed_reader_free(struct sealed_reader *r);
DEFINE_CLEANUP(struct sealed_reader, sealed_reader_free);
/* For image_reader_open_io(); @r must stay. */
struct image_io sealed_reader_io(struct sealed_reader *r);
