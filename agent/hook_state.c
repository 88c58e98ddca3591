/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/hook_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/run_dir.h"
#include "lib/base/io.h"

/* Files that another one's clean-up takes away before we have locked them. */
#define TRIES 10u
/* Larger than any that we write. */
#define STATE_MAX  (1u << 20)
#define PID_DIGITS 10

/* Has it a name still, or did somebody take it for an abandoned one? */
static bool hook_state_named(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_nlink > 0;
}

static int hook_state_begin(const struct hook_set *set, int fd)
{
	_cleanup_free_ char *text = NULL;
	int n = asprintf(&text, "d%s%ct%u%cj%" PRIu64 "%cs%s%cm%s%c", set->dir, 0, set->timeout_ms,
			 0, set->job, 0, set->source, 0, set->mounts, 0);

	return n < 0 ? -ENOMEM : io_write_all(fd, text, (size_t)n);
}

int hook_state_new(const struct hook_set *set, struct hook_state *ret, struct err *e)
{
	int r;

	mkdir(RUN_DIR, 0755);
	for (unsigned int i = 0; i < TRIES; i++) {
		snprintf(ret->path, sizeof(ret->path),
			 RUN_DIR "/" HOOK_STATE_PREFIX "%" PRIu64 "-XXXXXX", set->job);
		ret->fd = mkostemp(ret->path, O_CLOEXEC | O_APPEND);
		if (ret->fd < 0) {
			return err_set_errno(e, -errno, "cannot note in %s which hooks are frozen",
					     RUN_DIR);
		}
		if (flock(ret->fd, LOCK_EX | LOCK_NB) == 0 && hook_state_named(ret->fd)) {
			r = hook_state_begin(set, ret->fd);
			if (r < 0)
				hook_state_remove(ret);
			return r < 0 ? err_set_errno(e, r, "%s", ret->path) : 0;
		}
		ret->fd = close_fd(ret->fd);
	}
	return err_set(e, -EBUSY, "cannot keep a file in %s", RUN_DIR);
}

int hook_state_take(const char *path, bool wait, struct hook_state *ret, struct err *e)
{
	_cleanup_close_ int fd =
		open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return errno == ENOENT ? 0 : err_set_errno(e, -errno, "%s", path);
	if (flock(fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? 0 : err_set_errno(e, -errno, "%s", path);
	if (!hook_state_named(fd))
		return 0;
	snprintf(ret->path, sizeof(ret->path), "%s", path);
	ret->fd = TAKE_FD(fd);
	return 1;
}

void hook_state_remove(struct hook_state *s)
{
	if (s->fd >= 0)
		unlink(s->path);
	hook_state_close(s);
}

void hook_state_close(struct hook_state *s)
{
	s->fd = close_fd(s->fd);
}

/* The last freeze of that name that is being thawed, or not. -1: there is none. */
static ssize_t hook_notes_find(const struct hook_notes *n, const char *name, bool thawing)
{
	for (size_t i = n->count; i > 0; i--) {
		const struct hook_frozen *f = &n->frozen[i - 1];

		if (!f->thawing == !thawing && !strcmp(f->name, name))
			return (ssize_t)i - 1;
	}
	return -1;
}

static void hook_notes_drop(struct hook_notes *n, size_t i)
{
	n->count--;
	memmove(&n->frozen[i], &n->frozen[i + 1], (n->count - i) * sizeof(*n->frozen));
}

/* @pid: who does it; 0: nobody knows, and it counts as thawed. */
static void hook_notes_thaw(struct hook_notes *n, const char *name, pid_t pid)
{
	const ssize_t i = hook_notes_find(n, name, false);

	if (i < 0)
		return;
	if (pid) {
		n->frozen[i].thawing = pid;
	} else {
		hook_notes_drop(n, (size_t)i);
	}
}

static void hook_notes_thawed(struct hook_notes *n, const char *name)
{
	const ssize_t i = hook_notes_find(n, name, true);

	if (i >= 0)
		hook_notes_drop(n, (size_t)i);
}

/* It leads a process group of its own, as few others do that might have got its number since. A zombie does nothing any more. */
static bool hook_runs(pid_t pid)
{
	char path[32], text[512];
	const char *at;
	char *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (io_read_line(path, text, sizeof(text)) < 0)
		return false;
	/* its name, in parentheses, may hold anything */
	at = strrchr(text, ')');
	/* ") S PARENT GROUP" */
	if (!at || strlen(at) < 4 || strchr("ZX", at[2]))
		return false;
	strtol(at + 3, &end, 10);
	return strtol(end, NULL, 10) == pid;
}

static void hook_notes_drop_running(struct hook_notes *n)
{
	for (size_t i = n->count; i > 0; i--) {
		if (n->frozen[i - 1].thawing && hook_runs(n->frozen[i - 1].thawing))
			hook_notes_drop(n, i - 1);
	}
}

/* @pid: of the last '@', for the '-' behind it. */
static void hook_notes_take(struct hook_notes *n, const char *record, pid_t *pid)
{
	const char *value = record + 1;

	switch (*record) {
	case 'd':
		n->set.dir = value;
		break;
	case 't':
		n->set.timeout_ms = (unsigned int)strtoul(value, NULL, 10);
		break;
	case 'j':
		n->set.job = strtoull(value, NULL, 10);
		break;
	case 's':
		n->set.source = value;
		break;
	case 'm':
		n->set.mounts = value;
		break;
	case '+':
		n->frozen[n->count++] = (struct hook_frozen){ .name = value };
		break;
	case '@':
		*pid = (pid_t)strtol(value, NULL, 10);
		break;
	case '-':
		hook_notes_thaw(n, value, *pid);
		*pid = 0;
		break;
	case '=':
		hook_notes_thawed(n, value);
		break;
	default:
		break;
	}
}

int hook_state_read(const struct hook_state *s, struct hook_notes *ret, struct err *e)
{
	uint64_t size;
	size_t records = 0;
	pid_t pid = 0;
	int r;

	*ret = (struct hook_notes){ .set = { .dir = "", .source = "", .mounts = "" } };
	r = io_size(s->fd, &size);
	if (r >= 0 && size > STATE_MAX)
		r = -EFBIG;
	if (r < 0)
		return err_set_errno(e, r, "%s", s->path);
	ret->text = calloc(1, size + 1);
	if (!ret->text)
		return err_oom(e);
	r = io_pread_all(s->fd, ret->text, size, 0);
	if (r < 0) {
		hook_notes_done(ret);
		return err_set_errno(e, r, "%s", s->path);
	}
	for (size_t i = 0; i < size; i++)
		records += !ret->text[i];
	ret->frozen = reallocarray(NULL, records + 1, sizeof(*ret->frozen));
	if (!ret->frozen) {
		hook_notes_done(ret);
		return err_oom(e);
	}
	/* a record without its end was never complete, and what it announces not begun */
	for (size_t at = 0; at < size && strlen(ret->text + at) + at < size;
	     at += strlen(ret->text + at) + 1)
		hook_notes_take(ret, ret->text + at, &pid);
	hook_notes_drop_running(ret);
	return 0;
}

void hook_notes_done(struct hook_notes *n)
{
	free(n->text);
	free(n->frozen);
	*n = (struct hook_notes){ 0 };
}

char *hook_state_note(enum hook_phase phase, const char *name, size_t *ret_len)
{
	char *note;
	int n = phase == HOOK_FREEZE ? asprintf(&note, "+%s", name)
				     : asprintf(&note, "@%0*d%c-%s", PID_DIGITS, 0, 0, name);

	if (n < 0)
		return NULL;
	*ret_len = (size_t)n + 1;
	return note;
}

void hook_state_sign(char *note, pid_t pid)
{
	if (*note != '@')
		return;
	for (size_t i = PID_DIGITS; i > 0; i--, pid /= 10)
		note[i] = (char)('0' + pid % 10);
}

int hook_state_thawed(int fd, const char *name)
{
	_cleanup_free_ char *text = NULL;
	const int n = asprintf(&text, "=%s", name);

	return n < 0 ? -ENOMEM : io_write_all(fd, text, (size_t)n + 1);
}
