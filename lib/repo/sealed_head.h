/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sealed_head - the head of an encrypted image file, and the key that it gives. docs/FORMAT.md, "Encrypted files", has the
 * bytes. Change this file, change that document.
 *
 * An encrypted file is an image sealed from outside, so whoever makes and reads images knows nothing of it:
 *
 *	SEALED record	skippable frame (lib/image/record.h): struct sealed_file_head and its key slots
 *	guard		a zstd frame that stock decoders refuse
 *	segments	2^segment_shift plain bytes each, the last one fewer (but none are empty, unless it is the only one): each
 *			sealed by crypt_seal() with struct sealed_bound bound to it
 *
 * Bound to each segment are the hash of all that stands before the first one, its number, and whether it is the last one
 * (the STREAM construction). So no bit changes, and no segment is left out, repeated, moved, or taken from another file,
 * unnoticed; and no key slot is added or changed by who has not written the file.
 *
 * Each slot holds the file's random key, wrapped (key_wrap.h). The file's id follows from the key, so all slots give the same
 * one, or it is not taken.
 *
 * Thread-safe once it is unlocked. Hostile heads are safe, and what they may cost is bounded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/base/le.h"
#include "lib/image/format.h"
#include "lib/image/record.h"
#include "lib/repo/crypt.h"
#include "lib/repo/key_wrap.h"

#define SEALED_RECORD \
	24 /* its type; the next free one of images and repositories (format.h, repo_format.h) */
#define SEALED_MAGIC   "AMBROENC"
#define SEALED_VERSION 1
#define SEALED_SHIFT \
	20 /* of new files: 1 MiB, sealed as fast as smaller ones, and little to read for a small part */
#define SEALED_SHIFT_MIN 12
#define SEALED_SHIFT_MAX 22
#define SEALED_SLOTS_MAX 32
/* Bytes that a segment has more on the disk. */
#define SEALED_EXTRA REPO_SEAL_EXTRA

struct sealed_file_head {
	uint8_t magic[8];
	le32_t version;
	le32_t segment_shift;
	uint8_t file_id[CRYPT_FILE_ID];
	le32_t slots; /* struct sealed_file_slot each */
	le32_t reserved;
};
static_assert(sizeof(struct sealed_file_head) == 56, "on-disk size");

enum sealed_slot_type {
	SEALED_PASSPHRASE = 1,
	SEALED_RECIPIENT = 2,
};
#define SEALED_SLOT_MAX (KEY_WRAP_RECIPIENT_EXTRA + CRYPT_FILE_KEY)

struct sealed_file_slot {
	uint8_t type; /* enum sealed_slot_type */
	uint8_t reserved[7];
	le64_t operations, memory; /* of a passphrase; else zeros, as what follows */
	uint8_t salt[KEY_WRAP_SALT];
	uint8_t public[KEY_SIZE];	 /* of a recipient */
	uint8_t sealed[SEALED_SLOT_MAX]; /* of a passphrase 72 bytes and zeros */
};
static_assert(sizeof(struct sealed_file_slot) == 184, "on-disk size");

/* What the secrets in a slot are bound to, before it is hashed (BLAKE2b-256). */
struct sealed_slot_bound {
	uint8_t magic[8]; /* "AMBRFSLT" */
	struct sealed_file_head head;
	uint8_t slot[offsetof(struct sealed_file_slot, sealed)];
};
static_assert(sizeof(struct sealed_slot_bound) == 136, "on-disk size");

/* What a segment is bound to. */
struct sealed_bound {
	uint8_t file_id[CRYPT_FILE_ID];
	uint8_t head_hash[32]; /* BLAKE2b-256 of all bytes before the first segment */
	le64_t number;	       /* from 0 */
	uint8_t final;	       /* 1: it is the last one */
	uint8_t reserved[7];
};
static_assert(sizeof(struct sealed_bound) == 80, "on-disk size");

/* The first bytes, which tell how long a head is. */
#define SEALED_START sizeof(struct record_head)
#define SEALED_HEAD_MAX                                   \
	(SEALED_START + sizeof(struct sealed_file_head) + \
	 SEALED_SLOTS_MAX * sizeof(struct sealed_file_slot) + AMBRO_GUARD_SIZE)

struct sealed_head {
	uint8_t *bytes; /* as in the file: all before the first segment */
	size_t len;
	unsigned int shift, slots;
	struct sealed_bound bound;     /* of all segments alike */
	struct crypt_session *session; /* NULL: locked */
};
void sealed_head_free(struct sealed_head *h);
DEFINE_CLEANUP(struct sealed_head, sealed_head_free);

/* Who shall be able to read a new file. */
struct sealed_reader_key {
	const struct secret *passphrase; /* NULL: a recipient */
	uint64_t operations, memory; /* of a passphrase; 0: KEY_WRAP_OPERATIONS, KEY_WRAP_MEMORY */
	uint8_t public[KEY_SIZE];    /* of a recipient */
};
/*
 * Of a new file, unlocked: its key lives as long as this does. -EINVAL: there is no key, or too many, or one will not do.
 * Takes a second for each passphrase.
 */
int sealed_head_new(const struct sealed_reader_key *keys, size_t n, unsigned int shift,
		    struct sealed_head **ret, struct err *e);

/* Does a file that begins with these @len bytes say that it is encrypted? */
bool sealed_head_probe(const void *start, size_t len);
/* Its length, as the first SEALED_START bytes say; at most SEALED_HEAD_MAX. -EBADMSG, -ENOTSUP. */
int sealed_head_length(const void *start, size_t *ret, struct err *e);
/* All of its bytes, locked. -EBADMSG: damaged, or costs more than a sound one; -ENOTSUP: needs a newer tool. */
int sealed_head_parse(const void *bytes, size_t len, struct sealed_head **ret, struct err *e);
/* Who can read it, in words: "1 passphrase, 2 keys". Returns @buf. */
char *sealed_head_readers(const struct sealed_head *h, char *buf, size_t size);
bool sealed_head_has_passphrase(const struct sealed_head *h);
/*
 * -ENOKEY: no slot opens; -EBADMSG: one does, but it or the head was changed; -EINVAL: a public key. It stays locked then.
 * A passphrase is tried in every slot, a second each.
 */
int sealed_head_unlock_passphrase(struct sealed_head *h, const struct secret *passphrase,
				  struct err *e);
int sealed_head_unlock_key(struct sealed_head *h, const struct key_pair *key, struct err *e);

/* @ret: @len + SEALED_EXTRA bytes. */
void sealed_segment_seal(const struct sealed_head *h, uint64_t number, bool final,
			 const void *plain, size_t len, uint8_t *ret);
/* @len bytes as stored, SEALED_EXTRA more than come out. -EBADMSG. */
int sealed_segment_open(const struct sealed_head *h, uint64_t number, bool final,
			const uint8_t *sealed, size_t len, void *ret);
