/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"

/* One that does not answer for so long is stopped, or dying. */
#define HOLD_MS	  10000
#define LET_GO_MS 1000

/* O_PATH; at a number above all that the child is to get. */
static int guardian_program = -EBADF;

/* Where it is installed, as seen from our own program. */
static int guardian_find(char *ret, size_t size)
{
	static const char *const places[] = { GUARDIAN_NAME, "../libexec/ambro/" GUARDIAN_NAME };
	char own[PATH_MAX];
	const ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
	const char *end;

	if (n < 0)
		return -errno;
	own[n] = 0;
	end = strrchr(own, '/');
	for (size_t i = 0; end && i < ARRAY_SIZE(places); i++) {
		snprintf(ret, size, "%.*s%s", (int)(end + 1 - own), own, places[i]);
		if (access(ret, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

int guardian_open(const char *path, struct err *e)
{
	char found[PATH_MAX + 64];
	_cleanup_close_ int fd = -EBADF;

	if (!path) {
		const int r = guardian_find(found, sizeof(found));

		if (r < 0) {
			return err_set(e, r,
				       GUARDIAN_NAME " is neither beside this program nor in "
						     "../libexec/ambro: without it nothing may be "
						     "frozen; install it again");
		}
		path = found;
	}
	fd = open(path, O_PATH | O_CLOEXEC);
	guardian_program = fd < 0 ? -errno : fcntl(fd, F_DUPFD_CLOEXEC, GUARDIAN_FD_PAGE + 1);
	return guardian_program < 0 ? err_set_errno(e, -errno, "cannot open %s", path) : 0;
}

/*
 * Everything the child gets stands at a number above all that it is to get, so that putting it in place
 * never overwrites what is still needed. close-on-exec does not survive dup2(), which is what we want.
 */
static int guardian_spawn(struct guardian *g)
{
	static char name[] = GUARDIAN_NAME;
	char *argv[] = { name, NULL }, program[32];
	const int given[] = { g->theirs, g->page_fd };
	posix_spawn_file_actions_t actions;
	int moved[ARRAY_SIZE(given)];
	size_t n = 0;
	int r = 0;

	posix_spawn_file_actions_init(&actions);
	for (size_t i = 0; i < ARRAY_SIZE(given) && r == 0; i++) {
		moved[i] = fcntl(given[i], F_DUPFD_CLOEXEC, GUARDIAN_FD_PAGE + 1);
		if (moved[i] < 0) {
			r = errno;
			break;
		}
		n++;
		r = posix_spawn_file_actions_adddup2(&actions, moved[i],
						     GUARDIAN_FD_SOCKET + (int)i);
	}
	snprintf(program, sizeof(program), "/proc/self/fd/%d", guardian_program);
	if (r == 0)
		r = posix_spawn(&g->pid, program, &actions, NULL, argv, environ);
	while (n > 0)
		close(moved[--n]);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* The keeper: has the guardian for its child, and thaws when that ends unbidden. */
static void *guardian_keep(void *arg)
{
	struct guardian *g = arg;
	struct pollfd p = { .fd = g->socket, .events = POLLRDHUP };
	int r;

	r = guardian_spawn(g);
	/* what it holds must end with it, or its end would not be seen */
	g->theirs = close_fd(g->theirs);
	g->page_fd = close_fd(g->page_fd);
	g->result = r;
	sem_post(&g->spawned);
	if (r < 0)
		return NULL;
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	/* frozen without a guardian is not allowed for a moment (F1); the capture tries again */
	if (!atomic_load(&g->dismissed) && atomic_load(&g->page->deadline_ns))
		guardian_page_expire(g->page, g->fds);
	return NULL;
}

/* Nothing stands still any more. */
static void guardian_page_end(const struct guardian *g)
{
	if (g->page)
		guardian_page_remove(g->page);
	guardian_page_free(g->page);
}

int guardian_start(struct guardian *g, struct err *e)
{
	int pair[2], r;

	*g = (struct guardian){ .page_fd = -EBADF };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set_errno(e, -errno, "cannot make the guardian's socket");
	g->socket = pair[0];
	g->theirs = pair[1];
	sem_init(&g->spawned, 0, 0);
	r = g->page_fd = guardian_page_new(&g->page);
	if (r >= 0)
		r = -pthread_create(&g->keeper, NULL, guardian_keep, g);
	if (r >= 0) {
		g->kept = true;
		return 0;
	}
	close_fd(g->socket);
	close_fd(g->theirs);
	close_fd(g->page_fd);
	guardian_page_end(g);
	sem_destroy(&g->spawned);
	*g = (struct guardian){ 0 };
	return err_set_errno(e, r, "cannot start the guardian process");
}

/* Its keeper has spawned it, or has not. */
static int guardian_meet(struct guardian *g)
{
	while (!g->met && sem_wait(&g->spawned) < 0 && errno == EINTR)
		;
	g->met = true;
	return g->result;
}

static int guardian_send_fds(const struct guardian *g, const int *fds, uint32_t n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(GUARDIAN_MOUNTS_AT_ONCE * sizeof(int))];
	} control = { 0 };
	char word = GUARDIAN_MOUNTS;
	struct iovec iov = { &word, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	return sendmsg(g->socket, &m, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

/* Say @word, and wait until it has done so. */
static int guardian_tell(const struct guardian *g, char word, int ms)
{
	struct pollfd p = { .fd = g->socket, .events = POLLIN };
	const uint64_t end = io_now_ns() + (uint64_t)ms * 1000000;
	char heard = 0;
	int n = 0;

	if (send(g->socket, &word, 1, MSG_NOSIGNAL) != 1)
		return -errno;
	while (n <= 0) {
		uint64_t now = io_now_ns();

		if (now >= end)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)((end - now) / 1000000) + 1);
		if (n < 0 && errno != EINTR)
			return -errno;
	}
	if (recv(g->socket, &heard, 1, MSG_DONTWAIT) != 1)
		return -EPIPE;
	return heard == word ? 0 : -EPROTO;
}

static int guardian_hold_once(struct guardian *g, const int *fds, uint32_t count)
{
	int r = guardian_meet(g);

	if (r >= 0)
		r = guardian_page_name(g->page, fds, count);
	if (r < 0)
		return r;
	g->fds = fds;
	for (uint32_t i = 0, n; i < count && r >= 0; i += n) {
		n = MIN(count - i, GUARDIAN_MOUNTS_AT_ONCE);
		r = guardian_send_fds(g, fds + i, n);
	}
	return r < 0 ? r : guardian_tell(g, GUARDIAN_HOLD, HOLD_MS);
}

int guardian_hold(struct guardian *g, const int *fds, uint32_t count, struct err *e)
{
	const bool before = g->kept;
	int r;

	if (count > GUARDIAN_MOUNTS_MAX) {
		return err_set(e, -E2BIG,
			       "%u file systems are mounted on one disk, at most %u can be frozen",
			       count, GUARDIAN_MOUNTS_MAX);
	}
	for (unsigned int i = 0; i < 2; i++) {
		r = g->kept ? 0 : guardian_start(g, e);
		if (r < 0)
			return r;
		r = guardian_hold_once(g, fds, count);
		if (r >= 0)
			return 0;
		guardian_stop(g);
		/* one that was well may have been killed since; a new one is not */
		if (!before)
			break;
	}
	if (r == -EPIPE || r == -ECONNRESET) {
		return err_set(e, r,
			       "the guardian process ends when it is started: " GUARDIAN_NAME
			       " may be of another version than ambrod; install both again");
	}
	return err_set_errno(e, r, "cannot start the guardian process");
}

void guardian_let_go(struct guardian *g)
{
	if (!g->kept || !g->fds)
		return;
	/* the keeper of one that is gone may be about to thaw: nothing may be closed before it has ended */
	if (guardian_tell(g, GUARDIAN_LET_GO, LET_GO_MS) < 0) {
		guardian_stop(g);
		return;
	}
	g->fds = NULL;
	g->page->mounts = 0;
}

void guardian_dismiss(struct guardian *g)
{
	if (!g->kept || g->fds)
		return;
	atomic_store(&g->dismissed, true);
	shutdown(g->socket, SHUT_RDWR);
}

int guardian_wake(struct guardian *g)
{
	char byte = GUARDIAN_WAKE;

	return send(g->socket, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -EPIPE;
}

void guardian_stop(struct guardian *g)
{
	if (!g->kept)
		return;
	guardian_meet(g);
	atomic_store(&g->dismissed, true);
	if (g->pid > 0) {
		/* it has nothing to do any more, and one that somebody has stopped would never end */
		kill(g->pid, SIGKILL);
		while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	shutdown(g->socket, SHUT_RDWR);
	pthread_join(g->keeper, NULL);
	sem_destroy(&g->spawned);
	close_fd(g->socket);
	guardian_page_end(g);
	*g = (struct guardian){ 0 };
}
