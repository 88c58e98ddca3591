/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * key_slot - one key slot of an encrypted repository: its secrets, wrapped for a passphrase or a recipient's X25519 key.
 *
 * A slot is the object "keys/<16 hexadecimal digits, random>", JSON:
 *
 *	{ "format": 1, "repository", "chunk_shift", "repository_created_ns", "type": "passphrase",
 *	  "rights": "full" | "write", "label", "created_ns",
 *	  "kdf": { "algorithm": "argon2id13", "operations", "memory", "salt" }, "sealed",
 *	  "check" }
 *	{ …, "type": "recipient", …, "public": X25519, "sealed", "check" }
 *
 * Bytes are hexadecimal. What is sealed, by key_wrap.h, are crypt_export()'s bytes; a slot with the rights "write" does not
 * hold the others. Bound to it is the BLAKE2b-256 over struct key_slot_bound: all else that the slot says, its name, and the
 * object "format". So a slot does not open when either was changed; "check" (checked_json.h) tells everybody when a slot rotted. And what opens must be the secrets that the repository's id follows from (crypt_repo_id()), or they are not taken.
 *
 * "repository", "chunk_shift" and "repository_created_ns" say what "format" says, so that it can be made again when it is lost
 * (repo_rebuild.h). What a slot is bound to is taken from "format" all the same, where there is one.
 *
 * Thread-safe. Hostile slots are safe, and what they may cost is bounded.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/le.h"
#include "lib/repo/crypt.h"
#include "lib/repo/key_text.h"
#include "lib/repo/key_wrap.h"
#include "lib/repo/repo.h"
#include "lib/repo/secret.h"

#define KEY_SLOT_ID_MAX	   17	/* 16 digits and the end */
#define KEY_SLOT_LABEL_MAX 64	/* bytes */
#define KEY_SLOT_JSON_MAX  4096 /* of the object, bytes */
/* the larger one of the two ways to seal */
#define KEY_SLOT_SEALED_MAX (KEY_WRAP_RECIPIENT_EXTRA + CRYPT_SECRETS_SIZE)

enum key_slot_type {
	KEY_SLOT_PASSPHRASE = 1,
	KEY_SLOT_RECIPIENT = 2,
};

struct key_slot {
	char id[KEY_SLOT_ID_MAX];
	enum key_slot_type type;
	enum crypt_rights rights; /* what it says; what it gives is sealed */
	char label[KEY_SLOT_LABEL_MAX + 1];
	uint64_t created_ns;
	/* of a passphrase */
	struct key_wrap_cost cost;
	/* of a recipient */
	uint8_t public[KEY_SIZE];
	uint8_t sealed[KEY_SLOT_SEALED_MAX];
	size_t sealed_len;
};

/* What a slot's seal is bound to, before it is hashed. */
struct key_slot_bound {
	uint8_t magic[8]; /* "AMBRSLOT" */
	uint8_t repo_id[REPO_ID_SIZE];
	le32_t chunk_shift;
	uint8_t encrypted; /* 1 */
	uint8_t type;	   /* enum key_slot_type */
	uint8_t rights;	   /* enum crypt_rights */
	uint8_t reserved;
	le64_t repo_created_ns;
	le64_t created_ns;
	le64_t operations, memory;
	uint8_t salt[KEY_WRAP_SALT];
	uint8_t public[KEY_SIZE];
	char id[KEY_SLOT_ID_MAX - 1];
	char label[KEY_SLOT_LABEL_MAX]; /* zeros behind */
};
static_assert(sizeof(struct key_slot_bound) == 192, "on-disk size");

/* A slot to be made. */
struct key_slot_new {
	enum crypt_rights rights;
	const char *label;	     /* NULL: none */
	const struct secret *secret; /* the passphrase; NULL: a recipient */
	uint64_t operations, memory; /* of a passphrase; 0: KEY_WRAP_OPERATIONS, KEY_WRAP_MEMORY */
	uint8_t public[KEY_SIZE];    /* of a recipient */
};

/* -EINVAL: the label, the passphrase or the key will not do; -EACCES: @c has not the rights that the slot shall give. */
int key_slot_make(const struct repo_format *f, const struct crypt *c,
		  const struct key_slot_new *new, struct key_slot *ret, struct err *e);
/*
 * -ENOKEY: it does not open with this; -EBADMSG: it does, but what is in it are not this repository's secrets, or the slot
 * or the format was changed.
 */
int key_slot_open_passphrase(const struct key_slot *s, const struct repo_format *f,
			     const struct secret *passphrase, struct crypt **ret, struct err *e);
int key_slot_open_key(const struct key_slot *s, const struct repo_format *f,
		      const struct key_pair *key, struct crypt **ret, struct err *e);

/* Text, owned by the caller; NULL: out of memory. */
char *key_slot_to_json(const struct key_slot *s, const struct repo_format *f);
/* -EBADMSG: it is no slot, damaged, or costs too much; -EXDEV: it is whole, but another repository's; -ENOTSUP. */
int key_slot_from_json(const char *id, const char *text, size_t len, const struct repo_format *f,
		       struct key_slot *ret, struct err *e);

/*
 * What it says of the object "format": id, chunk_shift, created_ns. Nobody but who can open it knows whether that is true.
 * -ENODATA: the id only, which is filled (slots that were made before they said more); -EBADMSG, -ENOTSUP as above.
 */
int key_slot_says_format(const char *id, const char *text, size_t len, struct repo_format *ret,
			 struct err *e);

const char *key_slot_type_name(enum key_slot_type t);  /* "passphrase", "recipient" */
const char *key_slot_rights_name(enum crypt_rights r); /* "full", "write" */
