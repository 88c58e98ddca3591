/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/file_sealer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/io.h"

/* Of the pipe, and what is read at once. Less where an unprivileged user may not have so much. */
#define SEALER_PIPE_SIZE (1 << 20)
/* How often it is asked for signals while the rest is written. */
#define SEALER_LOOK_S 1

/* ---- where it goes ------------------------------------------------------------------------------ */

/* A pipe is opened again, to have flags of our own: whoever waits for its reader must still hear that it shall end. */
static int sealer_open(struct file_sealer *s, int fd, struct err *e)
{
	char path[32];
	struct stat st;

	s->fd = fd;
	if (fstat(fd, &st) < 0)
		return err_set_errno(e, -errno, "the output");
	s->waits = S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode);
	if (!S_ISFIFO(st.st_mode))
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	s->fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (s->fd < 0)
		return err_set_errno(e, -errno, "cannot open the output pipe");
	s->owned = true;
	return 0;
}

static ssize_t sealer_some(const struct file_sealer *s, const void *buf, size_t len)
{
	ssize_t n = send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == ENOTSOCK)
		n = write(s->fd, buf, len);
	return n < 0 ? -errno : n;
}

static int sealer_write(void *ctx, const void *buf, size_t len)
{
	const struct file_sealer *s = ctx;
	const char *at = buf;

	if (!s->waits)
		return io_write_all(s->fd, buf, len);
	while (len) {
		ssize_t n = sealer_some(s, at, len);

		if (n == -EAGAIN) {
			int r = cancel_wait_fd(&s->cancel, s->fd, POLLOUT);

			if (r < 0)
				return r;
		} else if (n >= 0) {
			at += n;
			len -= (size_t)n;
		} else if (n != -EINTR) {
			return (int)n;
		}
	}
	return 0;
}

/* ---- the thread --------------------------------------------------------------------------------- */

/* Until the pipe's end. */
static int sealer_copy(struct file_sealer *s, uint8_t *buffer)
{
	for (;;) {
		int r = cancel_wait_fd(&s->cancel, s->in, POLLIN);
		ssize_t n;

		if (r < 0)
			return r;
		n = read(s->in, buffer, SEALER_PIPE_SIZE);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		r = n < 0 ? 0 : sealed_writer_write(s->writer, buffer, (size_t)n);
		if (r < 0)
			return r;
	}
}

static void *sealer_run(void *ctx)
{
	struct file_sealer *s = ctx;
	_cleanup_free_ uint8_t *buffer = malloc(SEALER_PIPE_SIZE);

	s->result = buffer ? sealer_copy(s, buffer) : -ENOMEM;
	/* the agent must not wait for a reader that is gone */
	s->in = close_fd(s->in);
	while (sem_wait(&s->decided) < 0)
		;
	if (s->result == 0)
		s->result = s->whole ? sealed_writer_finish(s->writer) : -ECANCELED;
	return NULL;
}

int file_sealer_begin(struct file_sealer *s, int fd, struct sealed_head *head, struct err *e)
{
	_cleanup_(sealed_head_freep) struct sealed_head *owned = head;
	const struct image_sink sink = { sealer_write, s };
	int fds[2], r;

	*s = (struct file_sealer){ .in = -EBADF, .out = -EBADF, .fd = -EBADF };
	r = cancel_init(&s->cancel);
	if (r < 0)
		return err_set_errno(e, r, "cannot make an eventfd");
	sem_init(&s->decided, 0, 0);
	if (sealed_writer_new(TAKE_PTR(owned), &sink, &s->writer) < 0) {
		sem_destroy(&s->decided);
		cancel_done(&s->cancel);
		return err_oom(e);
	}
	r = sealer_open(s, fd, e);
	if (r < 0)
		return r;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set_errno(e, -errno, "cannot make a pipe");
	s->in = fds[0];
	s->out = fds[1];
	fcntl(s->out, F_SETPIPE_SZ, SEALER_PIPE_SIZE);
	r = -pthread_create(&s->thread, NULL, sealer_run, s);
	if (r < 0)
		return err_set_errno(e, r, "cannot start a thread");
	s->running = true;
	return 0;
}

void file_sealer_handed_over(struct file_sealer *s)
{
	if (s->writer)
		s->out = close_fd(s->out);
}

/* The agent has ended, and @whole is how. */
static void sealer_decide(struct file_sealer *s, bool whole)
{
	s->whole = whole;
	sem_post(&s->decided);
	if (!whole)
		cancel_raise(&s->cancel);
}

static void sealer_join(struct file_sealer *s)
{
	if (s->running)
		pthread_join(s->thread, NULL);
	s->running = false;
}

/* The same, but a signal, which nobody else waits for any more, ends it: whoever reads a pipe may never do so. */
static void sealer_join_or_signal(struct file_sealer *s)
{
	const struct timespec now = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	while (s->running) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += SEALER_LOOK_S;
		if (pthread_timedjoin_np(s->thread, NULL, &until) == 0) {
			s->running = false;
		} else if (sigtimedwait(&set, NULL, &now) > 0) {
			cancel_raise(&s->cancel);
		}
	}
}

int file_sealer_finish(struct file_sealer *s, uint64_t *ret_bytes, struct err *e)
{
	sealer_decide(s, true);
	sealer_join_or_signal(s);
	if (s->result == -ECANCELED)
		return err_set(e, -ECANCELED, "interrupted; nothing was left behind");
	if (s->result < 0)
		return err_set_errno(e, s->result, "cannot write the encrypted image");
	*ret_bytes = sealed_writer_bytes(s->writer);
	return 0;
}

bool file_sealer_failed(struct file_sealer *s, struct err *e)
{
	sealer_decide(s, false);
	sealer_join(s);
	/* one whose end is not there because of the agent is no failure of ours */
	if (s->result == 0 || s->result == -ECANCELED)
		return false;
	err_set_errno(e, s->result, "cannot write the encrypted image");
	return true;
}

void file_sealer_done(struct file_sealer *s)
{
	if (!s->writer)
		return;
	sealer_decide(s, false);
	close_fd(s->out);
	sealer_join(s);
	close_fd(s->in);
	if (s->owned)
		close_fd(s->fd);
	sealed_writer_free(s->writer);
	sem_destroy(&s->decided);
	cancel_done(&s->cancel);
	*s = (struct file_sealer){ 0 };
}
