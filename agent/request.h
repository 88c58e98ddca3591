/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * request - what a client asks a capture to be, read from its message and checked.
 */
#pragma once

#include <stdbool.h>

#include <systemd/sd-bus.h>

#include "agent/capture.h"
#include "lib/base/err.h"

/* Longer is nobody's disk. */
#define REQUEST_SOURCE_MAX 4096u

#define REQUEST_FREEZE_MS_MIN 10u
#define REQUEST_FREEZE_MS_MAX 60000u
#define REQUEST_THREADS_MAX   256u
/* Of `together`; the agent puts the user before it. */
#define REQUEST_TOGETHER_NAME_MAX 32u
#define REQUEST_COW_SIZE_MIN	  (8u << 20)
#define REQUEST_HOOK_MS_MIN	  100u
#define REQUEST_HOOK_MS_MAX	  600000u
/* Bytes per second: below, the image is older than what it is good for before it is complete. */
#define REQUEST_LIMIT_MIN (64u << 10)

/*
 * Read `s a{sv}` (source, options) from @m. ret->source, ret->cow, ret->parent_fd and ret->destination_fd belong to the message; output_fd is left -EBADF. -EINVAL
 * with words for an unknown option, one given twice, a wrong type or value.
 */
int request_read(sd_bus_message *m, struct capture_request *ret, struct err *e);
/* Names a COW store that would be written to with root's rights: a device, a directory. */
bool request_names_store(const struct capture_request *r);
/* Can an image be written to @fd (borrowed)? Never blocks. */
int request_check_output(int fd, struct err *e);
