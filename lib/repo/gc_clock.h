/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc_clock - how old a note is.
 *
 * Two clocks tell it: CLOCK_REALTIME of who put the note and of who reads it. When both are the same boot of one machine,
 * CLOCK_BOOTTIME tells it, too, which nobody can set and no server puts right; then the smaller age counts. So a clock that
 * was set ahead since makes nothing old. Between two boots or two machines both clocks have to be right.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/repo/gc_object.h"

struct gc_clock {
	uint64_t now_ns;	    /* CLOCK_REALTIME */
	uint64_t boot_ns;	    /* CLOCK_BOOTTIME */
	uint8_t boot[GC_BOOT_SIZE]; /* which boot that is of; zeros: it cannot be told */
};

/* The time now. @given_ns not 0: that is the time, and of no boot. */
void gc_clock_read(struct gc_clock *ret, uint64_t given_ns);
/* Note in @o that it is put now. */
void gc_clock_stamp(const struct gc_clock *c, struct gc_object *o);
/* Nanoseconds; 0 also for what is from the future. */
uint64_t gc_clock_age(const struct gc_clock *c, const struct gc_object *o);
