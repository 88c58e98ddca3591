/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/hook_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/run_dir.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/text.h"

/* Thaws that could not be begun (no process to be had) are tried again. */
#define THAW_ROUNDS 3u

struct keeper {
	struct hook_set set;
	bool go_on; /* when a hook fails */
	struct hook_state state;
	unsigned int begun, failed;
};

static void keeper_warn(const struct hook_set *set, const char *name, const struct err *e)
{
	struct log_fields f = {
		.message_id = LOG_ID_HOOK_FAILED,
		.job = set->job,
		.source = set->source,
		.hook = name,
	};

	log_message(LOG_WARNING, &f, "job %llu: %s", (unsigned long long)set->job, e->text);
}

/* ---- freeze ------------------------------------------------------------------------------------- */

static int keeper_freeze_one(struct keeper *k, const char *name, struct err *e)
{
	int r = hook_check(k->set.dir, name, e);

	if (r <= 0)
		return r;
	k->begun++;
	return hook_run(&k->set, name, HOOK_FREEZE, k->state.fd, HOOK_KEEPER_SOCKET, e);
}

/* A hook that failed, or (without @name) all of them: told in any case, borne or not. A cancellation is no failure of theirs. */
static int keeper_failed(struct keeper *k, const char *name, int r, const struct err *e)
{
	k->failed++;
	if (r == -ECANCELED)
		return r;
	keeper_warn(&k->set, name, e);
	return k->go_on ? 0 : r;
}

static int keeper_freeze(struct keeper *k, struct err *e)
{
	_cleanup_(text_list_freep) char **names = NULL;
	int r = hook_names(k->set.dir, &names, e);

	if (r < 0)
		return keeper_failed(k, NULL, r, e);
	for (char **n = names; r >= 0 && *n; n++) {
		r = keeper_freeze_one(k, *n, e);
		if (r < 0)
			r = keeper_failed(k, *n, r, e);
	}
	return r;
}

/* ---- thaw --------------------------------------------------------------------------------------- */

static int keeper_thaw_one(const struct hook_set *set, const char *name, int state_fd,
			   struct err *e)
{
	/* it may have been changed since; what others may write to is never run */
	int r = hook_check(set->dir, name, e);

	if (r < 0)
		return r;
	r = hook_run(set, name, HOOK_THAW, state_fd, -EBADF, e);
	/* where that cannot be noted it may be thawed once more, which is better than not at all */
	hook_state_thawed(state_fd, name);
	return r;
}

/* Each that is to be thawed, last first. Returns how many there were. */
static int keeper_thaw_round(const struct hook_state *s, unsigned int *failed, struct err *e)
{
	struct hook_notes notes;
	int r = hook_state_read(s, &notes, e);

	if (r < 0)
		return r;
	r = (int)notes.count;
	for (size_t i = notes.count; i > 0; i--) {
		const char *name = notes.frozen[i - 1].name;

		if (keeper_thaw_one(&notes.set, name, s->fd, e) < 0) {
			++*failed;
			keeper_warn(&notes.set, name, e);
		}
	}
	hook_notes_done(&notes);
	return r;
}

/* All of @s, which is removed unless some could not even be begun. How many there were, or a negative errno. */
static int keeper_thaw(struct hook_state *s, unsigned int *failed, struct err *e)
{
	int found = 0, r = 1;

	for (unsigned int i = 0; i < THAW_ROUNDS && r > 0; i++) {
		/* the first round found them all; a next one finds what was not begun */
		if (i > 1)
			nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
		r = keeper_thaw_round(s, failed, e);
		found = MAX(found, r);
	}
	if (r == 0) {
		hook_state_remove(s);
		return found;
	}
	hook_state_close(s);
	return r < 0 ? r : -EAGAIN;
}

/* ---- the process -------------------------------------------------------------------------------- */

static void keeper_answer(const struct keeper *k, int result, uint64_t until_ns,
			  const struct err *e)
{
	struct hook_answer a = {
		.result = result,
		.begun = k->begun,
		.failed = k->failed,
		.until_ns = until_ns,
		.err = *e,
	};

	memcpy(a.path, k->state.path, sizeof(a.path));
	/* when the agent is gone nobody misses it */
	send(HOOK_KEEPER_SOCKET, &a, sizeof(a), MSG_NOSIGNAL);
}

/* Until we are told, the agent has gone, or it has been too long. */
static void keeper_hold(const struct keeper *k, uint64_t until_ns)
{
	struct pollfd p = { .fd = HOOK_KEEPER_SOCKET, .events = POLLIN };

	for (;;) {
		uint64_t now = io_now_ns();
		int ms = now >= until_ns ? 0 : (int)MIN((until_ns - now) / 1000000 + 1, 60000u);
		struct err e;

		if (poll(&p, 1, ms) > 0)
			return;
		if (io_now_ns() < until_ns)
			continue;
		err_set(&e, -ETIME, "the hooks are thawed: they were held for %u ms",
			k->set.timeout_ms);
		keeper_warn(&k->set, NULL, &e);
		return;
	}
}

static void keeper_run(struct keeper *k)
{
	struct err e = { 0 };
	uint64_t until_ns;
	char byte;
	int r;

	r = hook_state_new(&k->set, &k->state, &e);
	keeper_answer(k, r, 0, &e);
	if (r < 0)
		return;
	r = keeper_freeze(k, &e);
	until_ns = io_now_ns() + (uint64_t)k->set.timeout_ms * 1000000;
	keeper_answer(k, r, until_ns, &e);
	keeper_hold(k, until_ns);
	/* what is not taken out at our end would reset the connection, and the last answer be lost */
	(void)!recv(HOOK_KEEPER_SOCKET, &byte, 1, MSG_DONTWAIT);
	r = keeper_thaw(&k->state, &k->failed, &e);
	keeper_answer(k, MIN(r, 0), 0, &e);
}

int hook_keeper_main(char **argv)
{
	struct keeper k = {
		.set = { .dir = argv[2],
			 .source = argv[6],
			 .mounts = argv[7],
			 .job = strtoull(argv[5], NULL, 10),
			 .timeout_ms = (unsigned int)strtoul(argv[3], NULL, 10) },
		.go_on = !strcmp(argv[4], "continue"),
		.state = { .fd = -EBADF },
	};
	sigset_t all;

	/* who stops the agent may signal its whole group: we end when the hooks are thawed */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	if (fcntl(HOOK_KEEPER_SOCKET, F_SETFD, FD_CLOEXEC) < 0)
		return 1;
	keeper_run(&k);
	return k.failed ? 1 : 0;
}

/* ---- for keepers that are dead ------------------------------------------------------------------ */

/* As keeper_thaw(); 0 also when another one deals with it. */
static int keeper_settle(const char *path, bool wait, unsigned int *failed)
{
	struct hook_state s = { .fd = -EBADF };
	struct err e = { 0 };
	int r = hook_state_take(path, wait, &s, &e);

	if (r > 0)
		r = keeper_thaw(&s, failed, &e);
	if (r < 0) {
		log_warning("hooks that a capture froze are not all thawed (%s): %s", path,
			    *e.text ? e.text : "no process could be started");
	}
	return r;
}

int hook_keeper_settle(const char *path)
{
	unsigned int failed = 0;
	int r = keeper_settle(path, true, &failed);

	return r < 0 ? r : (int)failed;
}

int hook_keeper_recover(void)
{
	_cleanup_dir_ DIR *d = opendir(RUN_DIR);
	const size_t prefix = strlen(HOOK_STATE_PREFIX);
	const struct dirent *entry;
	int found = 0, bad = 0;

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	while (d && (entry = readdir(d))) {
		unsigned int failed = 0;
		char path[HOOK_STATE_PATH];
		int r;

		if (strncmp(entry->d_name, HOOK_STATE_PREFIX, prefix) != 0 ||
		    snprintf(path, sizeof(path), RUN_DIR "/%s", entry->d_name) >= (int)sizeof(path))
			continue;
		r = keeper_settle(path, false, &failed);
		found += MAX(r, 0);
		bad = bad < 0 ? bad : MIN(r, 0);
	}
	return bad < 0 ? bad : found;
}
