/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/fs.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"

#define GUARDIAN_FD_SOCKET 3
#define GUARDIAN_FD_PAGE   4

/* What the agent says, a byte each; the other side reads them one by one, so descriptors come with the word they were sent with. */
#define WORD_WAKE   'w' /* look at the deadline */
#define WORD_MOUNTS 'm' /* descriptors come with it */
#define WORD_HOLD   'h' /* these were all; answered with the same */
#define WORD_LET_GO 'l' /* close them; answered with the same */
/* The kernel passes 253 at once. */
#define MOUNTS_AT_ONCE 128u
/* One that does not answer for so long is stopped, or dying. */
#define HOLD_MS	  10000
#define LET_GO_MS 1000

/* What the kernel sends when the keeper ends. */
#define GUARDIAN_SIGNAL SIGUSR1

/* How often to look again while a file system may still become frozen behind the deadline. */
#define GUARDIAN_AGAIN_MS 10

int guardian_rcu_restore(void)
{
	return io_write_text(RCU_EXPEDITED_PATH, "0\n");
}

/* ---- thawing for the agent ------------------------------------------------------------------- */

struct guardian_mounts {
	struct guardian_page *page;
	const int *fds;
};

static void guardian_thaw_those(const struct guardian_mounts *m, int state)
{
	struct guardian_page *page = m->page;

	for (uint32_t i = 0; i < page->mounts; i++) {
		int expected = state;

		if (atomic_load(&page->state[i]) != state)
			continue;
		ioctl(m->fds[i], FITHAW, 0);
		/* once only: whoever freezes it after this is not the agent (F5) */
		if (state == GUARDIAN_FROZEN)
			atomic_compare_exchange_strong(&page->state[i], &expected, GUARDIAN_THAWED);
	}
}

/*
 * Thaw whatever may be frozen. A mount in GUARDIAN_FREEZING is thawed too, but last: FITHAW waits for a
 * FIFREEZE under way (s_umount), and that may itself wait for one of the frozen (a loop device on it). On
 * one that is not frozen it is a harmless EINVAL.
 */
static void guardian_thaw_all(const struct guardian_mounts *m)
{
	guardian_thaw_those(m, GUARDIAN_FROZEN);
	guardian_thaw_those(m, GUARDIAN_FREEZING);
}

/* The time is over: what is read from now on is worth nothing. */
static void guardian_expire(const struct guardian_mounts *m)
{
	bool first = !atomic_exchange(&m->page->expired, true);

	guardian_thaw_all(m);
	if (first)
		atomic_store(&m->page->thawed_ns, io_now_ns());
}

/* ---- the guardian's own side ------------------------------------------------------------------ */

/* Milliseconds until the deadline, rounded up; -1: none. */
static int guardian_timeout(const struct guardian_page *page)
{
	uint64_t deadline = atomic_load(&page->deadline_ns), now = io_now_ns();

	if (!deadline)
		return -1;
	return deadline <= now ? 0 : (int)MIN((deadline - now) / 1000000 + 1, (uint64_t)60000);
}

/* The descriptor on which the end of the keeper is told. */
static int guardian_listen(void)
{
	sigset_t all, end;

	/* a service manager that stops the agent signals its whole group: we outlive that */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	sigemptyset(&end);
	sigaddset(&end, GUARDIAN_SIGNAL);
	if (prctl(PR_SET_PDEATHSIG, GUARDIAN_SIGNAL) < 0)
		return -errno;
	return signalfd(-1, &end, SFD_CLOEXEC);
}

/* What the agent will not put back any more. */
static void guardian_put_back(struct guardian_page *page)
{
	pace_put_back(&page->pusher);
	if (atomic_load(&page->rcu_was_off))
		guardian_rcu_restore();
}

/* What the guardian holds; present in memory, as everything of it. */
static int held_fds[GUARDIAN_MOUNTS_MAX];
static uint32_t n_held;

static void guardian_close_held(void)
{
	while (n_held > 0)
		close(held_fds[--n_held]);
}

/* The descriptors that came with @m. */
static void guardian_take_held(struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n && n_held < GUARDIAN_MOUNTS_MAX; i++)
			memcpy(&held_fds[n_held++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
}

/* A word of the agent's. False: it is gone. */
static bool guardian_listen_to_agent(const struct guardian_page *page)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MOUNTS_AT_ONCE * sizeof(int))];
	} control;
	char word = 0;
	struct iovec iov = { &word, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(GUARDIAN_FD_SOCKET, &m, 0);

	if (n <= 0)
		return n < 0 && errno == EINTR;
	if (word == WORD_MOUNTS)
		guardian_take_held(&m);
	if (word == WORD_LET_GO)
		guardian_close_held();
	/* with fewer than it was told of it must not be relied upon */
	if (word == WORD_HOLD && n_held != page->mounts)
		return false;
	if (word == WORD_HOLD || word == WORD_LET_GO)
		return send(GUARDIAN_FD_SOCKET, &word, 1, MSG_NOSIGNAL) == 1;
	return true;
}

/*
 * Watch until the agent has dismissed us, or all of it is gone. When the keeper is gone the rest is dying, but
 * a thread may be inside a FIFREEZE, which then still succeeds: thaw at once, and stay.
 */
static void guardian_watch(const struct guardian_mounts *m, int end)
{
	struct pollfd p[] = { { .fd = GUARDIAN_FD_SOCKET, .events = POLLIN },
			      { .fd = end, .events = POLLIN } };

	for (;;) {
		int timeout = guardian_timeout(m->page), n;

		if (timeout == 0) {
			guardian_expire(m);
			guardian_put_back(m->page);
			/* a FIFREEZE that the agent began before it saw `expired` may still succeed */
			timeout = GUARDIAN_AGAIN_MS;
		}
		n = poll(p, 2, timeout);
		if (n < 0 && errno != EINTR)
			return;
		if (n > 0 && p[1].revents) {
			p[1].fd = -1;
			atomic_store(&m->page->deadline_ns, 1); /* long ago */
			guardian_expire(m);
			guardian_put_back(m->page);
		}
		if (n > 0 && p[0].revents && !guardian_listen_to_agent(m->page))
			return;
	}
}

int guardian_main(void)
{
	struct guardian_page *page =
		mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, GUARDIAN_FD_PAGE, 0);
	struct guardian_mounts mounts = { .page = page, .fds = held_fds };
	int end = guardian_listen();

	if (page == MAP_FAILED || end < 0)
		return 1;
	mlockall(MCL_CURRENT);
	/* whoever is killed for memory, not the one who can thaw */
	io_write_text("/proc/self/oom_score_adj", "-1000\n");
	guardian_watch(&mounts, end);
	guardian_thaw_all(&mounts);
	guardian_put_back(page);
	guardian_page_remove(page);
	return 0;
}

/* ---- the agent's side ------------------------------------------------------------------------- */

/*
 * Everything the child gets stands at a number above all that it is to get, so that putting it in place
 * never overwrites what is still needed. close-on-exec does not survive dup2(), which is what we want.
 */
static int guardian_spawn(struct guardian *g)
{
	static char name[] = "ambrod", argument[] = GUARDIAN_ARGUMENT;
	char *argv[] = { name, argument, NULL };
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
	if (r == 0)
		r = posix_spawn(&g->pid, "/proc/self/exe", &actions, NULL, argv, environ);
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
		guardian_expire(&(struct guardian_mounts){ g->page, g->fds });
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
		char bytes[CMSG_SPACE(MOUNTS_AT_ONCE * sizeof(int))];
	} control = { 0 };
	char word = WORD_MOUNTS;
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
		n = MIN(count - i, MOUNTS_AT_ONCE);
		r = guardian_send_fds(g, fds + i, n);
	}
	return r < 0 ? r : guardian_tell(g, WORD_HOLD, HOLD_MS);
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
	return err_set_errno(e, r, "cannot start the guardian process");
}

void guardian_let_go(struct guardian *g)
{
	if (!g->kept || !g->fds)
		return;
	/* the keeper of one that is gone may be about to thaw: nothing may be closed before it has ended */
	if (guardian_tell(g, WORD_LET_GO, LET_GO_MS) < 0) {
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
	char byte = WORD_WAKE;

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
