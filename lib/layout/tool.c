/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"

#define TOOL_ANSWER_FD 3 /* TOOL_ANSWER_PATH says it, too */

/* The end of what it said on stderr, for messages. */
#define TOOL_WORDS_MAX 160

struct tool {
	pid_t pid;
	int pidfd, out, words; /* read ends; -EBADF once at their end */
	char *output;
	size_t len, allocated;
	char said[TOOL_WORDS_MAX];
	size_t n_said;
};

static void tool_done(struct tool *t)
{
	if (t->pid > 0) {
		kill(-t->pid, SIGKILL);
		waitpid(t->pid, NULL, 0);
	}
	close_fd(t->pidfd);
	close_fd(t->out);
	close_fd(t->words);
	free(t->output);
}

static int tool_find(const char *name, char *buf, size_t size)
{
	static const char *const folders[] = { "/usr/sbin", "/usr/bin", "/sbin", "/bin" };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(buf, size, "%s/%s", folders[i], name);
		if (access(buf, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

static int actions_fill(posix_spawn_file_actions_t *a, bool apart, int out, int words)
{
	int r;

	r = posix_spawn_file_actions_addopen(a, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (!r && apart)
		r = posix_spawn_file_actions_addopen(a, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	if (!r)
		r = posix_spawn_file_actions_adddup2(a, words, STDERR_FILENO);
	if (!r) {
		r = posix_spawn_file_actions_adddup2(a, out,
						     apart ? TOOL_ANSWER_FD : STDOUT_FILENO);
	}
	if (!r) {
		r = posix_spawn_file_actions_addclosefrom_np(a, apart ? TOOL_ANSWER_FD + 1
								      : TOOL_ANSWER_FD);
	}
	return -r;
}

static int attributes_fill(posix_spawnattr_t *a)
{
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	r = posix_spawnattr_setsigmask(a, &none);
	if (!r)
		r = posix_spawnattr_setsigdefault(a, &all);
	if (!r)
		r = posix_spawnattr_setpgroup(a, 0);
	if (!r) {
		r = posix_spawnattr_setflags(a, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
							POSIX_SPAWN_SETPGROUP);
	}
	return -r;
}

static int tool_spawn(struct tool *t, const char *path, const char *const argv[], bool apart,
		      int out, int words)
{
	static const char *const environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
						   "TERM=dumb", NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int r;

	r = -posix_spawn_file_actions_init(&actions);
	if (r < 0)
		return r;
	r = -posix_spawnattr_init(&attributes);
	if (r >= 0) {
		r = actions_fill(&actions, apart, out, words);
		if (r >= 0)
			r = attributes_fill(&attributes);
		if (r >= 0) {
			r = -posix_spawn(&t->pid, path, &actions, &attributes, (char *const *)argv,
					 (char *const *)environment);
		}
		if (r < 0)
			t->pid = 0;
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&actions);
	return r;
}

static int tool_start(struct tool *t, const char *path, const char *const argv[], bool apart)
{
	int out[2], words[2], r;

	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	t->out = out[0];
	if (pipe2(words, O_CLOEXEC) < 0) {
		r = -errno;
		close_fd(out[1]);
		return r;
	}
	t->words = words[0];
	r = tool_spawn(t, path, argv, apart, out[1], words[1]);
	close_fd(out[1]);
	close_fd(words[1]);
	if (r < 0)
		return r;
	t->pidfd = pidfd_open(t->pid, 0);
	return t->pidfd < 0 ? -errno : 0;
}

static int tool_read_output(struct tool *t)
{
	ssize_t n;

	if (t->len + 1 >= t->allocated) {
		size_t size = MAX(t->allocated * 2, (size_t)65536);
		char *grown = size > 2 * (size_t)TOOL_OUTPUT_MAX ? NULL : realloc(t->output, size);

		if (!grown)
			return -ENOMEM;
		t->output = grown;
		t->allocated = size;
	}
	n = read(t->out, t->output + t->len, t->allocated - t->len - 1);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (n == 0)
		t->out = close_fd(t->out);
	t->len += (size_t)n;
	t->output[t->len] = '\0';
	return t->len > TOOL_OUTPUT_MAX ? -EFBIG : 0;
}

/* Progress bars and all: only the last line is kept. */
static int tool_read_words(struct tool *t)
{
	char buf[4096];
	ssize_t n = read(t->words, buf, sizeof(buf));

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (n == 0)
		t->words = close_fd(t->words);
	for (ssize_t i = 0; i < n; i++) {
		bool first = t->n_said == 0 || t->said[t->n_said - 1] == '\n';

		if (buf[i] == '\n' || buf[i] == '\r') {
			if (!first)
				t->said[t->n_said++] = '\n';
		} else if (buf[i] >= ' ') {
			if (t->n_said && t->said[t->n_said - 1] == '\n')
				t->n_said = 0;
			t->said[t->n_said++] = buf[i];
		}
		if (t->n_said >= sizeof(t->said) - 1)
			t->n_said--;
	}
	t->said[t->n_said] = '\0';
	return 0;
}

/* Until it has ended and all it said is read. */
static int tool_wait(struct tool *t)
{
	uint64_t deadline = io_now_ns() + TOOL_TIMEOUT_SEC * UINT64_C(1000000000);
	bool ended = false;
	int r = 0;

	while (!ended || t->out >= 0 || t->words >= 0) {
		struct pollfd p[3] = {
			{ .fd = t->out, .events = POLLIN },
			{ .fd = t->words, .events = POLLIN },
			{ .fd = ended ? -1 : t->pidfd, .events = POLLIN },
		};
		uint64_t now = io_now_ns();

		if (now >= deadline)
			return -ETIMEDOUT;
		if (poll(p, 3, (int)MIN((deadline - now) / 1000000 + 1, UINT64_C(1000))) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (p[0].revents)
			r = tool_read_output(t);
		if (r >= 0 && p[1].revents)
			r = tool_read_words(t);
		if (r < 0)
			return r;
		if (p[2].revents)
			ended = true;
	}
	return 0;
}

int tool_run(const char *const argv[], bool apart, char **ret_output, struct err *e)
{
	_cleanup_(tool_done) struct tool t = { .pidfd = -EBADF, .out = -EBADF, .words = -EBADF };
	char path[256];
	int r, status;

	r = tool_find(argv[0], path, sizeof(path));
	if (r < 0)
		return err_set(e, r, "%s is not installed", argv[0]);
	r = tool_start(&t, path, argv, apart);
	if (r >= 0)
		r = tool_wait(&t);
	if (r < 0)
		return err_set_errno(e, r, "%s", argv[0]);
	if (waitpid(t.pid, &status, 0) < 0)
		return err_set_errno(e, -errno, "%s", argv[0]);
	t.pid = 0;
	t.said[strcspn(t.said, "\n")] = '\0';
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(e, -ECHILD, "%s failed: %s", argv[0], t.said);
	if (!t.output) {
		t.output = strdup("");
		if (!t.output)
			return err_oom(e);
	}
	*ret_output = TAKE_PTR(t.output);
	return 0;
}
