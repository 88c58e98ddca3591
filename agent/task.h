/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * task - a function in a thread of its own, whose end is an event of the loop.
 *
 * The loop never waits: a thread that has returned from its function says so through an eventfd, and only
 * then is it joined. Everything here but the function itself runs in the loop's thread.
 */
#pragma once

#include <systemd/sd-event.h>

struct task_pool {
	sd_event *event; /* borrowed */
	unsigned int running;
};

/*
 * Call @run(userdata) in a thread, and after it @done(userdata) from the loop, exactly once. Returns 0 or a
 * negative errno (neither is called then). The pool must outlive the task.
 */
int task_start(struct task_pool *pool, void (*run)(void *userdata), void (*done)(void *userdata),
	       void *userdata);
