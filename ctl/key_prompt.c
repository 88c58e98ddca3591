/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/key_prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "lib/base/io.h"

/* no terminal takes longer lines */
#define PROMPT_MAX 4096

/*
 * Those that end or stop the process, or that a verb may have taken for itself. Not SIGTTOU and SIGTTIN: they stop a process
 * in the background before it changes the terminal.
 */
static const int prompt_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };

static volatile sig_atomic_t prompt_signal;

static void prompt_signalled(int signo)
{
	prompt_signal = signo;
}

/* They come while prompt_line() waits, and at no other time; @old_mask is for that. */
static void prompt_catch(struct sigaction old[], sigset_t *old_mask)
{
	struct sigaction sa = { .sa_handler = prompt_signalled };
	sigset_t mask;

	sigemptyset(&sa.sa_mask);
	sigemptyset(&mask);
	for (size_t i = 0; i < ARRAY_SIZE(prompt_signals); i++)
		sigaddset(&mask, prompt_signals[i]);
	pthread_sigmask(SIG_BLOCK, &mask, old_mask);
	prompt_signal = 0;
	for (size_t i = 0; i < ARRAY_SIZE(prompt_signals); i++)
		sigaction(prompt_signals[i], &sa, &old[i]);
}

static void prompt_uncatch(const struct sigaction old[], const sigset_t *old_mask)
{
	for (size_t i = 0; i < ARRAY_SIZE(prompt_signals); i++)
		sigaction(prompt_signals[i], &old[i], NULL);
	pthread_sigmask(SIG_SETMASK, old_mask, NULL);
}

/* A line with its newline into @s, whose len becomes what was read. */
static int prompt_line(int fd, struct secret *s, const sigset_t *mask)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t n = 0;

	while (n < s->len && (!n || s->bytes[n - 1] != '\n')) {
		ssize_t got = ppoll(&p, 1, NULL, mask);

		if (got > 0)
			got = read(fd, s->bytes + n, s->len - n);
		if (got < 0)
			return -errno;
		if (!got)
			break;
		n += (size_t)got;
	}
	s->len = n;
	return n ? 0 : -ENODATA;
}

/* Once, with the signals caught; -EINTR: prompt_signal says which came. */
static int prompt_once(int fd, const char *question, struct secret *s)
{
	struct sigaction old[ARRAY_SIZE(prompt_signals)];
	struct termios before, silent;
	sigset_t old_mask;
	int r;

	if (tcgetattr(fd, &before) < 0)
		return -errno;
	silent = before;
	silent.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
	prompt_catch(old, &old_mask);
	r = tcsetattr(fd, TCSAFLUSH, &silent) < 0 ? -errno : 0;
	if (r == 0)
		r = io_write_all(fd, question, strlen(question));
	if (r == 0)
		r = prompt_line(fd, s, &old_mask);
	/* fails only when the terminal is gone */
	(void)tcsetattr(fd, TCSAFLUSH, &before);
	(void)io_write_all(fd, "\n", 1);
	prompt_uncatch(old, &old_mask);
	return prompt_signal ? -EINTR : r;
}

int key_prompt(const char *question, struct secret **ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r;

	s = secret_new(PROMPT_MAX, e);
	if (!s)
		return -ENOMEM;
	fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -ENOTTY, "there is no terminal to ask for a passphrase");
	for (;;) {
		int signo;

		s->len = PROMPT_MAX;
		r = prompt_once(fd, question, s);
		if (r != -EINTR)
			break;
		signo = prompt_signal;
		raise(signo);
		/* it was stopped, and goes on: ask anew */
		if (signo != SIGTSTP)
			return err_set(e, -ECANCELED, "interrupted");
	}
	if (r < 0)
		return err_set_errno(e, r, "cannot read a passphrase from the terminal");
	*ret = TAKE_PTR(s);
	return 0;
}
