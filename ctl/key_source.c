/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/key_source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/key_prompt.h"
#include "lib/base/io.h"
#include "lib/base/newfile.h"

#define SOURCE_CREDENTIAL_KEY	     "ambro-key"
#define SOURCE_CREDENTIAL_PASSPHRASE "ambro-passphrase"
#define SOURCE_TRIES		     3

/* ---- reading ------------------------------------------------------------------------------------ */

/* Core dumps and tracers would see what is locked in memory. Neither can fail in a way that could be helped. */
static void source_harden(void)
{
	const struct rlimit none = { 0, 0 };

	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	setrlimit(RLIMIT_CORE, &none);
}

/* All of it, at most KEY_TEXT_FILE_MAX bytes. */
static int source_read_fd(int fd, const char *what, struct secret **ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	size_t n = 0;

	source_harden();
	s = secret_new(KEY_TEXT_FILE_MAX + 1, e);
	if (!s)
		return -ENOMEM;
	while (n < s->len) {
		ssize_t got = read(fd, s->bytes + n, s->len - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_set_errno(e, -errno, "cannot read %s", what);
		if (!got)
			break;
		n += (size_t)got;
	}
	if (n == s->len)
		return err_set(e, -EINVAL, "%s is too long for a key or a passphrase", what);
	s->len = n;
	*ret = TAKE_PTR(s);
	return 0;
}

/* Is the secret in @fd only its owner's to read? Pipes are who made them's. */
static int source_check_owner(int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set_errno(e, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return 0;
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_set(e, -EACCES, "%s holds a secret, but belongs to somebody else", path);
	if (st.st_mode & 077) {
		return err_set(e, -EACCES,
			       "%s holds a secret, but others can read or change it (mode %04o): "
			       "chmod 600 it, and think of what has seen it",
			       path, (unsigned int)(st.st_mode & 07777));
	}
	return 0;
}

static int source_open(const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? err_set_errno(e, -errno, "cannot open %s", path) : fd;
}

/* The first line and nothing more. */
static int source_passphrase(const char *what, struct secret *s, struct err *e)
{
	if (s->len && s->bytes[s->len - 1] == '\n')
		s->len--;
	if (s->len && s->bytes[s->len - 1] == '\r')
		s->len--;
	if (!s->len)
		return err_set(e, -EINVAL, "%s: the passphrase is empty", what);
	if (memchr(s->bytes, '\n', s->len) || memchr(s->bytes, '\0', s->len))
		return err_set(e, -EINVAL, "%s: a passphrase is one line of text", what);
	return 0;
}

static int source_passphrase_fd(int fd, const char *what, struct secret **ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	int r;

	r = source_read_fd(fd, what, &s, e);
	if (!s)
		return r;
	r = source_passphrase(what, s, e);
	if (r == 0)
		*ret = TAKE_PTR(s);
	return r;
}

static int source_passphrase_file(const char *path, bool credential, struct secret **ret,
				  struct err *e)
{
	_cleanup_close_ int fd = source_open(path, e);
	int r;

	if (fd < 0)
		return fd;
	r = credential ? 0 : source_check_owner(fd, path, e);
	return r < 0 ? r : source_passphrase_fd(fd, path, ret, e);
}

static int source_key_file(const char *path, bool credential, struct key_pair **ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *text = NULL;
	_cleanup_(key_pair_freep) struct key_pair *k = NULL;
	_cleanup_close_ int fd = source_open(path, e);
	int r;

	if (fd < 0)
		return fd;
	r = source_read_fd(fd, path, &text, e);
	if (!text)
		return r;
	r = key_text_parse(path, text->bytes, text->len, &k, e);
	if (r == 0 && k->has_secret && !credential)
		r = source_check_owner(fd, path, e);
	if (r == 0)
		*ret = TAKE_PTR(k);
	return r;
}

int key_source_read_key(const char *path, struct key_pair **ret, struct err *e)
{
	return source_key_file(path, false, ret, e);
}

int key_source_read_recipient(const char *text, struct key_pair **ret, struct err *e)
{
	if (!strncasecmp(text, "AMBRO-SECRET-", 13)) {
		return err_set(e, -EINVAL,
			       "--recipient is for public keys; this secret one was shown to "
			       "everybody who can list processes: make another");
	}
	if (!strncmp(text, "AMBRO-PUBLIC-", 13))
		return key_text_parse("--recipient", (const uint8_t *)text, strlen(text), ret, e);
	return key_source_read_key(text, ret, e);
}

/* ---- choosing ----------------------------------------------------------------------------------- */

/* The path of systemd's credential @name, allocated; NULL: there is none. */
static char *source_credential(const char *name)
{
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets the environment */
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	char *path = NULL;

	if (!dir || *dir != '/' || asprintf(&path, "%s/%s", dir, name) < 0)
		return NULL;
	if (access(path, F_OK) < 0) {
		free(path);
		return NULL;
	}
	return path;
}

/* What was found. */
struct source_found {
	char *path; /* of a credential; owned */
	bool key;   /* it is one, not a passphrase */
};

static void source_found_done(struct source_found *f)
{
	free(f->path);
}

static void source_find_credential(struct source_found *ret)
{
	*ret = (struct source_found){ .path = source_credential(SOURCE_CREDENTIAL_KEY) };
	ret->key = ret->path != NULL;
	if (!ret->path)
		ret->path = source_credential(SOURCE_CREDENTIAL_PASSPHRASE);
}

static int source_given(const struct key_source *k)
{
	return !!k->key_file + !!k->passphrase_file + (k->passphrase_fd >= 0);
}

bool key_source_given_by_hand(const struct key_source *k)
{
	return source_given(k) > 0;
}

bool key_source_given(const struct key_source *k)
{
	_cleanup_(source_found_done) struct source_found found = { 0 };

	if (source_given(k))
		return true;
	source_find_credential(&found);
	return found.path != NULL;
}

/*
 * What was given, or a credential when @credentials: exactly one of *ret_key and *ret_passphrase is set. 0: there is nothing,
 * so ask; 1: found.
 */
static int source_get(const struct key_source *k, bool credentials, struct key_pair **ret_key,
		      struct secret **ret_passphrase, struct err *e)
{
	_cleanup_(source_found_done) struct source_found found = { 0 };
	int r;

	if (source_given(k) > 1) {
		return err_set(e, -EINVAL,
			       "only one of a key's file, a passphrase's file and a passphrase's "
			       "descriptor can be given");
	}
	if (!source_given(k) && credentials)
		source_find_credential(&found);
	if (k->key_file) {
		r = source_key_file(k->key_file, false, ret_key, e);
	} else if (k->passphrase_file) {
		r = source_passphrase_file(k->passphrase_file, false, ret_passphrase, e);
	} else if (k->passphrase_fd >= 0) {
		r = source_passphrase_fd(k->passphrase_fd, "the passphrase's descriptor",
					 ret_passphrase, e);
	} else if (!found.path) {
		return 0;
	} else if (found.key) {
		r = source_key_file(found.path, true, ret_key, e);
	} else {
		r = source_passphrase_file(found.path, true, ret_passphrase, e);
	}
	return r < 0 ? r : 1;
}

/* ---- unlocking ---------------------------------------------------------------------------------- */

static int source_prompt(const char *question, struct secret **ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	int r;

	source_harden();
	r = key_prompt(question, &s, e);
	if (!s)
		return r;
	r = source_passphrase("terminal", s, e);
	if (r == 0)
		*ret = TAKE_PTR(s);
	return r;
}

static int source_ask_and_unlock(struct repo *r, struct crypt **ret, struct key_slot *ret_slot,
				 struct err *e)
{
	int n = -ENOKEY;

	for (int i = 0; i < SOURCE_TRIES && n == -ENOKEY; i++) {
		_cleanup_(secret_freep) struct secret *s = NULL;

		n = source_prompt(i ? "Not that one. Passphrase of the repository: "
				    : "Passphrase of the repository: ",
				  &s, e);
		if (n == -ENOTTY) {
			return err_set(e, -ENOKEY,
				       "the repository is encrypted, and there is no terminal to "
				       "ask for its passphrase: give --key-file or "
				       "--passphrase-file");
		}
		if (n == 0)
			n = keys_unlock_passphrase(r->store, &r->format, s, ret, ret_slot, e);
	}
	return n;
}

int key_source_unlock_slot(const struct key_source *k, struct repo *r, struct key_slot *ret_slot,
			   struct err *e)
{
	_cleanup_(secret_freep) struct secret *passphrase = NULL;
	_cleanup_(key_pair_freep) struct key_pair *key = NULL;
	struct crypt *c = NULL;
	int n;

	n = source_get(k, true, &key, &passphrase, e);
	if (n < 0)
		return n;
	if (key) {
		n = keys_unlock_key(r->store, &r->format, key, &c, ret_slot, e);
	} else if (passphrase) {
		n = keys_unlock_passphrase(r->store, &r->format, passphrase, &c, ret_slot, e);
	} else {
		n = source_ask_and_unlock(r, &c, ret_slot, e);
	}
	return n < 0 ? n : repo_unlock(r, c, e);
}

int key_source_unlock(const struct key_source *k, struct repo *r, struct err *e)
{
	return key_source_unlock_slot(k, r, NULL, e);
}

/* ---- new keys ----------------------------------------------------------------------------------- */

static int source_ask_twice(struct secret **ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *a = NULL, *b = NULL;
	int r;

	r = source_prompt("New passphrase: ", &a, e);
	if (r == -ENOTTY) {
		return err_set(e, -ENOKEY,
			       "there is no terminal to ask for a new passphrase: give a file or a "
			       "descriptor with one, or a key");
	}
	if (r == 0)
		r = source_prompt("The same again: ", &b, e);
	if (!a || !b)
		return r;
	if (a->len != b->len || memcmp(a->bytes, b->bytes, a->len) != 0)
		return err_set(e, -EINVAL, "the two passphrases differ");
	*ret = TAKE_PTR(a);
	return 0;
}

int key_source_new_passphrase(const struct key_source *k, struct secret **ret, struct err *e)
{
	const struct key_source only = { .passphrase_file = k->passphrase_file,
					 .passphrase_fd = k->passphrase_fd };
	struct key_pair *none = NULL;
	int r;

	r = source_get(&only, false, &none, ret, e);
	if (r == 0)
		r = source_ask_twice(ret, e);
	return r < 0 ? r : 0;
}

/* ---- encrypted files ---------------------------------------------------------------------------- */

/* Neither a recipient nor a passphrase was named. */
static int source_default_reader(const struct key_source *k, struct key_source_readers *ret,
				 struct err *e)
{
	_cleanup_(key_pair_freep) struct key_pair *key = NULL;
	int r;

	r = source_get(k, true, &key, &ret->passphrase, e);
	if (r == 0)
		r = source_ask_twice(&ret->passphrase, e);
	if (r < 0)
		return r;
	ret->keys[ret->n].passphrase = ret->passphrase;
	if (key)
		memcpy(ret->keys[ret->n].public, key->public, KEY_SIZE);
	ret->n++;
	return 0;
}

int key_source_readers(const struct key_source *k, const char *const *recipients, size_t n,
		       struct key_source_readers *ret, struct err *e)
{
	const struct key_source only = { .passphrase_file = k->passphrase_file,
					 .passphrase_fd = k->passphrase_fd };
	int r = 0;

	*ret = (struct key_source_readers){ 0 };
	/* the file's own key is about to be in memory */
	source_harden();
	if (n >= SEALED_SLOTS_MAX) {
		return err_set(e, -EINVAL, "an encrypted file has at most %d recipients",
			       SEALED_SLOTS_MAX - 1);
	}
	for (; ret->n < n && r == 0; ret->n++) {
		_cleanup_(key_pair_freep) struct key_pair *key = NULL;

		r = key_source_read_recipient(recipients[ret->n], &key, e);
		if (key)
			memcpy(ret->keys[ret->n].public, key->public, KEY_SIZE);
	}
	if (r < 0)
		return r;
	return n && !source_given(&only) ? 0 : source_default_reader(&only, ret, e);
}

void key_source_readers_done(struct key_source_readers *r)
{
	secret_free(r->passphrase);
	*r = (struct key_source_readers){ 0 };
}

static int source_ask_and_unlock_file(const struct key_source *k, const char *what,
				      struct sealed_head *h, struct err *e)
{
	const char *of = k->of ? k->of : "";
	char question[512], readers[64];
	int n = -ENOKEY;

	for (int i = 0; i < SOURCE_TRIES && n == -ENOKEY; i++) {
		_cleanup_(secret_freep) struct secret *s = NULL;

		snprintf(question, sizeof(question),
			 "%sPassphrase of %.300s: ", i ? "Not that one. " : "", what);
		n = source_prompt(question, &s, e);
		if (n == -ENOTTY) {
			return err_set(e, -ENOKEY,
				       "it is encrypted (for %s), and there is no terminal to ask "
				       "for its passphrase: give --%skey-file or "
				       "--%spassphrase-file",
				       sealed_head_readers(h, readers, sizeof(readers)), of, of);
		}
		if (n == 0)
			n = sealed_head_unlock_passphrase(h, s, e);
	}
	return n;
}

int key_source_unlock_file(const struct key_source *k, const char *what, struct sealed_head *h,
			   struct err *e)
{
	_cleanup_(secret_freep) struct secret *passphrase = NULL;
	_cleanup_(key_pair_freep) struct key_pair *key = NULL;
	int r;

	r = source_get(k, true, &key, &passphrase, e);
	if (r < 0)
		return r;
	if (key)
		return sealed_head_unlock_key(h, key, e);
	if (passphrase)
		return sealed_head_unlock_passphrase(h, passphrase, e);
	if (!sealed_head_has_passphrase(h)) {
		return err_set(e, -ENOKEY,
			       "it is encrypted for a key, which --%skey-file must give",
			       k->of ? k->of : "");
	}
	return source_ask_and_unlock_file(k, what, h, e);
}

/* ---- writing keys ------------------------------------------------------------------------------- */

int key_source_write_key(struct newfile *file, const struct key_pair *k,
			 const uint8_t repo_id[REPO_ID_SIZE], struct err *e)
{
	static const char head[] = "# A secret key of ambrotype (ambroctl-key(1)). Keep it.\n# ";
	_cleanup_(secret_freep) struct secret *text = NULL;
	char public[KEY_TEXT_MAX], repository[KEY_TEXT_MAX] = "";
	char *secret;
	size_t n;
	int r;

	text = secret_new((size_t)2 * KEY_TEXT_FILE_MAX, e);
	if (!text)
		return -ENOMEM;
	/* the secret line is made at the end of the room, and put together at its beginning */
	secret = (char *)text->bytes + KEY_TEXT_FILE_MAX;
	if (repo_id)
		key_text_repository(repo_id, repository);
	n = (size_t)snprintf((char *)text->bytes, KEY_TEXT_FILE_MAX, "%s%s\n%s%s%s\n", head,
			     key_text_public(k->public, public), repository, repo_id ? "\n" : "",
			     key_text_secret(k, secret));
	r = io_write_all(file->fd, text->bytes, n);
	if (r == 0 && fchmod(file->fd, 0400) < 0)
		r = -errno;
	if (r < 0)
		return err_set_errno(e, r, "cannot write the key to %s", file->name);
	return newfile_publish(file, e);
}

/* The slot that unlocks by what was given or asked for. */
static int source_first_slot(const struct key_source *k, struct secret **passphrase,
			     struct key_slot_new *ret, struct err *e)
{
	_cleanup_(key_pair_freep) struct key_pair *key = NULL;
	int r;

	*ret = (struct key_slot_new){ .rights = CRYPT_RIGHTS_FULL };
	r = source_get(k, true, &key, passphrase, e);
	if (r == 0)
		r = source_ask_twice(passphrase, e);
	if (r < 0)
		return r;
	ret->secret = *passphrase;
	if (key)
		memcpy(ret->public, key->public, KEY_SIZE);
	/* it would be refused from then on (keys_unlock_key()) */
	if (key && key->has_repository) {
		return err_set(e, -EPERM,
			       "the key's file has a line AMBRO-REPOSITORY-1, so the key is for "
			       "another repository and would not open this one: make a new key, or "
			       "use it without that line");
	}
	return 0;
}

int key_source_init(const struct key_source *k, struct store *s, struct repo_format *f,
		    const char *recovery, struct err *e)
{
	_cleanup_(secret_freep) struct secret *passphrase = NULL;
	_cleanup_(key_pair_freep) struct key_pair *pair = NULL;
	_cleanup_(newfile_freep) struct newfile *file = NULL;
	_cleanup_(crypt_freep) struct crypt *c = NULL;
	struct key_slot_new slots[2];
	int r;

	if (recovery) {
		r = newfile_open(recovery, 0400, false, &file, e);
		if (r < 0)
			return r;
		pair = key_pair_generate(e);
		if (!pair)
			return -ENOMEM;
	}
	r = source_first_slot(k, &passphrase, &slots[0], e);
	if (r < 0)
		return r;
	slots[1] = (struct key_slot_new){ .rights = CRYPT_RIGHTS_FULL, .label = "recovery" };
	if (pair)
		memcpy(slots[1].public, pair->public, KEY_SIZE);
	r = keys_init(s, f, slots, pair ? 2 : 1, &c, e);
	return r < 0 || !pair ? r : key_source_write_key(file, pair, f->id, e);
}
