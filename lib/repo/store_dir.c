/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A store in a directory. The steps of a put, by the names that store_dir_step() is told; each is one system call:
 *
 *  1  folder		mkdir of each folder that is not there yet
 *  2  nameless		a file without a name in the folder (O_TMPFILE); where the file system cannot:
 *     temporary	a file in tmp/ that has a random name
 *  3  write		all parts
 *  4  flush		fsync of the file
 *  5  link		it gets its name, which is refused when there is one; where the file system knows no links:
 *     rename		the same by RENAME_NOREPLACE
 *  6  unlink		its name in tmp/ goes, if it has one
 *  7  flush-folder	fsync of the folder it is in, then of each folder above that, up to the store's own
 *
 * A draft takes steps 1 and 2 in the folder that it is told (packs/: the same file system as the folders in it), 3 as
 * often as there is something to write, and, when it has a name, 1 for the folder of that, and the rest.
 *
 * A deletion is `delete`, then flush-folder as above.
 *
 * Invariants:
 *  I1. What has a name outside tmp/ is whole and on the disk: 5 comes after 4, and nothing writes after 3; a draft to
 *	which something could not be added gets no name.
 *  I2. Nothing is ever replaced: neither way of step 5 can.
 *  I3. 0 and -EEXIST are said after step 7 only. Another writer may have been killed between 5 and 7, or between 1 and
 *	7 of a folder's first object, so whoever finds a name makes it durable before building on it: put() that is
 *	refused, and list(). (A folder that nobody changed costs no writing.)
 *  I4. Who is killed leaves what 1 made (empty folders, which say nothing), a file in tmp/, or the object.
 *
 * The parts of a name are opened one by one and never through a symbolic link, so nothing outside is ever touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/repo/store_dir_private.h"

#define TEMP_FOLDER "tmp"
#define TEMP_RANDOM 8 /* bytes */
#define TEMP_TRIES  16

static const struct store_ops store_dir_ops;

static struct store_dir *store_dir_of(struct store *s)
{
	return (struct store_dir *)s;
}

/* "cannot WHAT PATH/NAME: …", or better words when there are any. */
static int store_dir_fail(const struct store_dir *d, int r, const char *what, const char *name,
			  struct err *e)
{
	switch (r) {
	case -ENOSPC:
	case -EDQUOT:
		return err_set(e, r,
			       "no room in %s to %s %s: free some space there, or forget images "
			       "and prune",
			       d->path, what, name);
	case -ELOOP:
	case -EISDIR:
		return err_set(e, r, "%s/%s is not a regular file", d->path, name);
	default:
		return err_set_errno(e, r, "cannot %s %s/%s", what, d->path, name);
	}
}

/* ---- put --------------------------------------------------------------------------------------------------------- */

/* What is becoming an object. */
struct draft {
	int folder;	  /* where it will be */
	const char *last; /* its name in there */
	int fd;		  /* O_WRONLY */
	int temp_folder;
	char temp[2 * TEMP_RANDOM + 1]; /* in there, "": it has no such name */
};
#define DRAFT_NONE ((struct draft){ .folder = -EBADF, .fd = -EBADF, .temp_folder = -EBADF })

static void draft_unlink(struct draft *f)
{
	/* what stays is found by store_dir_clean() */
	if (*f->temp && store_dir_ask("unlink") == 0)
		unlinkat(f->temp_folder, f->temp, 0);
	*f->temp = '\0';
}

static void draft_done(struct draft *f)
{
	draft_unlink(f);
	close_fd(f->fd);
	close_fd(f->temp_folder);
	close_fd(f->folder);
}

/* A random name in tmp/, which takes a new one each time. */
static int draft_temporary(const struct store_dir *d, struct draft *f)
{
	const char *last;

	f->temp_folder = folder_open(d, TEMP_FOLDER "/", true, &last);
	if (f->temp_folder < 0)
		return f->temp_folder;
	for (int i = 0; i < TEMP_TRIES; i++) {
		uint8_t random[TEMP_RANDOM];
		char temp[2 * TEMP_RANDOM + 1];
		int r;

		if (getrandom(random, sizeof(random), 0) != sizeof(random))
			return -EIO;
		hex_encode(random, sizeof(random), temp);
		r = store_dir_ask("temporary");
		if (r < 0)
			return r;
		f->fd = openat(f->temp_folder, temp,
			       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (f->fd >= 0) {
			memcpy(f->temp, temp, sizeof(f->temp));
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
	}
	return -EIO;
}

static int draft_create(const struct store_dir *d, struct draft *f)
{
	int r = store_dir_ask("nameless");

	if (r == 0) {
		f->fd = openat(f->folder, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
		r = f->fd < 0 ? -errno : 0;
	}
	/* kernels and file systems that cannot say so in three ways */
	return r == -EOPNOTSUPP || r == -EISDIR || r == -EINVAL ? draft_temporary(d, f) : r;
}

static int draft_write(struct draft *f, const struct iovec *parts, size_t n)
{
	int r = store_dir_ask("write");

	for (size_t i = 0; i < n && r == 0; i++)
		r = io_write_all(f->fd, parts[i].iov_base, parts[i].iov_len);
	return r;
}

static int draft_flush(const struct store_dir *d, struct draft *f)
{
	int r;

	if (!d->sync)
		return 0;
	r = store_dir_ask("flush");
	if (r < 0)
		return r;
	return fsync(f->fd) < 0 ? -errno : 0;
}

static int draft_link(const struct draft *f)
{
	char self[64];
	int r = store_dir_ask("link");

	if (r < 0)
		return r;
	if (*f->temp)
		return linkat(f->temp_folder, f->temp, f->folder, f->last, 0) < 0 ? -errno : 0;
	/* AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", f->fd);
	return linkat(AT_FDCWD, self, f->folder, f->last, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* Is the object that is there this very file? NFS says so when the first answer was lost on the way. */
static bool draft_linked(const struct draft *f)
{
	struct stat mine, there;

	return fstat(f->fd, &mine) == 0 &&
	       fstatat(f->folder, f->last, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

static int draft_name(struct draft *f)
{
	int r = draft_link(f);

	if (r == -EEXIST && draft_linked(f))
		return 0;
	/* FAT and some of FUSE know no links */
	if (!*f->temp || (r != -EPERM && r != -EOPNOTSUPP && r != -ENOSYS))
		return r;
	r = store_dir_ask("rename");
	if (r < 0)
		return r;
	if (renameat2(f->temp_folder, f->temp, f->folder, f->last, RENAME_NOREPLACE) < 0)
		return -errno;
	*f->temp = '\0';
	return 0;
}

/* Steps 4 … 6. -EEXIST: somebody was faster. */
static int store_dir_place(const struct store_dir *d, struct draft *f, const char *name,
			   struct err *e)
{
	int r = draft_flush(d, f);

	if (r < 0)
		return store_dir_fail(d, r, "flush", name, e);
	r = draft_name(f);
	if (r == -EINVAL || r == -ENOSYS) {
		return err_set(e, -EOPNOTSUPP,
			       "the file system of %s can neither link nor rename without "
			       "replacing: keep the repository on another",
			       d->path);
	}
	if (r < 0 && r != -EEXIST)
		return store_dir_fail(d, r, "give its name to", name, e);
	draft_unlink(f);
	return r;
}

/* Steps 2 and 3. */
static int store_dir_write(const struct store_dir *d, struct draft *f, const char *name,
			   const struct iovec *parts, size_t n, struct err *e)
{
	int r = draft_create(d, f);

	if (r < 0)
		return store_dir_fail(d, r, "create", name, e);
	r = draft_write(f, parts, n);
	return r < 0 ? store_dir_fail(d, r, "write", name, e) : 0;
}

/* After step 6, and when an object of this name is there already: @made is -EEXIST then. */
static int store_dir_settle(const struct store_dir *d, const struct draft *f, int made,
			    const char *name, struct err *e)
{
	uint64_t size;
	int r = made == -EEXIST ? folder_size(f->folder, f->last, &size) : 0;

	if (r < 0)
		return store_dir_fail(d, r, "look at", name, e);
	r = folder_settle(d, name);
	if (r < 0)
		return store_dir_fail(d, r, "flush the folder of", name, e);
	return made < 0 ? err_set(e, made, "%s/%s exists already", d->path, name) : 0;
}

/* @f becomes the object @name; one that has no file yet is written first, of these parts. */
static int store_dir_finish(const struct store_dir *d, struct draft *f, const char *name,
			    const struct iovec *parts, size_t n, struct err *e)
{
	int made = -EEXIST;

	close_fd(f->folder);
	f->folder = folder_open(d, name, true, &f->last);
	if (f->folder < 0)
		return store_dir_fail(d, f->folder, "make the folder of", name, e);
	/* what is there already need not be written to find that out */
	if (faccessat(f->folder, f->last, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
		made = f->fd < 0 ? store_dir_write(d, f, name, parts, n, e) : 0;
		if (made == 0)
			made = store_dir_place(d, f, name, e);
		if (made < 0 && made != -EEXIST)
			return made;
	}
	return store_dir_settle(d, f, made, name, e);
}

static int store_dir_put(struct store *s, const char *name, const struct iovec *parts, size_t n,
			 struct err *e)
{
	_cleanup_(draft_done) struct draft f = DRAFT_NONE;

	return store_dir_finish(store_dir_of(s), &f, name, parts, n, e);
}

/* ---- drafts ------------------------------------------------------------------------------------------------------ */

struct store_dir_draft {
	struct store_draft base;
	const struct store_dir *dir;
	struct draft file;
	char folder[]; /* for words */
};

static struct store_dir_draft *store_dir_draft_of(struct store_draft *d)
{
	return (struct store_dir_draft *)d;
}

static int store_dir_draft_add(struct store_draft *d, const struct iovec *parts, size_t n,
			       struct err *e)
{
	struct store_dir_draft *m = store_dir_draft_of(d);
	int r = draft_write(&m->file, parts, n);

	return r < 0 ? store_dir_fail(m->dir, r, "write", m->folder, e) : 0;
}

static int store_dir_draft_put(struct store_draft *d, const char *name, struct err *e)
{
	struct store_dir_draft *m = store_dir_draft_of(d);

	return store_dir_finish(m->dir, &m->file, name, NULL, 0, e);
}

static void store_dir_draft_free(struct store_draft *d)
{
	draft_done(&store_dir_draft_of(d)->file);
	free(d);
}

static const struct store_draft_ops store_dir_draft_ops = {
	.add = store_dir_draft_add,
	.put = store_dir_draft_put,
	.free = store_dir_draft_free,
};

static int store_dir_draft(struct store *s, const char *folder, struct store_draft **ret,
			   struct err *e)
{
	const struct store_dir *d = store_dir_of(s);
	struct store_dir_draft *m = calloc(1, sizeof(*m) + strlen(folder) + 1);
	int r;

	if (!m)
		return err_oom(e);
	m->base.ops = &store_dir_draft_ops;
	m->dir = d;
	m->file = DRAFT_NONE;
	memcpy(m->folder, folder, strlen(folder) + 1);
	m->file.folder = folder_open(d, folder, true, &m->file.last);
	r = m->file.folder < 0 ? m->file.folder : draft_create(d, &m->file);
	if (r < 0) {
		r = store_dir_fail(d, r, "create an object in", folder, e);
		store_dir_draft_free(&m->base);
		return r;
	}
	*ret = &m->base;
	return 0;
}

/* ---- the others --------------------------------------------------------------------------------------------------- */

static int store_dir_get(struct store *s, const char *name, uint64_t offset, void *buf, size_t len,
			 struct err *e)
{
	const struct store_dir *d = store_dir_of(s);
	const char *last;
	_cleanup_close_ int folder = folder_open(d, name, false, &last), fd = -EBADF;
	struct stat st;
	uint64_t size;
	int r;

	if (folder < 0)
		return store_dir_fail(d, folder, "read", name, e);
	/* a pipe that somebody put there must not block */
	fd = openat(folder, last, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return store_dir_fail(d, -errno, "read", name, e);
	if (!S_ISREG(st.st_mode))
		return store_dir_fail(d, -EISDIR, "read", name, e);
	size = (uint64_t)st.st_size;
	r = offset > size || len > size - offset ? -ENODATA : io_pread_all(fd, buf, len, offset);
	if (r == -ENODATA)
		return err_set(e, r, "%s/%s is shorter than it should be", d->path, name);
	return r < 0 ? store_dir_fail(d, r, "read", name, e) : 0;
}

static int store_dir_time(struct store *s, const char *name, uint64_t *ret_ns, struct err *e)
{
	const struct store_dir *d = store_dir_of(s);
	const char *last;
	_cleanup_close_ int folder = folder_open(d, name, false, &last);
	struct stat st;
	int r = folder < 0 ? folder : 0;

	/* it was written once: of a file server this is that one's time */
	if (r >= 0 && fstatat(folder, last, &st, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r < 0)
		return store_dir_fail(d, r, "look at", name, e);
	if (st.st_mtim.tv_sec <= 0)
		return err_set(e, -ENOTSUP, "the file system does not say when %s was put", name);
	*ret_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
	return 0;
}

static int store_dir_size(struct store *s, const char *name, uint64_t *ret, struct err *e)
{
	const struct store_dir *d = store_dir_of(s);
	const char *last;
	_cleanup_close_ int folder = folder_open(d, name, false, &last);
	int r = folder < 0 ? folder : folder_size(folder, last, ret);

	return r < 0 ? store_dir_fail(d, r, "look at", name, e) : 0;
}

struct listing {
	const struct store_dir *d;
	store_list_fn fn;
	void *ctx;
	struct err *e;
};

static int listing_folder(const struct listing *l, int fd, const char *prefix);

/* An entry of the folder @fd. What is no object and no folder, and what is gone by now, is passed over. */
static int listing_entry(const struct listing *l, int fd, const char *prefix,
			 const struct dirent *entry)
{
	char name[STORE_NAME_MAX + sizeof(entry->d_name) + 2];
	struct stat st;
	int below;

	snprintf(name, sizeof(name), "%s%s", prefix, entry->d_name);
	if (!store_name_valid(name))
		return 0;
	if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return errno == ENOENT ? 0 : store_dir_fail(l->d, -errno, "look at", name, l->e);
	}
	if (S_ISREG(st.st_mode))
		return l->fn(l->ctx, name, (uint64_t)st.st_size);
	if (!S_ISDIR(st.st_mode) || strlen(name) >= STORE_NAME_MAX)
		return 0;
	below = folder_at(fd, entry->d_name);
	if (below < 0)
		return below == -ENOENT ? 0 : store_dir_fail(l->d, below, "list", name, l->e);
	snprintf(name, sizeof(name), "%s%s/", prefix, entry->d_name);
	return listing_folder(l, below, name);
}

/* Takes @fd over. */
static int listing_folder(const struct listing *l, int fd, const char *prefix)
{
	_cleanup_close_ int own = fd;
	_cleanup_dir_ DIR *dir = fdopendir(own);
	int r;

	if (!dir)
		return store_dir_fail(l->d, -errno, "list", prefix, l->e);
	TAKE_FD(own);
	for (;;) {
		const struct dirent *entry;

		errno = 0;
		/* thread-safe for a stream of one's own */
		entry = readdir(dir); /* NOLINT(concurrency-mt-unsafe) */
		if (!entry)
			break;
		r = listing_entry(l, dirfd(dir), prefix, entry);
		if (r < 0)
			return r;
	}
	r = errno > 0 ? -errno : folder_flush(l->d, dirfd(dir));
	return r < 0 ? store_dir_fail(l->d, r, "list", prefix, l->e) : 0;
}

static int store_dir_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx,
			  struct err *e)
{
	const struct store_dir *d = store_dir_of(s);
	const struct listing l = { d, fn, ctx, e };
	const char *last;
	int fd = folder_open(d, prefix, false, &last), r;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return store_dir_fail(d, fd, "list", prefix, e);
	r = listing_folder(&l, fd, prefix);
	if (r < 0)
		return r;
	r = folder_settle(d, prefix);
	return r < 0 ? store_dir_fail(d, r, "flush", prefix, e) : 0;
}

static int store_dir_del(struct store *s, const char *name, struct err *e)
{
	const struct store_dir *d = store_dir_of(s);
	const char *last;
	_cleanup_close_ int folder = folder_open(d, name, false, &last);
	int r;

	if (folder == -ENOENT)
		return 0;
	r = folder < 0 ? folder : store_dir_ask("delete");
	if (r == 0 && unlinkat(folder, last, 0) < 0 && errno != ENOENT)
		r = -errno;
	/* also what another one deleted */
	if (r >= 0)
		r = folder_flush(d, folder);
	return r < 0 ? store_dir_fail(d, r, "delete", name, e) : 0;
}

static void store_dir_free(struct store *s)
{
	struct store_dir *d = store_dir_of(s);

	close_fd(d->fd);
	free(d);
}

static const struct store_ops store_dir_ops = {
	.put = store_dir_put,
	.get = store_dir_get,
	.size = store_dir_size,
	.list = store_dir_list,
	.del = store_dir_del,
	.free = store_dir_free,
	.time = store_dir_time,
	.draft = store_dir_draft,
};

int store_dir_open(const char *path, bool sync, struct store **ret, struct err *e)
{
	struct store_dir *d = calloc(1, sizeof(*d) + strlen(path) + 1);
	int r;

	if (!d)
		return err_oom(e);
	memcpy(d->path, path, strlen(path) + 1);
	d->base.ops = &store_dir_ops;
	d->sync = sync;
	d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0) {
		r = err_set_errno(e, -errno, "cannot open the directory %s", path);
		store_dir_free(&d->base);
		return r;
	}
	*ret = &d->base;
	return 0;
}

int store_dir_clean(struct store *s, uint64_t age_s, struct err *e)
{
	const struct store_dir *d = store_dir_of(s);
	_cleanup_dir_ DIR *dir = NULL;
	const struct dirent *entry;
	const char *last;
	int64_t now = time(NULL);
	int fd;

	if (s->ops != &store_dir_ops)
		return 0;
	fd = folder_open(d, TEMP_FOLDER "/", false, &last);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return store_dir_fail(d, fd, "list", TEMP_FOLDER, e);
	dir = fdopendir(fd);
	if (!dir) {
		close_fd(fd);
		return store_dir_fail(d, -errno, "list", TEMP_FOLDER, e);
	}
	/* readdir() is thread-safe for a stream of one's own */
	while ((entry = readdir(dir))) { /* NOLINT(concurrency-mt-unsafe) */
		struct stat st;

		if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode) && st.st_mtime <= now &&
		    (uint64_t)(now - st.st_mtime) >= age_s)
			unlinkat(fd, entry->d_name, 0);
	}
	return 0;
}
