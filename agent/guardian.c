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
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/fs.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"

#define GUARDIAN_FD_SOCKET 3
#define GUARDIAN_FD_PAGE   4
#define GUARDIAN_FD_MOUNTS 5

/* How often to look again while a file system may still become frozen behind the deadline. */
#define GUARDIAN_AGAIN_MS 10

int guardian_rcu_restore(void)
{
	return io_write_text(RCU_EXPEDITED_PATH, "0\n");
}

/* ---- the guardian's own side ------------------------------------------------------------------ */

static void guardian_thaw_those(struct guardian_page *page, int state)
{
	for (uint32_t i = 0; i < page->mounts; i++) {
		int expected = state;

		if (atomic_load(&page->state[i]) != state)
			continue;
		ioctl(GUARDIAN_FD_MOUNTS + (int)i, FITHAW, 0);
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
static void guardian_thaw_all(struct guardian_page *page)
{
	guardian_thaw_those(page, GUARDIAN_FROZEN);
	guardian_thaw_those(page, GUARDIAN_FREEZING);
	if (atomic_load(&page->rcu_was_off))
		guardian_rcu_restore();
}

/* Milliseconds until the deadline, rounded up; -1: none. */
static int guardian_timeout(const struct guardian_page *page)
{
	uint64_t deadline = atomic_load(&page->deadline_ns), now = io_now_ns();

	if (!deadline)
		return -1;
	return deadline <= now ? 0 : (int)MIN((deadline - now) / 1000000 + 1, (uint64_t)60000);
}

int guardian_main(void)
{
	struct guardian_page *page =
		mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, GUARDIAN_FD_PAGE, 0);
	struct pollfd p = { .fd = GUARDIAN_FD_SOCKET, .events = POLLIN };
	sigset_t all;
	char byte = 'u';
	bool first;

	if (page == MAP_FAILED)
		return 1;
	/* a service manager that stops the agent signals its whole group: we outlive that */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	mlockall(MCL_CURRENT);
	/* whoever is killed for memory, not the one who can thaw */
	io_write_text("/proc/self/oom_score_adj", "-1000\n");
	if (write(GUARDIAN_FD_SOCKET, &byte, 1) != 1)
		return 1;
	for (;;) {
		int timeout = guardian_timeout(page), n;

		if (timeout == 0) {
			first = !atomic_exchange(&page->expired, true);
			guardian_thaw_all(page);
			if (first)
				atomic_store(&page->thawed_ns, io_now_ns());
			/* a FIFREEZE that the agent began before it saw `expired` may still succeed */
			timeout = GUARDIAN_AGAIN_MS;
		}
		n = poll(&p, 1, timeout);
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0 && read(GUARDIAN_FD_SOCKET, &byte, 1) <= 0)
			break; /* end of file: the agent has dismissed us, or is dead */
	}
	guardian_thaw_all(page);
	return 0;
}

/* ---- the agent's side ------------------------------------------------------------------------- */

/*
 * Everything the child gets stands at a number above all that it is to get, so that putting it in place
 * never overwrites what is still needed. close-on-exec does not survive dup2(), which is what we want.
 */
static int guardian_spawn(struct guardian *g, int socket, int page_fd, const int *fds,
			  uint32_t count)
{
	static char name[] = "ambrod", argument[] = GUARDIAN_ARGUMENT;
	char *argv[] = { name, argument, NULL };
	posix_spawn_file_actions_t actions;
	int base = GUARDIAN_FD_MOUNTS + (int)count, moved[2 + GUARDIAN_MOUNTS_MAX];
	uint32_t n = 0;
	int r = 0;

	posix_spawn_file_actions_init(&actions);
	for (uint32_t i = 0; i < count + 2 && r == 0; i++) {
		int fd = i == 0 ? socket : i == 1 ? page_fd : fds[i - 2];

		moved[i] = fcntl(fd, F_DUPFD_CLOEXEC, base);
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

static int guardian_map_page(struct guardian *g, uint32_t count)
{
	_cleanup_close_ int fd = memfd_create("ambro-guardian", MFD_CLOEXEC);
	void *page;

	if (fd < 0 || ftruncate(fd, sizeof(*g->page)) < 0)
		return -errno;
	page = mmap(NULL, sizeof(*g->page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return -errno;
	g->page = page;
	g->page->mounts = count;
	return TAKE_FD(fd);
}

int guardian_start(struct guardian *g, const int *fds, uint32_t count, struct err *e)
{
	_cleanup_close_ int page_fd = -EBADF, theirs = -EBADF;
	int pair[2], r;
	char byte;

	*g = (struct guardian){ .socket = -EBADF };
	if (count > GUARDIAN_MOUNTS_MAX) {
		return err_set(e, -E2BIG,
			       "%u file systems are mounted on one disk, at most %u can be frozen",
			       count, GUARDIAN_MOUNTS_MAX);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set_errno(e, -errno, "cannot make the guardian's socket");
	g->socket = pair[0];
	theirs = pair[1];
	page_fd = guardian_map_page(g, count);
	if (page_fd < 0) {
		guardian_stop(g);
		return err_set_errno(e, page_fd, "cannot make the guardian's shared page");
	}
	r = guardian_spawn(g, theirs, page_fd, fds, count);
	close_fd(TAKE_FD(theirs));
	if (r == 0)
		r = io_read_all(g->socket, &byte, 1);
	if (r < 0) {
		guardian_stop(g);
		return err_set_errno(e, r, "cannot start the guardian process");
	}
	return 0;
}

int guardian_wake(struct guardian *g)
{
	char byte = 'w';

	return send(g->socket, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

void guardian_stop(struct guardian *g)
{
	g->socket = close_fd(g->socket);
	if (g->pid > 0) {
		/* it has nothing to do any more, and one that somebody has stopped would never end */
		kill(g->pid, SIGKILL);
		while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
			;
		g->pid = 0;
	}
	if (g->page)
		munmap(g->page, sizeof(*g->page));
	g->page = NULL;
}
