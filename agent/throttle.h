/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * throttle - so many bytes a second and not more, over all that is longer than a moment.
 *
 * A token bucket in terms of time: each amount has to wait until those before it are paid for. What was not used is not
 * saved up, but for THROTTLE_BURST_NS.
 *
 * One thread takes; any thread may lift.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cancel.h"

#define THROTTLE_BURST_NS UINT64_C(100000000)

struct throttle {
	uint64_t rate;	  /* bytes per second; 0: no limit */
	uint64_t paid_ns; /* CLOCK_MONOTONIC: until then what was taken pays for itself */
	atomic_bool lifted;
};

void throttle_init(struct throttle *t, uint64_t rate);
/* Would throttle_take() wait? */
bool throttle_waits(const struct throttle *t);
/* Wait until there is room, then take @bytes of it. Returns 0, or -ECANCELED (@cancel may be NULL). Ends its wait when lifted. */
int throttle_take(struct throttle *t, uint64_t bytes, const struct cancel *cancel);
/* While @lifted there is no limit. */
void throttle_lift(struct throttle *t, bool lifted);
