/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/run_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"

/* A running one. */
struct child {
	pid_t pid;
	int out, err; /* we read; -EBADF once at their ends */
	int signals;  /* signalfd */
	char *output;
	size_t len;
	char line[ERR_TEXT_MAX]; /* of stderr, so far */
	size_t line_len;
	struct run_child_end *end;
};

static void child_done(struct child *c)
{
	c->out = close_fd(c->out);
	c->err = close_fd(c->err);
	c->signals = close_fd(c->signals);
	free(c->output);
	c->output = NULL;
}

void run_child_end_done(struct run_child_end *end)
{
	free(end->output);
	*end = (struct run_child_end){ 0 };
}

/* ---- starting ----------------------------------------------------------------------------------- */

static int child_spawn(struct child *c, char **argv, int out, int err)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t set;
	int r;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
	posix_spawnattr_init(&attr);
	sigemptyset(&set);
	posix_spawnattr_setsigmask(&attr, &set);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = -posix_spawn(&c->pid, "/proc/self/exe", &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return r;
}

static int child_start(struct child *c, const char *socket, const struct run_words *w,
		       struct err *e)
{
	_cleanup_free_ char **argv = calloc(w->n + 4, sizeof(*argv));
	int out[2] = { -EBADF, -EBADF }, err[2] = { -EBADF, -EBADF };
	sigset_t set;
	int r;

	if (!argv)
		return err_oom(e);
	argv[0] = (char *)"ambroctl";
	argv[1] = (char *)"--socket";
	argv[2] = (char *)socket;
	memcpy(argv + 3, w->words, w->n * sizeof(*argv));
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	c->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r = c->signals < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 ? -errno : 0;
	c->out = out[0];
	c->err = err[0];
	if (r == 0)
		r = child_spawn(c, argv, out[1], err[1]);
	close_fd(out[1]);
	close_fd(err[1]);
	return r < 0 ? err_set_errno(e, r, "cannot run ambroctl %s", w->words[0]) : 0;
}

/* ---- listening ---------------------------------------------------------------------------------- */

static int child_keep_output(struct child *c, const char *buf, size_t n)
{
	char *more = c->len + n > RUN_CHILD_OUTPUT_MAX ? NULL : realloc(c->output, c->len + n + 1);

	if (!more)
		return -ENOMEM;
	c->output = more;
	memcpy(more + c->len, buf, n);
	c->len += n;
	more[c->len] = '\0';
	return 0;
}

/* Passed on as it comes; the last line that is whole is kept. */
static void child_hear_error(struct child *c, const char *buf, size_t n)
{
	(void)io_write_all(STDERR_FILENO, buf, n);
	for (size_t i = 0; i < n; i++) {
		if (buf[i] != '\n') {
			if (c->line_len < sizeof(c->line) - 1)
				c->line[c->line_len++] = buf[i];
			continue;
		}
		c->line[c->line_len] = '\0';
		if (c->line_len)
			memcpy(c->end->error, c->line, c->line_len + 1);
		c->line_len = 0;
	}
}

/* One read of @fd, which is closed at its end. */
static int child_hear(struct child *c, int *fd)
{
	char buf[4096];
	ssize_t n = read(*fd, buf, sizeof(buf));

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (n == 0) {
		*fd = close_fd(*fd);
		return 0;
	}
	if (fd == &c->out)
		return child_keep_output(c, buf, (size_t)n);
	child_hear_error(c, buf, (size_t)n);
	return 0;
}

static void child_pass_signal(struct child *c)
{
	struct signalfd_siginfo si;

	if (read(c->signals, &si, sizeof(si)) != sizeof(si))
		return;
	c->end->interrupted = true;
	/* what a terminal sends has come to both of us: twice would mean "do not even wait" */
	if (si.ssi_code != SI_KERNEL)
		kill(c->pid, (int)si.ssi_signo);
}

static int child_listen(struct child *c)
{
	int r = 0;

	while (r >= 0 && (c->out >= 0 || c->err >= 0)) {
		struct pollfd fds[] = { { .fd = c->out, .events = POLLIN },
					{ .fd = c->err, .events = POLLIN },
					{ .fd = c->signals, .events = POLLIN } };

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
			r = errno == EINTR ? 0 : -errno;
			continue;
		}
		if (fds[2].revents)
			child_pass_signal(c);
		if (fds[0].revents)
			r = child_hear(c, &c->out);
		if (fds[1].revents && r >= 0)
			r = child_hear(c, &c->err);
	}
	return r;
}

int run_child(const char *socket, const struct run_words *w, struct run_child_end *ret,
	      struct err *e)
{
	_cleanup_(child_done) struct child c = {
		.out = -EBADF, .err = -EBADF, .signals = -EBADF, .end = ret
	};
	int r, status;

	*ret = (struct run_child_end){ 0 };
	r = child_start(&c, socket, w, e);
	if (r < 0)
		return r;
	r = child_listen(&c);
	/* nobody listens to it any more */
	if (r < 0)
		kill(c.pid, SIGTERM);
	while (waitpid(c.pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return err_set_errno(e, r, "cannot hear what ambroctl %s says", w->words[0]);
	ret->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	ret->output = TAKE_PTR(c.output);
	return 0;
}
