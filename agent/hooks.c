/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/hook_keeper.h"
#include "agent/pause.h"
#include "lib/base/io.h"
#include "lib/base/text.h"

/* The kernel takes no longer string into an environment than 128 KiB; what is beyond is left out. */
#define LIST_MAX ((size_t)120 << 10)
/* A keeper that has not answered so long after the last of its hooks must have ended is dead or stopped. */
#define GRACE_MS 15000u

struct hooks {
	pid_t pid;
	int socket;
	struct hook_answer last;
	char path[HOOK_STATE_PATH]; /* of the state file */
	unsigned int timeout_ms;
	struct capture_status *status; /* hooks, hooks_failed are kept up to date; borrowed */
};

static const char *hooks_dir(void)
{
	const char *dir = secure_getenv("AMBRO_HOOKS_DIR");

	return dir && *dir ? dir : HOOK_DIR_DEFAULT;
}

static enum hook_policy hooks_policy(struct snapshot *const *all, unsigned int n)
{
	enum hook_policy policy = HOOKS_OFF;

	for (unsigned int i = 0; i < n; i++)
		policy = MIN(policy, all[i]->request->hooks);
	return policy;
}

bool hooks_wanted(struct snapshot *const *all, unsigned int n)
{
	_cleanup_(text_list_freep) char **names = NULL;

	/* one that cannot be read is for the keeper to tell of */
	return hooks_policy(all, n) != HOOKS_OFF && hook_names(hooks_dir(), &names, NULL) != 0;
}

/* ---- what they are told ------------------------------------------------------------------------- */

struct list {
	char *text;
	size_t used;
};

/* A line more, unless it is there already or does not fit. */
static void list_add(struct list *l, const char *line)
{
	size_t n = strlen(line);

	for (const char *at = l->text; (at = strstr(at, line)); at += n) {
		if ((at == l->text || at[-1] == '\n') && (!at[n] || at[n] == '\n'))
			return;
	}
	if (l->used + n + 2 > LIST_MAX)
		return;
	if (l->used)
		l->text[l->used++] = '\n';
	memcpy(l->text + l->used, line, n + 1);
	l->used += n;
}

/* AMBRO_SOURCE and AMBRO_MOUNTS, one path a line. */
static int hooks_describe(struct snapshot *const *all, unsigned int n, struct list *sources,
			  struct list *mounts)
{
	sources->text = calloc(1, LIST_MAX);
	mounts->text = calloc(1, LIST_MAX);
	if (!sources->text || !mounts->text)
		return -ENOMEM;
	for (unsigned int i = 0; i < n; i++) {
		const struct disk *d = all[i]->disk;

		list_add(sources, d->path);
		for (size_t k = 0; k < d->n_mounts; k++)
			list_add(mounts, d->mounts[k].path);
	}
	return 0;
}

/* ---- the keeper --------------------------------------------------------------------------------- */

static int hooks_spawn(struct hooks *h, char **argv)
{
	posix_spawn_file_actions_t actions;
	int pair[2], moved, r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	/* above the place that it is to have: dup2() onto itself would leave it close-on-exec */
	moved = fcntl(pair[1], F_DUPFD_CLOEXEC, HOOK_KEEPER_SOCKET + 1);
	close(pair[1]);
	h->socket = pair[0];
	if (moved < 0)
		return -errno;
	posix_spawn_file_actions_init(&actions);
	r = posix_spawn_file_actions_adddup2(&actions, moved, HOOK_KEEPER_SOCKET);
	if (r == 0)
		r = posix_spawn(&h->pid, "/proc/self/exe", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(moved);
	return -r;
}

static int hooks_start(struct hooks *h, struct snapshot *const *all, unsigned int n)
{
	static char name[] = "ambrod", argument[] = HOOK_KEEPER_ARGUMENT;
	_cleanup_free_ char *dir = strdup(hooks_dir());
	struct list sources = { 0 }, mounts = { 0 };
	char ms[24], job[24], policy[16];
	int r;

	r = dir ? hooks_describe(all, n, &sources, &mounts) : -ENOMEM;
	if (r >= 0) {
		char *argv[HOOK_KEEPER_ARGUMENTS + 1] = { name,		argument,   dir,
							  ms,		policy,	    job,
							  sources.text, mounts.text };

		snprintf(ms, sizeof(ms), "%u", h->timeout_ms);
		snprintf(job, sizeof(job), "%" PRIu64, all[0]->request->job);
		snprintf(policy, sizeof(policy), "%s",
			 hooks_policy(all, n) == HOOKS_CONTINUE ? "continue" : "abort");
		r = hooks_spawn(h, argv);
	}
	free(sources.text);
	free(mounts.text);
	return r;
}

/* An answer. -EPIPE: the keeper is gone. @cancel may be NULL. */
static int hooks_hear(struct hooks *h, const struct cancel *cancel)
{
	int r = cancel ? cancel_wait_fd(cancel, h->socket, POLLIN) : 0;
	ssize_t n;

	if (r < 0)
		return r;
	do {
		n = recv(h->socket, &h->last, sizeof(h->last), 0);
	} while (n < 0 && errno == EINTR);
	if (n != sizeof(h->last))
		return -EPIPE;
	memcpy(h->path, h->last.path, sizeof(h->path));
	return 0;
}

int hooks_freeze(struct snapshot *const *all, unsigned int n, struct hooks **ret, struct err *e)
{
	struct hooks *h;
	int r;

	*ret = NULL;
	if (!hooks_wanted(all, n))
		return 0;
	h = calloc(1, sizeof(*h));
	if (!h)
		return err_oom(e);
	h->socket = -EBADF;
	h->status = all[0]->status;
	h->timeout_ms = UINT_MAX;
	for (unsigned int i = 0; i < n; i++)
		h->timeout_ms = MIN(h->timeout_ms, all[i]->request->hook_timeout_ms);
	r = hooks_start(h, all, n);
	if (r >= 0)
		r = hooks_hear(h, NULL);
	if (r >= 0 && h->last.result >= 0)
		r = hooks_hear(h, all[0]->cancel);
	if (r == -ECANCELED) {
		err_set(e, r, "cancelled");
	} else if (r < 0) {
		r = err_set(e, -ECHILD, "the process that runs hooks failed: %s",
			    strerrordesc_np(-r));
	}
	if (r >= 0 && h->last.result < 0) {
		r = err_set(e, h->last.result == -ECANCELED ? -ECANCELED : -ECHILD, "%s",
			    h->last.err.text);
	}
	if (r < 0) {
		hooks_thaw(h);
		return r;
	}
	pause_at("hooked");
	*ret = h;
	return 0;
}

bool hooks_held(const struct hooks *h)
{
	return !h || io_now_ns() < h->last.until_ns;
}

/* Wait for its last answer, and its end. False: it did neither. */
static bool hooks_dismiss(struct hooks *h)
{
	/* the one under way, all that are begun, and their being waited for when killed */
	uint64_t ms = (uint64_t)(h->last.begun + 2) * (h->timeout_ms + 5000u) + GRACE_MS;
	uint64_t end = io_now_ns() + ms * 1000000;
	struct pollfd p = { .fd = h->socket, .events = POLLIN };
	char byte = 't';

	send(h->socket, &byte, 1, MSG_NOSIGNAL);
	/* one answer more when the hooks were cancelled: that of the freeze */
	while (io_now_ns() < end) {
		if (poll(&p, 1, 1000) > 0 && hooks_hear(h, NULL) < 0)
			return false;
		if (p.revents && !h->last.until_ns)
			return true;
	}
	return false;
}

void hooks_thaw(struct hooks *h)
{
	unsigned int failed;
	bool well;
	int r = 0;

	if (!h)
		return;
	well = h->pid > 0 && hooks_dismiss(h);
	if (!well && h->pid > 0)
		kill(h->pid, SIGKILL);
	while (h->pid > 0 && waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
		;
	failed = h->last.failed;
	if (!well && *h->path)
		r = hook_keeper_settle(h->path);
	atomic_fetch_add(&h->status->hooks, h->last.begun);
	atomic_fetch_add(&h->status->hooks_failed, failed + (unsigned int)MAX(r, r < 0));
	close_fd(h->socket);
	free(h);
}
