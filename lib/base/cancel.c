/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/base/cancel.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

int cancel_init(struct cancel *c)
{
	atomic_init(&c->raised, false);
	c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return c->event_fd < 0 ? -errno : 0;
}

void cancel_done(struct cancel *c)
{
	c->event_fd = close_fd(c->event_fd);
}

void cancel_raise(struct cancel *c)
{
	uint64_t one = 1;
	int saved = errno;

	if (!atomic_exchange(&c->raised, true)) {
		/* never fails: the counter is far from its limit */
		ssize_t n = write(c->event_fd, &one, sizeof(one));

		(void)n;
	}
	errno = saved;
}

bool cancel_raised(const struct cancel *c)
{
	return c && atomic_load(&c->raised);
}

int cancel_fd(const struct cancel *c)
{
	return c->event_fd;
}

int cancel_wait_fd(const struct cancel *c, int fd, short events)
{
	struct pollfd p[2] = {
		{ .fd = fd, .events = events },
		{ .fd = c ? c->event_fd : -1, .events = POLLIN },
	};

	for (;;) {
		int n = poll(p, 2, -1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (p[1].revents)
			return -ECANCELED;
		if (p[0].revents)
			return 0;
	}
}
