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
#define GUARDIAN_FD_MOUNTS 5

/* What the kernel sends when the keeper ends. */
#define GUARDIAN_SIGNAL SIGUSR1

/* How often to look again while a file system may still become frozen behind the deadline. */
#define GUARDIAN_AGAIN_MS 10

int guardian_rcu_restore(void)
{
	return io_write_text(RCU_EXPEDITED_PATH, "0\n");
}

/* ---- thawing for the agent ------------------------------------------------------------------- */

/* Where the descriptors of the mounts are: in the guardian from a number on, in the agent an array. */
struct guardian_mounts {
	struct guardian_page *page;
	const int *fds; /* NULL: GUARDIAN_FD_MOUNTS and on */
};

static void guardian_thaw_those(const struct guardian_mounts *m, int state)
{
	struct guardian_page *page = m->page;

	for (uint32_t i = 0; i < page->mounts; i++) {
		int expected = state;

		if (atomic_load(&page->state[i]) != state)
			continue;
		ioctl(m->fds ? m->fds[i] : GUARDIAN_FD_MOUNTS + (int)i, FITHAW, 0);
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

/*
 * Watch until the agent has dismissed us, or all of it is gone. When the keeper is gone the rest is dying, but
 * a thread may be inside a FIFREEZE, which then still succeeds: thaw at once, and stay.
 */
static void guardian_watch(const struct guardian_mounts *m, int end)
{
	struct pollfd p[] = { { .fd = GUARDIAN_FD_SOCKET, .events = POLLIN },
			      { .fd = end, .events = POLLIN } };
	char byte;

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
		if (n > 0 && p[0].revents && read(GUARDIAN_FD_SOCKET, &byte, 1) <= 0)
			return;
	}
}

int guardian_main(void)
{
	struct guardian_page *page =
		mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, GUARDIAN_FD_PAGE, 0);
	struct guardian_mounts mounts = { .page = page };
	int end = guardian_listen();
	char byte = 'u';

	if (page == MAP_FAILED || end < 0)
		return 1;
	mlockall(MCL_CURRENT);
	/* whoever is killed for memory, not the one who can thaw */
	io_write_text("/proc/self/oom_score_adj", "-1000\n");
	if (write(GUARDIAN_FD_SOCKET, &byte, 1) != 1)
		return 1;
	guardian_watch(&mounts, end);
	guardian_thaw_all(&mounts);
	guardian_put_back(page);
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
	posix_spawn_file_actions_t actions;
	uint32_t count = g->page->mounts, n = 0;
	int base = GUARDIAN_FD_MOUNTS + (int)count, moved[2 + GUARDIAN_MOUNTS_MAX];
	int r = 0;

	posix_spawn_file_actions_init(&actions);
	for (uint32_t i = 0; i < count + 2 && r == 0; i++) {
		int fd = i == 0 ? g->theirs : i == 1 ? g->page_fd : g->fds[i - 2];

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

/* The keeper: has the guardian for its child, and thaws when that ends unbidden. */
static void *guardian_keep(void *arg)
{
	struct guardian *g = arg;
	struct guardian_mounts mounts = { .page = g->page, .fds = g->fds };
	struct pollfd p = { .fd = g->socket, .events = POLLRDHUP };
	int r;

	r = guardian_spawn(g);
	/* what it holds must end with it, or its end would not be seen */
	g->theirs = close_fd(g->theirs);
	g->result = r;
	sem_post(&g->spawned);
	if (r < 0)
		return NULL;
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	/* frozen without a guardian is not allowed for a moment (F1); the capture tries again */
	if (!atomic_load(&g->dismissed) && atomic_load(&g->page->deadline_ns))
		guardian_expire(&mounts);
	return NULL;
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

/* Start the keeper, and hear from it whether there is a guardian. */
static int guardian_start_keeper(struct guardian *g)
{
	int r;

	sem_init(&g->spawned, 0, 0);
	r = -pthread_create(&g->keeper, NULL, guardian_keep, g);
	if (r < 0)
		return r;
	g->kept = true;
	while (sem_wait(&g->spawned) < 0 && errno == EINTR)
		;
	return g->result;
}

int guardian_start(struct guardian *g, const int *fds, uint32_t count, struct err *e)
{
	int pair[2], r;
	char byte;

	*g = (struct guardian){ .socket = -EBADF, .theirs = -EBADF, .page_fd = -EBADF, .fds = fds };
	if (count > GUARDIAN_MOUNTS_MAX) {
		return err_set(e, -E2BIG,
			       "%u file systems are mounted on one disk, at most %u can be frozen",
			       count, GUARDIAN_MOUNTS_MAX);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set_errno(e, -errno, "cannot make the guardian's socket");
	g->socket = pair[0];
	g->theirs = pair[1];
	r = guardian_map_page(g, count);
	if (r >= 0) {
		g->page_fd = r;
		r = guardian_start_keeper(g);
	}
	g->theirs = close_fd(g->theirs);
	g->page_fd = close_fd(g->page_fd);
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
	atomic_store(&g->dismissed, true);
	if (g->pid > 0) {
		/* it has nothing to do any more, and one that somebody has stopped would never end */
		kill(g->pid, SIGKILL);
		while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
			;
		g->pid = 0;
	}
	if (g->kept) {
		shutdown(g->socket, SHUT_RDWR);
		pthread_join(g->keeper, NULL);
		sem_destroy(&g->spawned);
		g->kept = false;
	}
	g->socket = close_fd(g->socket);
	if (g->page)
		munmap(g->page, sizeof(*g->page));
	g->page = NULL;
}
