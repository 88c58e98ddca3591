/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/throttle.h"

#include <errno.h>
#include <time.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"

/* How often who waits looks whether he still has to. */
#define LOOK_NS 50000000u

void throttle_init(struct throttle *t, uint64_t rate)
{
	t->rate = rate;
	t->paid_ns = 0;
	atomic_init(&t->lifted, false);
}

static bool throttle_off(const struct throttle *t)
{
	return !t->rate || atomic_load(&t->lifted);
}

bool throttle_waits(const struct throttle *t)
{
	return !throttle_off(t) && t->paid_ns > io_now_ns();
}

int throttle_take(struct throttle *t, uint64_t bytes, const struct cancel *cancel)
{
	uint64_t now = io_now_ns();

	while (!throttle_off(t) && t->paid_ns > now) {
		uint64_t left = MIN(t->paid_ns - now, (uint64_t)LOOK_NS);

		if (cancel_raised(cancel))
			return -ECANCELED;
		nanosleep(&(struct timespec){ .tv_nsec = (long)left }, NULL);
		now = io_now_ns();
	}
	if (throttle_off(t))
		return 0;
	t->paid_ns = MAX(t->paid_ns, now - MIN(now, THROTTLE_BURST_NS)) +
		     (uint64_t)((double)bytes * 1e9 / (double)t->rate);
	return 0;
}

void throttle_lift(struct throttle *t, bool lifted)
{
	atomic_store(&t->lifted, lifted);
}
