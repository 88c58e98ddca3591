/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * entry_check - is an entry of a pack what its name says? It is decrypted, decoded and hashed.
 *
 * A checker holds the buffers of one thread, some 12 MiB at most: not thread-safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/repo.h"

struct entry_checker;

/* Needs full rights, and @r as long as it lives. 0 or -ENOMEM. */
int entry_checker_new(struct repo *r, struct entry_checker **ret);
void entry_checker_free(struct entry_checker *k);
DEFINE_CLEANUP(struct entry_checker, entry_checker_free);

/*
 * The entry's frame_len bytes @stored, of a pack with @session (NULL: not encrypted). 0; -EBADMSG with words; or another
 * negative errno.
 */
int entry_check(struct entry_checker *k, const struct repo_entry *entry,
		const struct crypt_session *session, const void *stored, struct err *e);
/* The same of a place that the index gave. */
int entry_check_place(struct entry_checker *k, const struct repo_place *p, const void *stored,
		      struct err *e);
/* After it was found right: its plain id, and the zstd frame or page; valid until the next check. */
const struct chunk_id *entry_checked_id(const struct entry_checker *k);
const void *entry_checked_frame(const struct entry_checker *k, size_t *ret_len);
