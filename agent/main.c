/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ambrod - the resident agent: reads the disks of this machine and writes images of them to whoever may ask.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "agent/control.h"
#include "agent/freeze.h"
#include "agent/guardian.h"
#include "agent/hook_keeper.h"
#include "agent/leftover.h"
#include "agent/log.h"
#include "agent/manager.h"
#include "agent/tracker.h"

/* Mounts to freeze, rings, clients and what they pass: far below, but a shell's 1024 is not. */
#define MAIN_OPEN_FILES 65536u

static const char *arg_socket;
static bool arg_recover;

static const char main_help[] =
	"Usage: ambrod [OPTION]…\n"
	"The agent of ambrotype. Takes images of live disks for ambroctl; runs in the foreground, as root.\n"
	"\n"
	"      --socket PATH  listen on PATH (default: the socket passed by systemd, or " CONTROL_SOCKET
	")\n"
	"      --recover      put right what a killed agent may have left, and exit\n"
	"  -h, --help         this text\n"
	"  -V, --version      the version\n"
	"\n"
	"SIGTERM and SIGINT cancel all captures, wait for their end, and end the agent.\n"
	"Exit codes: 0 ended as asked; 1 failed; 2 wrong command line.\n";

/* Returns an exit code, or -1 to go on. */
static int main_parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "recover", no_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads yet */
	while ((c = getopt_long(argc, argv, "hV", options, NULL)) >= 0) {
		switch (c) {
		case 's':
			arg_socket = optarg;
			break;
		case 'r':
			arg_recover = true;
			break;
		case 'h':
			fputs(main_help, stdout);
			return 0;
		case 'V':
			puts("ambrod " AMBRO_VERSION);
			return 0;
		default:
			fputs("Try 'ambrod --help'.\n", stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "ambrod: unexpected argument %s\nTry 'ambrod --help'.\n",
			argv[optind]);
		return 2;
	}
	return -1;
}

/* BPF maps and io_uring buffers are locked memory; lifting a limit is a favour and may fail. */
static void main_lift_limits(void)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY }, locked, files;

	if (setrlimit(RLIMIT_MEMLOCK, &all) < 0 && getrlimit(RLIMIT_MEMLOCK, &locked) == 0) {
		locked.rlim_cur = locked.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &locked);
	}
	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= MAIN_OPEN_FILES)
		return;
	files.rlim_cur = MAIN_OPEN_FILES;
	if (files.rlim_max < MAIN_OPEN_FILES)
		files.rlim_max = MAIN_OPEN_FILES;
	if (setrlimit(RLIMIT_NOFILE, &files) == 0)
		return;
	/* without CAP_SYS_RESOURCE: as far as it goes */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int main_signals(void)
{
	sigset_t stop;

	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	return -pthread_sigmask(SIG_BLOCK, &stop, NULL);
}

/* The socket that systemd passed, -EBADF when there is none, or when the command line names another. */
static int main_passed_socket(struct err *e)
{
	int n = sd_listen_fds(true);

	if (n < 0)
		return err_set_errno(e, n, "cannot take the socket from systemd");
	if (n == 0 || arg_socket)
		return -EBADF;
	if (n > 1)
		return err_set(e, -EINVAL, "systemd passed %d sockets where one is expected", n);
	return SD_LISTEN_FDS_START;
}

/* What a killed agent left: first what stands still, then what stands between a disk and its users. */
static int main_repair(struct err *e)
{
	int r, frozen = freeze_recover(), hooks = hook_keeper_recover();

	if (frozen < 0) {
		log_warning("cannot thaw what an earlier agent froze, or not put back "
			    "rcu_expedited, which it set: %s",
			    strerrordesc_np(-frozen));
	}
	if (frozen > 0)
		log_info("thawed %d file systems that an earlier agent had frozen", frozen);
	if (hooks > 0)
		log_info("called %d hooks to thaw, which an earlier agent had frozen", hooks);
	r = leftover_repair(e);
	if (r < 0)
		log_warning("cannot take down what an earlier agent left: %s", e->text);
	if (r > 0)
		log_info("took down what an earlier agent left: %d devices and files", r);
	return r < 0 ? r : MIN(frozen, 0);
}

static int main_serve(struct err *e)
{
	_cleanup_(manager_freep) struct manager *m = NULL;
	_cleanup_(control_freep) struct control *c = NULL;
	int fd, r;

	r = main_signals();
	if (r < 0)
		return err_set_errno(e, r, "cannot set up signals");
	main_repair(&(struct err){ 0 });
	r = guardian_open(NULL, e);
	if (r < 0)
		return r;
	fd = main_passed_socket(e);
	if (fd < 0 && fd != -EBADF)
		return fd;
	r = manager_new(&m);
	if (r < 0)
		return err_set_errno(e, r, "cannot start");
	r = control_new(m, arg_socket ? arg_socket : CONTROL_SOCKET, fd, &c, e);
	if (r < 0)
		return r;
	tracker_prune();
	log_info("ambrod " AMBRO_VERSION " is ready");
	r = manager_run(m);
	if (r < 0)
		return err_set_errno(e, r, "the event loop failed");
	return 0;
}

int main(int argc, char **argv)
{
	struct err e = { 0 };
	int r;

	if (argc == HOOK_KEEPER_ARGUMENTS && !strcmp(argv[1], HOOK_KEEPER_ARGUMENT))
		return hook_keeper_main(argv);
	r = main_parse(argc, argv);
	if (r >= 0)
		return r;
	if (geteuid() != 0) {
		fputs("ambrod: must run as root: it reads disks and freezes file systems\n",
		      stderr);
		return 1;
	}
	if (arg_recover)
		return main_repair(&e) < 0 ? 1 : 0;
	main_lift_limits();
	r = main_serve(&e);
	if (r < 0) {
		log_error("%s", e.text);
		return 1;
	}
	return 0;
}
