/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/close_range.h>

#include "agent/hook_state.h"
#include "agent/log.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/text.h"

/* How often to look whether it has ended, where the end of its output does not tell. */
#define LOOK_MS 20
/* So long a killed one is waited for: one that waits for a stuck disk does not end. */
#define KILL_WAIT_NS UINT64_C(5000000000)
#define PATH_VALUE   "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const char *hook_phase_name(enum hook_phase p)
{
	return p == HOOK_FREEZE ? "freeze" : "thaw";
}

/* ---- which ------------------------------------------------------------------------------------- */

static int hook_check_owner(const char *path, const struct stat *st, struct err *e)
{
	if (st->st_uid != 0)
		return err_set(e, -EACCES, "%s does not belong to root: chown root it", path);
	if (st->st_mode & (S_IWGRP | S_IWOTH)) {
		return err_set(e, -EACCES, "others than root may write to %s: chmod go-w it", path);
	}
	return 0;
}

int hook_check(const char *dir, const char *name, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	struct stat st;

	if (*name == '.')
		return 0;
	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return err_oom(e);
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_set_errno(e, -errno, "%s", path);
	if (S_ISDIR(st.st_mode))
		return 0;
	/* who may change what a link leads to is another question than who may change the link */
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EACCES, "%s is not a regular file: copy the hook here", path);
	if (!(st.st_mode & S_IXUSR))
		return 0;
	return hook_check_owner(path, &st, e) < 0 ? -EACCES : 1;
}

static int hook_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int hook_names(const char *dir, char ***ret, struct err *e)
{
	_cleanup_(text_list_freep) char **names = calloc(1, sizeof(*names));
	_cleanup_dir_ DIR *d = opendir(dir);
	const struct dirent *entry;
	struct stat st;
	size_t n = 0;

	if (!d && errno != ENOENT)
		return err_set_errno(e, -errno, "%s", dir);
	if (!names)
		return err_oom(e);
	if (d && (fstat(dirfd(d), &st) < 0 || hook_check_owner(dir, &st, e) < 0))
		return -EACCES;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	while (d && (entry = readdir(d))) {
		if (hook_check(dir, entry->d_name, NULL) != 0 &&
		    text_list_add(&names, &n, entry->d_name) < 0)
			return err_oom(e);
	}
	qsort(names, n, sizeof(*names), hook_compare);
	*ret = TAKE_PTR(names);
	return (int)n;
}

/* ---- running ----------------------------------------------------------------------------------- */

/* Everything that the child needs, made before fork(): afterwards it may not allocate. */
struct hook_child {
	char *path, *source, *mounts;
	char job[48], phase[32], timeout[48];
	char *argv[3], *env[10];
	char *note; /* for the state file */
	size_t note_len;
	pid_t keeper;
};

static void hook_child_done(struct hook_child *c)
{
	free(c->path);
	free(c->source);
	free(c->mounts);
	free(c->note);
}

static int hook_child_prepare(struct hook_child *c, const struct hook_set *set, const char *name,
			      enum hook_phase phase)
{
	static char path[] = "PATH=" PATH_VALUE, lang[] = "LANG=C.UTF-8", home[] = "HOME=/root";
	size_t n = 0;

	if (asprintf(&c->path, "%s/%s", set->dir, name) < 0 ||
	    asprintf(&c->source, "AMBRO_SOURCE=%s", set->source) < 0 ||
	    asprintf(&c->mounts, "AMBRO_MOUNTS=%s", set->mounts) < 0)
		return -ENOMEM;
	c->note = hook_state_note(phase, name, &c->note_len);
	if (!c->note)
		return -ENOMEM;
	snprintf(c->job, sizeof(c->job), "AMBRO_JOB=%" PRIu64, set->job);
	snprintf(c->phase, sizeof(c->phase), "AMBRO_PHASE=%s", hook_phase_name(phase));
	snprintf(c->timeout, sizeof(c->timeout), "AMBRO_TIMEOUT=%u",
		 DIV_ROUND_UP(set->timeout_ms, 1000));
	c->keeper = getpid();
	c->argv[0] = c->path;
	c->argv[1] = strchr(c->phase, '=') + 1;
	/* nothing of the agent's own: not its sockets, not its watchdog */
	c->env[n++] = path;
	c->env[n++] = lang;
	c->env[n++] = home;
	c->env[n++] = c->source;
	c->env[n++] = c->mounts;
	c->env[n++] = c->job;
	c->env[n++] = c->phase;
	c->env[n++] = c->timeout;
	return 0;
}

/* Behind fork(): async-signal-safe functions only, for there may be other threads. */
static void __attribute__((noreturn))
hook_child_main(const struct hook_child *c, enum hook_phase phase, int state_fd, int out)
{
	static const char sorry[] = "it cannot be executed\n";
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;

	setpgid(0, 0);
	/* a freeze that nobody waits for any more must not come after the thaw */
	if (phase == HOOK_FREEZE) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* it was dead before we asked to be told */
		if (getppid() != c->keeper)
			_exit(126);
	}
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
	    dup2(out, STDERR_FILENO) < 0)
		_exit(126);
	close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
	hook_state_sign(c->note, getpid());
	/* the lock of the state file is ours too until execve(): nobody reads it between these two */
	if (write(state_fd, c->note, c->note_len) != (ssize_t)c->note_len)
		_exit(126);
	execve(c->path, c->argv, c->env);
	(void)!write(STDERR_FILENO, sorry, sizeof(sorry) - 1);
	_exit(127);
}

/* What it says, as lines of the log. */
struct hook_output {
	const struct hook_set *set;
	const char *name, *phase;
	int fd; /* -EBADF: ended */
	char line[HOOK_LINE_MAX + 1];
	size_t used;
	unsigned int lines;
	uint64_t dropped; /* bytes */
};

static void hook_log(const struct hook_output *o, int priority, const char *text)
{
	struct log_fields f = { .job = o->set->job, .source = o->set->source, .hook = o->name };

	log_message(priority, &f, "hook %s %s: %s", o->name, o->phase, text);
}

static void hook_output_line(struct hook_output *o)
{
	o->line[o->used] = '\0';
	if (o->lines < HOOK_LINES_MAX) {
		o->lines++;
		hook_log(o, LOG_INFO, o->line);
	} else {
		o->dropped += o->used;
	}
	o->used = 0;
}

static void hook_output_take(struct hook_output *o, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (text[i] != '\n')
			o->line[o->used++] = text[i];
		if (o->used == HOOK_LINE_MAX || (text[i] == '\n' && o->used))
			hook_output_line(o);
	}
}

/* What is there by now. */
static void hook_output_read(struct hook_output *o)
{
	char buffer[4096];
	ssize_t n;

	/* bounded: whoever writes without end is not waited for here */
	for (unsigned int i = 0; i < 16 && o->fd >= 0; i++) {
		n = read(o->fd, buffer, sizeof(buffer));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			o->fd = close_fd(o->fd);
		} else {
			hook_output_take(o, buffer, (size_t)n);
		}
	}
}

static void hook_output_end(struct hook_output *o)
{
	char text[64];

	hook_output_read(o);
	if (o->used)
		hook_output_line(o);
	if (o->dropped) {
		snprintf(text, sizeof(text), "… and %" PRIu64 " more bytes", o->dropped);
		hook_log(o, LOG_INFO, text);
	}
	o->fd = close_fd(o->fd);
}

/* Has it ended? It stays a zombie, so that its number is still its own. */
static bool hook_ended(pid_t pid, siginfo_t *info)
{
	info->si_pid = 0;
	return waitid(P_PID, (id_t)pid, info, WEXITED | WNOHANG | WNOWAIT) < 0 || info->si_pid;
}

/* Until its end, its deadline, or the interrupt. 0: it ended. */
static int hook_wait(pid_t pid, struct hook_output *o, uint64_t deadline, int interrupt_fd,
		     siginfo_t *info)
{
	for (;;) {
		struct pollfd p[] = { { .fd = o->fd, .events = POLLIN },
				      { .fd = interrupt_fd, .events = POLLIN } };

		if (hook_ended(pid, info))
			return 0;
		if (io_now_ns() >= deadline)
			return -ETIME;
		if (poll(p, 2, LOOK_MS) <= 0)
			continue;
		if (p[1].revents)
			return -ECANCELED;
		hook_output_read(o);
	}
}

static void hook_kill(pid_t pid, struct hook_output *o)
{
	uint64_t deadline = io_now_ns() + KILL_WAIT_NS;
	siginfo_t info;

	kill(-pid, SIGKILL);
	if (hook_wait(pid, o, deadline, -EBADF, &info) < 0)
		hook_log(o, LOG_WARNING, "it does not end even when killed; it is left behind");
}

/* How it ended, in words; takes it off the list of processes. */
static int hook_verdict(pid_t pid, int r, const siginfo_t *info, const struct hook_output *o,
			const struct hook_set *set, struct err *e)
{
	waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED | WNOHANG);
	if (r == -ETIME) {
		return err_set(e, r,
			       "hook %s %s took longer than %.3g s and was killed "
			       "(--hook-timeout allows more)",
			       o->name, o->phase, set->timeout_ms / 1000.0);
	}
	if (r < 0)
		return err_set(e, r, "hook %s %s was killed: cancelled", o->name, o->phase);
	if (info->si_code != CLD_EXITED) {
		return err_set(e, -ECHILD, "hook %s %s was ended by signal %d", o->name, o->phase,
			       info->si_status);
	}
	if (info->si_status != 0) {
		return err_set(e, -ECHILD, "hook %s %s failed with exit status %d", o->name,
			       o->phase, info->si_status);
	}
	return 0;
}

static int hook_start(const struct hook_child *c, enum hook_phase phase, int state_fd,
		      struct hook_output *o, struct err *e)
{
	int pair[2];
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_set_errno(e, -errno, "hook %s", o->name);
	pid = fork();
	if (pid == 0)
		hook_child_main(c, phase, state_fd, pair[1]);
	close(pair[1]);
	o->fd = pair[0];
	/* ours only: what the hook writes to may well block */
	fcntl(o->fd, F_SETFL, O_NONBLOCK);
	if (pid < 0)
		return err_set_errno(e, -ECHILD, "hook %s cannot be started", o->name);
	/* whoever of the two comes first: it is there before anyone may kill it */
	setpgid(pid, pid);
	return pid;
}

int hook_run(const struct hook_set *set, const char *name, enum hook_phase phase, int state_fd,
	     int interrupt_fd, struct err *e)
{
	_cleanup_(hook_child_done) struct hook_child c = { 0 };
	struct hook_output o = {
		.set = set, .name = name, .phase = hook_phase_name(phase), .fd = -EBADF
	};
	uint64_t deadline = io_now_ns() + (uint64_t)set->timeout_ms * 1000000;
	siginfo_t info = { 0 };
	int pid, r;

	if (hook_child_prepare(&c, set, name, phase) < 0)
		return err_oom(e);
	pid = hook_start(&c, phase, state_fd, &o, e);
	if (pid < 0) {
		close_fd(o.fd);
		return pid;
	}
	r = hook_wait(pid, &o, deadline, interrupt_fd, &info);
	/* of one that failed nothing goes on; one that froze may leave behind who holds it so */
	if (r < 0) {
		hook_kill(pid, &o);
	} else if (info.si_code != CLD_EXITED || info.si_status != 0) {
		kill(-pid, SIGKILL);
	}
	hook_output_end(&o);
	return hook_verdict(pid, r, &info, &o, set, e);
}
