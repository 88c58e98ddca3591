/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * key_source - where a repository's or an encrypted file's key or passphrase comes from: a file, a descriptor, a systemd credential, a prompt.
 * Never the command line or the environment, which other processes can read.
 *
 * A file with a passphrase or a secret key that others than its owner can read is refused (but for systemd's own
 * credentials, whose folder is theirs to guard), and so is one that belongs to neither root nor the caller. From the first
 * secret on, the process leaves no core dump and cannot be traced. A passphrase is one line; the newline does not count.
 *
 * Blocks; for one thread.
 */
#pragma once

#include <stdbool.h>

#include "lib/base/err.h"
#include "lib/repo/keys.h"
#include "lib/repo/repo.h"
#include "lib/repo/sealed_head.h"

struct key_source {
	const char *key_file;	     /* --key-file: a secret key, NULL: none */
	const char *passphrase_file; /* --passphrase-file */
	int passphrase_fd;	     /* --passphrase-fd; -1: none */
	const char *of;		     /* what these options begin with, "image-"; NULL: nothing */
};
#define KEY_SOURCE_NONE             \
	{                           \
		.passphrase_fd = -1 \
	}

/* Was any of them given? */
bool key_source_given_by_hand(const struct key_source *k);
/* Was any of them given, or is there a credential (then a repository must be encrypted)? */
bool key_source_given(const struct key_source *k);
/*
 * Unlock an encrypted repository by what was given, else by systemd's credentials (ambro-key, ambro-passphrase), else by asking
 * on the terminal, three times at most. -ENOKEY: nothing was given and there is no terminal, or it opens nothing; -EACCES: the
 * file can be read by others; otherwise as keys_unlock_…(). @r->index is not loaded.
 */
int key_source_unlock(const struct key_source *k, struct repo *r, struct err *e);
/* The same, and which slot it was. */
int key_source_unlock_slot(const struct key_source *k, struct repo *r, struct key_slot *ret_slot,
			   struct err *e);
/*
 * The first key slot of a repository that is being made, by what was given (a key file may be a public key), a credential, or a
 * passphrase that is asked for twice; with @recovery (a path, which must not exist) also a recipient whose secret key is
 * written there, mode 0400. Sets @f->id and @f->encrypted (keys_init()). The caller has asked repo_init_check(), before
 * anybody is asked for anything. -EPERM: the key's file says that it is for another repository.
 */
int key_source_init(const struct key_source *k, struct store *s, struct repo_format *f,
		    const char *recovery, struct err *e);

/* A passphrase by file, descriptor, or asked for twice; credentials are not looked at. @k->key_file is ignored. */
int key_source_new_passphrase(const struct key_source *k, struct secret **ret, struct err *e);
/* A file with a public or a secret key (key_text.h); only the latter must be nobody else's to read. */
int key_source_read_key(const char *path, struct key_pair **ret, struct err *e);
/*
 * What @text is, a public key, or names, a file with one (or with a secret one, which will do, too); a secret key itself is
 * -EINVAL with words.
 */
int key_source_read_recipient(const char *text, struct key_pair **ret, struct err *e);

/* Who shall read a new encrypted file. */
struct key_source_readers {
	struct sealed_reader_key keys[SEALED_SLOTS_MAX];
	size_t n;
	struct secret *passphrase; /* that keys refer to; owned */
};
/*
 * The @n @recipients (public keys, or files with one) and the passphrase that was given; when there is neither, a credential,
 * or a passphrase that is asked for twice. @k->key_file is ignored. key_source_readers_done() after either.
 */
int key_source_readers(const struct key_source *k, const char *const *recipients, size_t n,
		       struct key_source_readers *ret, struct err *e);
void key_source_readers_done(struct key_source_readers *r);
/* Unlock the encrypted file @what as key_source_unlock() does a repository. */
int key_source_unlock_file(const struct key_source *k, const char *what, struct sealed_head *h,
			   struct err *e);

/*
 * A new key pair, whose secret half goes to @path (which must not exist), mode 0400. Begun before anything depends on it, and
 * published when all else is done; @repo_id may be NULL.
 */
struct newfile;
int key_source_write_key(struct newfile *file, const struct key_pair *k,
			 const uint8_t repo_id[REPO_ID_SIZE], struct err *e);
