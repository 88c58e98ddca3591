/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ambro-guardian - the process that thaws what the agent froze when the agent cannot; see guardian.h. Descriptors 3: socket, 4: page.
 *
 * A small program, linked with the C library and little else: a capture waits for its start, and its memory is locked, all of it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/guardian_page.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

/* What the kernel sends when the keeper ends. */
#define GUARDIAN_SIGNAL SIGUSR1

/* How often to look again while a file system may still become frozen behind the deadline. */
#define GUARDIAN_AGAIN_MS 10

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
		char bytes[CMSG_SPACE(GUARDIAN_MOUNTS_AT_ONCE * sizeof(int))];
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
	if (word == GUARDIAN_MOUNTS)
		guardian_take_held(&m);
	if (word == GUARDIAN_LET_GO)
		guardian_close_held();
	/* with fewer than it was told of it must not be relied upon */
	if (word == GUARDIAN_HOLD && n_held != page->mounts)
		return false;
	if (word == GUARDIAN_HOLD || word == GUARDIAN_LET_GO)
		return send(GUARDIAN_FD_SOCKET, &word, 1, MSG_NOSIGNAL) == 1;
	return true;
}

/*
 * Watch until the agent has dismissed us, or all of it is gone. When the keeper is gone the rest is dying, but
 * a thread may be inside a FIFREEZE, which then still succeeds: thaw at once, and stay.
 */
static void guardian_watch(struct guardian_page *page, int end)
{
	struct pollfd p[] = { { .fd = GUARDIAN_FD_SOCKET, .events = POLLIN },
			      { .fd = end, .events = POLLIN } };

	for (;;) {
		int timeout = guardian_timeout(page), n;

		if (timeout == 0) {
			guardian_page_expire(page, held_fds);
			guardian_put_back(page);
			/* a FIFREEZE that the agent began before it saw `expired` may still succeed */
			timeout = GUARDIAN_AGAIN_MS;
		}
		n = poll(p, 2, timeout);
		if (n < 0 && errno != EINTR)
			return;
		if (n > 0 && p[1].revents) {
			p[1].fd = -1;
			atomic_store(&page->deadline_ns, 1); /* long ago */
			guardian_page_expire(page, held_fds);
			guardian_put_back(page);
		}
		if (n > 0 && p[0].revents && !guardian_listen_to_agent(page))
			return;
	}
}

/* The agent's page; NULL: not one of this program's version, as one has that was started by the agent of another package. */
static struct guardian_page *guardian_map_page(void)
{
	struct guardian_page *page =
		mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, GUARDIAN_FD_PAGE, 0);

	if (page == MAP_FAILED)
		return NULL;
	return memcmp(page->magic, GUARDIAN_PAGE_MAGIC, sizeof(page->magic)) ? NULL : page;
}

int main(void)
{
	struct guardian_page *page = guardian_map_page();
	int end = guardian_listen();

	if (!page || end < 0)
		return 1;
	/* it was started by a descriptor, whose number would be its name */
	prctl(PR_SET_NAME, GUARDIAN_NAME);
	mlockall(MCL_CURRENT);
	/* whoever is killed for memory, not the one who can thaw */
	io_write_text("/proc/self/oom_score_adj", "-1000\n");
	guardian_watch(page, end);
	guardian_page_thaw(page, held_fds);
	guardian_put_back(page);
	guardian_page_remove(page);
	return 0;
}
