/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tool-crashlog - run a program and note, in order, all that it does to the files below a directory: what a crash of the
 * machine could take back, and what makes it durable. tests/lib/crash-states.py reads the log.
 *
 *	tool-crashlog [OPTION]… LOG ROOT COMMAND [ARGUMENT]…
 *
 *	-K DIR		link each file that gets a name to DIR/<inode>, so that its bytes outlive its deletion
 *	-t, -l		as on a file system without O_TMPFILE, without links
 *	-k CALL:PATH	kill it when it is about to make that call on a path that begins so (below ROOT)
 *	-e CALL:PATH	kill it when that call is just over
 *	-s CALL:PATH	stop it for ever before that call; the log then ends with a line "H"
 *
 * The log is added to. A line is written while the program stands still, before the call ("B": thread, call, inode, path,
 * second path) and after it ("E": thread, result, inode, size, mtime in ns). So the call itself happened between the two, and
 * lines of several programs that write one log are in the order of time. Calls: create, nameless (O_TMPFILE; the path is the
 * folder's), mkdir, write, fsync, link, rename, unlink.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>

#include "lib/base/cleanup.h"

#define TMPFILE_FLAG (O_TMPFILE & ~O_DIRECTORY)

enum call {
	CALL_NONE,
	CALL_CREATE,
	CALL_NAMELESS,
	CALL_MKDIR,
	CALL_WRITE,
	CALL_FSYNC,
	CALL_LINK,
	CALL_RENAME,
	CALL_UNLINK,
};
static const char *const call_names[] = { "none",  "create", "nameless", "mkdir", "write",
					  "fsync", "link",   "rename",	 "unlink" };

/* Which argument is what; -1: it has none. */
static const struct watched {
	unsigned int number;
	enum call call;
	int dir, path, from_dir, from_path, fd;
} watched[] = {
	{ SYS_openat, CALL_CREATE, 0, 1, -1, -1, -1 },
	{ SYS_mkdirat, CALL_MKDIR, 0, 1, -1, -1, -1 },
	{ SYS_linkat, CALL_LINK, 2, 3, 0, 1, -1 },
	{ SYS_renameat2, CALL_RENAME, 2, 3, 0, 1, -1 },
	{ SYS_unlinkat, CALL_UNLINK, 0, 1, -1, -1, -1 },
	{ SYS_fsync, CALL_FSYNC, -1, -1, -1, -1, 0 },
	{ SYS_fdatasync, CALL_FSYNC, -1, -1, -1, -1, 0 },
	{ SYS_write, CALL_WRITE, -1, -1, -1, -1, 0 },
	{ SYS_writev, CALL_WRITE, -1, -1, -1, -1, 0 },
	{ SYS_pwrite64, CALL_WRITE, -1, -1, -1, -1, 0 },
	{ SYS_pwritev, CALL_WRITE, -1, -1, -1, -1, 0 },
	{ SYS_ftruncate, CALL_WRITE, -1, -1, -1, -1, 0 },
	{ SYS_fallocate, CALL_WRITE, -1, -1, -1, -1, 0 },
#ifdef SYS_mkdir
	{ SYS_open, CALL_CREATE, -1, 0, -1, -1, -1 },
	{ SYS_mkdir, CALL_MKDIR, -1, 0, -1, -1, -1 },
	{ SYS_link, CALL_LINK, -1, 1, -1, 0, -1 },
	{ SYS_rename, CALL_RENAME, -1, 1, -1, 0, -1 },
	{ SYS_unlink, CALL_UNLINK, -1, 0, -1, -1, -1 },
#endif
};

/* What a call does to a file below the root. */
struct deed {
	enum call call;
	uint64_t ino;
	char path[PATH_MAX], second[PATH_MAX]; /* below the root; link, rename: to, from */
};

/* A thread of the program. */
struct task {
	pid_t tid;
	bool inside; /* a call was noted, its end was not yet */
	bool dies;   /* when it is over */
	enum call call;
	char file[64]; /* of that call, to look at afterwards */
};

static struct {
	int log;
	const char *keep;
	bool no_tmpfile, no_link;
	const char *kill_at, *end_at, *stop_at;
	char root[PATH_MAX];
	size_t root_len;
	struct task tasks[256];
	size_t n;
} self = { .log = -EBADF };

static void die(const char *what)
{
	perror(what);
	exit(125);
}

static void note(const char *line)
{
	if (write(self.log, line, strlen(line)) != (ssize_t)strlen(line))
		die("tool-crashlog: the log");
}

/* ---- the program's side ------------------------------------------------------------------------- */

static void filter(void)
{
	struct sock_filter code[3 * ARRAY_SIZE(watched) + 16];
	unsigned short n = 0;
	struct sock_fprog program = { 0, code };
	const uint32_t data = SECCOMP_RET_DATA;

#define ADD(...) (code[n++] = (struct sock_filter)__VA_ARGS__)
	ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	if (self.no_link) {
		ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_linkat, 0, 1));
		ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (EPERM & data)));
	}
	/* openat: only what makes something */
	ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 6));
	ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])));
	ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, TMPFILE_FLAG, 0, 1));
	ADD(BPF_STMT(BPF_RET | BPF_K, self.no_tmpfile ? SECCOMP_RET_ERRNO | (EOPNOTSUPP & data)
						      : SECCOMP_RET_TRACE));
	ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT, 0, 1));
	ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
	ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	for (size_t i = 0; i < ARRAY_SIZE(watched); i++) {
		ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, watched[i].number, 0, 1));
		ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
	}
	ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
#undef ADD
	program.len = n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		die("tool-crashlog: seccomp");
}

static void run(char **command)
{
	if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
		die("tool-crashlog: ptrace");
	raise(SIGSTOP);
	filter();
	execvp(command[0], command);
	die(command[0]);
}

/* ---- what a call is about ------------------------------------------------------------------------ */

/* A string of the program's. */
static bool peek(pid_t tid, uint64_t at, char *ret, size_t size)
{
	struct iovec here = { ret, size - 1 };
	/* NOLINTNEXTLINE(performance-no-int-to-ptr): it is no pointer of ours */
	struct iovec there = { (void *)(uintptr_t)at, size - 1 };
	ssize_t n;

	/* not over the end of a page that may be the last */
	if (there.iov_len > 4096 - at % 4096)
		here.iov_len = there.iov_len = 4096 - at % 4096;
	n = process_vm_readv(tid, &here, 1, &there, 1, 0);
	if (n <= 0)
		return false;
	ret[n] = '\0';
	if (strlen(ret) < (size_t)n)
		return true;
	/* it goes on there */
	return (size_t)n + 1 < size && peek(tid, at + (uint64_t)n, ret + n, size - (size_t)n);
}

/* Is @path below the root? What is left of it then; "." for the root. */
static const char *below_root(const char *path)
{
	if (strncmp(path, self.root, self.root_len) != 0)
		return NULL;
	if (!path[self.root_len])
		return ".";
	return path[self.root_len] == '/' ? path + self.root_len + 1 : NULL;
}

static bool link_of(const char *file, char ret[PATH_MAX])
{
	ssize_t n = readlink(file, ret, PATH_MAX - 1);

	if (n < 0)
		return false;
	ret[n] = '\0';
	return true;
}

/* @ret: the path named by two arguments, below the root. */
static bool path_of(pid_t tid, const uint64_t *args, int dir, int path, char ret[PATH_MAX])
{
	char name[PATH_MAX], file[64], base[PATH_MAX], whole[2 * PATH_MAX + 2];
	const char *below;

	if (!peek(tid, args[path], name, sizeof(name)))
		return false;
	if (*name == '/') {
		snprintf(whole, sizeof(whole), "%s", name);
	} else {
		if (dir < 0 || (int)args[dir] == AT_FDCWD) {
			snprintf(file, sizeof(file), "/proc/%d/cwd", tid);
		} else {
			snprintf(file, sizeof(file), "/proc/%d/fd/%d", tid, (int)args[dir]);
		}
		if (!link_of(file, base))
			return false;
		snprintf(whole, sizeof(whole), strcmp(name, ".") ? "%s/%s" : "%s", base, name);
	}
	below = below_root(whole);
	/* the source of a link may be a descriptor's, outside */
	snprintf(ret, PATH_MAX, "%.*s", PATH_MAX - 1, below ? below : whole);
	return below;
}

static uint64_t inode_of(const char *file)
{
	struct stat st;

	return stat(file, &st) == 0 ? st.st_ino : 0;
}

/* The file that gets a name: link() names it by /proc/self/fd/N or by its path. */
static void source_of(pid_t tid, struct deed *d, char ret[PATH_MAX])
{
	static const char by_fd[] = "/proc/self/fd/";

	if (strncmp(d->second, by_fd, sizeof(by_fd) - 1) == 0) {
		snprintf(ret, PATH_MAX, "/proc/%d/fd/%s", tid, d->second + sizeof(by_fd) - 1);
		*d->second = '\0';
	} else {
		/* as long as the two together cannot be: a test's folder */
		snprintf(ret, PATH_MAX, "%.2000s/%.2000s", self.root, d->second);
	}
	d->ino = inode_of(ret);
}

static void keep(const struct deed *d, const char *source)
{
	char file[PATH_MAX];

	if (!self.keep || !d->ino)
		return;
	snprintf(file, sizeof(file), "%s/%" PRIu64, self.keep, d->ino);
	if (linkat(AT_FDCWD, source, AT_FDCWD, file, AT_SYMLINK_FOLLOW) < 0 && errno != EEXIST)
		die("tool-crashlog: cannot keep a file");
}

/* Is it about a file below the root? @file: one to look at when it is done. */
static bool deed_of(pid_t tid, const struct watched *w, const uint64_t *args, struct deed *d,
		    char file[64])
{
	char path[PATH_MAX];
	bool ours;

	*d = (struct deed){ .call = w->call };
	*file = '\0';
	if (w->fd >= 0) {
		const char *below;

		snprintf(file, 64, "/proc/%d/fd/%d", tid, (int)args[w->fd]);
		if (!link_of(file, path))
			return false;
		below = below_root(path);
		if (!below)
			return false;
		snprintf(d->path, sizeof(d->path), "%s", below);
		d->ino = inode_of(file);
		return true;
	}
	ours = path_of(tid, args, w->dir, w->path, d->path);
	if (w->from_path >= 0) {
		path_of(tid, args, w->from_dir, w->from_path, d->second);
		if (ours) {
			source_of(tid, d, path);
			keep(d, path);
		}
	}
	if (w->call == CALL_CREATE) {
		const uint64_t flags = args[w->path + 1];

		if ((flags & TMPFILE_FLAG) == TMPFILE_FLAG) {
			d->call = CALL_NAMELESS;
		} else if (!(flags & O_CREAT)) {
			return false;
		}
	}
	return ours;
}

/* ---- the threads ---------------------------------------------------------------------------------- */

static struct task *task_of(pid_t tid)
{
	for (size_t i = 0; i < self.n; i++) {
		if (self.tasks[i].tid == tid)
			return &self.tasks[i];
	}
	return NULL;
}

static struct task *task_new(pid_t tid)
{
	if (self.n == ARRAY_SIZE(self.tasks))
		die("tool-crashlog: too many threads");
	self.tasks[self.n] = (struct task){ .tid = tid };
	return &self.tasks[self.n++];
}

static void task_gone(pid_t tid)
{
	struct task *t = task_of(tid);

	if (t)
		*t = self.tasks[--self.n];
}

/* "link:images/" */
static bool is_at(const char *at, const struct deed *d)
{
	const char *colon = at ? strchr(at, ':') : NULL;
	const size_t len = colon ? (size_t)(colon - at) : 0;
	const char *name = call_names[d->call];

	return colon && strlen(name) == len && !strncmp(at, name, len) &&
	       !strncmp(d->path, colon + 1, strlen(colon + 1));
}

static void step_begin(struct task *t, const struct ptrace_syscall_info *info)
{
	char line[3 * PATH_MAX];
	struct deed d = { 0 };
	bool ours = false;

	for (size_t i = 0; i < ARRAY_SIZE(watched) && !ours; i++) {
		if (watched[i].number == info->seccomp.nr) {
			ours = deed_of(t->tid, &watched[i], (const uint64_t *)info->seccomp.args,
				       &d, t->file);
		}
	}
	if (!ours) {
		ptrace(PTRACE_CONT, t->tid, 0, 0);
		return;
	}
	t->inside = true;
	t->call = d.call;
	t->dies = is_at(self.end_at, &d);
	if (is_at(self.kill_at, &d)) {
		note("K\n");
		kill(t->tid, SIGKILL);
		return;
	}
	if (is_at(self.stop_at, &d)) {
		note("H\n");
		for (;;)
			pause();
	}
	snprintf(line, sizeof(line), "B\t%d\t%s\t%" PRIu64 "\t%s\t%s\n", t->tid, call_names[d.call],
		 d.ino, d.path, d.second);
	note(line);
	ptrace(PTRACE_SYSCALL, t->tid, 0, 0);
}

static void step_end(struct task *t, const struct ptrace_syscall_info *info)
{
	struct stat st = { 0 };
	char line[256];

	if ((t->call == CALL_CREATE || t->call == CALL_NAMELESS) && !info->exit.is_error)
		snprintf(t->file, sizeof(t->file), "/proc/%d/fd/%d", t->tid, (int)info->exit.rval);
	if (*t->file && stat(t->file, &st) < 0)
		st.st_ino = 0;
	snprintf(line, sizeof(line), "E\t%d\t%" PRId64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n",
		 t->tid, (int64_t)info->exit.rval, (uint64_t)st.st_ino, (uint64_t)st.st_size,
		 (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec);
	note(line);
	t->inside = false;
	if (t->dies) {
		note("K\n");
		kill(t->tid, SIGKILL);
		return;
	}
	ptrace(PTRACE_CONT, t->tid, 0, 0);
}

/* A thread stands still. */
static void stopped(pid_t tid, int status)
{
	struct task *t = task_of(tid);
	struct ptrace_syscall_info info = { 0 };
	const int sig = WSTOPSIG(status);
	long deliver = 0;

	if (!t) {
		/* a new one; what stops it is the kernel's SIGSTOP */
		task_new(tid);
	} else if (status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
		if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) > 0)
			step_begin(t, &info);
		return;
	} else if (sig == (SIGTRAP | 0x80) && t->inside) {
		if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) > 0)
			step_end(t, &info);
		return;
	} else if (sig != SIGTRAP) {
		deliver = sig;
	}
	/* a signal in the middle of a call must not lose its end */
	ptrace(t && t->inside ? PTRACE_SYSCALL : PTRACE_CONT, tid, 0, deliver);
}

static int watch(pid_t child)
{
	const long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
			     PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL |
			     PTRACE_O_TRACESYSGOOD;
	int status, result = 125;
	pid_t tid;

	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SETOPTIONS, child, 0, options) < 0)
		die("tool-crashlog: the program cannot be traced");
	task_new(child);
	ptrace(PTRACE_CONT, child, 0, 0);
	while ((tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (tid > 0 && WIFSTOPPED(status)) {
			stopped(tid, status);
			continue;
		}
		if (tid > 0)
			task_gone(tid);
		if (tid == child)
			result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	return result;
}

int main(int argc, char **argv)
{
	pid_t child;
	int c;

	while ((c = getopt(argc, argv, "+K:tlk:e:s:")) != -1) {
		switch (c) {
		case 'K':
			self.keep = optarg;
			break;
		case 't':
			self.no_tmpfile = true;
			break;
		case 'l':
			self.no_link = true;
			break;
		case 'k':
			self.kill_at = optarg;
			break;
		case 'e':
			self.end_at = optarg;
			break;
		case 's':
			self.stop_at = optarg;
			break;
		default:
			return 2;
		}
	}
	if (argc - optind < 3 || !realpath(argv[optind + 1], self.root)) {
		fputs("usage: tool-crashlog [-K DIR] [-t] [-l] [-k|-e|-s CALL:PATH] LOG "
		      "ROOT COMMAND…\n",
		      stderr);
		return 2;
	}
	self.root_len = strlen(self.root);
	self.log = open(argv[optind], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (self.log < 0)
		die(argv[optind]);
	child = fork();
	if (child < 0)
		die("tool-crashlog: fork");
	if (child == 0)
		run(argv + optind + 2);
	return watch(child);
}
