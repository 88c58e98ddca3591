/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"

int output_open(struct output *o, int fd, struct cancel *cancel, atomic_uint_fast64_t *written,
		struct err *e)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	*o = (struct output){ .fd = fd, .cancel = cancel, .written = written };
	if (flags < 0 || fstat(fd, &st) < 0)
		return err_set_errno(e, -errno, "the output descriptor is not usable");
	if ((flags & O_ACCMODE) == O_RDONLY)
		return err_set(e, -EBADF, "the output descriptor is not open for writing");
	o->waits = S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode);
	if (S_ISFIFO(st.st_mode)) {
		char path[32];

		/* opening the pipe again makes an open file of our own, with flags of our own */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		o->fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		if (o->fd < 0)
			return err_set_errno(e, -errno, "cannot open the output pipe");
		o->owned = true;
	}
	return 0;
}

void output_close(struct output *o)
{
	if (o->owned)
		close_fd(o->fd);
	*o = (struct output){ .fd = -EBADF };
}

static ssize_t output_some(const struct output *o, const void *buf, size_t len)
{
	ssize_t n = send(o->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == ENOTSOCK)
		n = write(o->fd, buf, len);
	return n < 0 ? -errno : n;
}

static int output_write(void *ctx, const void *buf, size_t len)
{
	struct output *o = ctx;
	const char *at = buf;

	if (cancel_raised(o->cancel) || throttle_take(&o->limit, len, o->cancel) < 0)
		return -ECANCELED;
	if (!o->waits) {
		int r = io_write_all(o->fd, buf, len);

		if (r >= 0)
			atomic_fetch_add(o->written, len);
		return r;
	}
	while (len > 0) {
		ssize_t n = output_some(o, at, len);

		if (n == -EAGAIN) {
			int r = cancel_wait_fd(o->cancel, o->fd, POLLOUT);

			if (r < 0)
				return r;
			continue;
		}
		if (n < 0 && n != -EINTR)
			return (int)n;
		if (n > 0) {
			atomic_fetch_add(o->written, (size_t)n);
			at += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

struct image_sink output_sink(struct output *o)
{
	return (struct image_sink){ .write = output_write, .ctx = o };
}
