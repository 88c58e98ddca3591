/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/file_unsealer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/io.h"
#include "lib/repo/sealed_reader.h"

/* Of the pipe, and what is copied at once. */
#define UNSEALER_PIPE_SIZE (1 << 20)

/* As many as there are, up to @len: fewer only at the end. */
static ssize_t unsealer_read(const struct file_unsealer *u, void *buf, size_t len, struct err *e)
{
	size_t got = 0;

	while (got < len) {
		int r = cancel_wait_fd(u->cancel, u->from, POLLIN);
		ssize_t n = r < 0 ? 0 : read(u->from, (uint8_t *)buf + got, len - got);

		if (r == -ECANCELED)
			return err_set(e, r, "interrupted");
		if (r == 0 && n < 0)
			r = -errno;
		if (r < 0 && r != -EINTR && r != -EAGAIN)
			return err_set_errno(e, r, "cannot read the image");
		if (r == 0 && !n)
			break;
		got += r < 0 ? 0 : (size_t)n;
	}
	return (ssize_t)got;
}

/* ---- the thread --------------------------------------------------------------------------------- */

/* Who reads may have had enough: it says why itself. */
static int unsealer_write(const struct file_unsealer *u, const void *buf, size_t len)
{
	return io_write_all(u->out, buf, len);
}

static int unsealer_copy(struct file_unsealer *u, uint8_t *buffer, struct err *e)
{
	ssize_t n;

	if (unsealer_write(u, u->start, u->start_len) < 0)
		return -EPIPE;
	for (;;) {
		n = unsealer_read(u, buffer, UNSEALER_PIPE_SIZE, e);
		if (n <= 0)
			return (int)n;
		if (unsealer_write(u, buffer, (size_t)n) < 0)
			return -EPIPE;
	}
}

/* Segment @number of @len stored bytes, into ->plain. */
static int unsealer_open(const struct file_unsealer *u, uint64_t number, bool final,
			 const uint8_t *sealed, size_t len, struct err *e)
{
	if (len == SEALED_EXTRA && number)
		return err_set(e, -EBADMSG, "the encrypted image was cut off");
	if (sealed_segment_open(u->head, number, final, sealed, len, u->plain) == 0)
		return 0;
	if (final && sealed_segment_open(u->head, number, false, sealed, len, u->plain) == 0) {
		return err_set(e, -EBADMSG,
			       "the encrypted image was cut off after its segment %" PRIu64,
			       number);
	}
	return err_set(e, -EBADMSG,
		       "the encrypted image is damaged, was changed, or was cut off, in its "
		       "segment %" PRIu64,
		       number);
}

/* One byte more than a segment has is read, to know whether it is the last. @buffer: that, and a plain one behind it. */
static int unsealer_segments(struct file_unsealer *u, uint8_t *buffer, struct err *e)
{
	const size_t stored = ((size_t)1 << u->head->shift) + SEALED_EXTRA;
	size_t have = 0;

	u->plain = buffer + stored + 1;
	for (uint64_t number = 0;; number++) {
		ssize_t n = unsealer_read(u, buffer + have, stored + 1 - have, e);
		size_t len;
		int r;

		if (n < 0)
			return (int)n;
		have += (size_t)n;
		len = MIN(have, stored);
		r = unsealer_open(u, number, have <= stored, buffer, len, e);
		if (r < 0)
			return r;
		if (unsealer_write(u, u->plain, len - SEALED_EXTRA) < 0)
			return -EPIPE;
		if (have <= stored)
			return 0;
		buffer[0] = buffer[stored];
		have = 1;
	}
}

static void *unsealer_run(void *ctx)
{
	struct file_unsealer *u = ctx;
	const size_t size = u->head ? ((size_t)2 << u->head->shift) + SEALED_EXTRA + 1
				    : UNSEALER_PIPE_SIZE;
	_cleanup_free_ uint8_t *buffer = malloc(size);

	if (!buffer) {
		err_oom(&u->err);
	} else if (u->head) {
		unsealer_segments(u, buffer, &u->err);
	} else {
		unsealer_copy(u, buffer, &u->err);
	}
	u->out = close_fd(u->out);
	return NULL;
}

/* ---- beginning and end -------------------------------------------------------------------------- */

/* The head from a pipe, or from a file at its beginning. 1: encrypted, 0: not. */
static int unsealer_head(struct file_unsealer *u, struct err *e)
{
	uint8_t bytes[SEALED_HEAD_MAX];
	size_t len = 0;
	ssize_t n;
	int r;

	n = unsealer_read(u, u->start, sizeof(u->start), e);
	if (n < 0)
		return (int)n;
	u->start_len = (size_t)n;
	if (!sealed_head_probe(u->start, u->start_len))
		return 0;
	r = sealed_head_length(u->start, &len, e);
	if (r < 0)
		return r;
	memcpy(bytes, u->start, sizeof(u->start));
	n = unsealer_read(u, bytes + sizeof(u->start), len - sizeof(u->start), e);
	if (n < 0)
		return (int)n;
	r = sealed_head_parse(bytes, sizeof(u->start) + (size_t)n, &u->head, e);
	return r < 0 ? r : 1;
}

static int unsealer_start(struct file_unsealer *u, struct err *e)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set_errno(e, -errno, "cannot make a pipe");
	u->fd = fds[0];
	u->out = fds[1];
	fcntl(u->out, F_SETPIPE_SZ, UNSEALER_PIPE_SIZE);
	r = -pthread_create(&u->thread, NULL, unsealer_run, u);
	if (r < 0)
		return err_set_errno(e, r, "cannot start a thread");
	u->running = true;
	return 0;
}

/* Can it be looked at without being used up? Then 1 when it is not encrypted, and needs nothing more. */
static int unsealer_is_plain_file(int fd, struct err *e)
{
	_cleanup_(sealed_head_freep) struct sealed_head *head = NULL;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || lseek(fd, 0, SEEK_CUR) != 0)
		return 0;
	r = sealed_reader_head(fd, &head, e);
	return r < 0 ? r : !r;
}

int file_unsealer_begin(struct file_unsealer *u, int from, const char *what,
			const struct key_source *keys, struct cancel *cancel, struct err *e)
{
	int r;

	*u = (struct file_unsealer){ .fd = from, .from = from, .out = -EBADF, .cancel = cancel };
	r = unsealer_is_plain_file(from, e);
	if (r != 0)
		return r < 0 ? r : 0;
	r = unsealer_head(u, e);
	if (r > 0)
		r = key_source_unlock_file(keys, what, u->head, e);
	return r < 0 ? r : unsealer_start(u, e);
}

static void unsealer_join(struct file_unsealer *u)
{
	if (u->running)
		pthread_join(u->thread, NULL);
	u->running = false;
}

/* Whether the thread waits for more to read, or for room to write. */
static void unsealer_stop(struct file_unsealer *u)
{
	if (u->fd != u->from)
		u->fd = close_fd(u->fd);
	if (u->running && u->cancel)
		cancel_raise(u->cancel);
	unsealer_join(u);
}

int file_unsealer_finish(struct file_unsealer *u, struct err *e)
{
	unsealer_join(u);
	return u->err.code ? err_set(e, u->err.code, "%s", u->err.text) : 0;
}

bool file_unsealer_failed(struct file_unsealer *u, struct err *e)
{
	unsealer_stop(u);
	if (!u->err.code || u->err.code == -ECANCELED)
		return false;
	err_set(e, u->err.code, "%s", u->err.text);
	return true;
}

void file_unsealer_done(struct file_unsealer *u)
{
	unsealer_stop(u);
	u->out = close_fd(u->out);
	sealed_head_free(u->head);
	u->head = NULL;
}
