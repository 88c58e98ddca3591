/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * capture - one capture from start to end, in the calling thread. Knows nothing of D-Bus.
 */
#pragma once

#include "agent/capture_status.h"
#include "lib/base/cancel.h"
#include "lib/base/err.h"

/*
 * Returns 0; -ECANCELED; or another negative errno with @e filled. With request->ignore_read_errors and
 * unreadable bytes it returns 0 and status->bad says how many. Never leaves a file system frozen, and never
 * writes a manifest of something that is not one instant. @c may be raised from any thread.
 */
int capture_run(const struct capture_request *request, struct capture_status *status,
		struct cancel *c, struct err *e);
