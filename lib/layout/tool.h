/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tool - run a helper program and read what it says, within bounds.
 *
 * The child gets no descriptor of ours, an environment of its own (fixed PATH, LC_ALL=C), /dev/null as
 * input, and is killed with its process group when it takes too long or says too much.
 */
#pragma once

#include <stdbool.h>

#include "lib/base/err.h"

#define TOOL_OUTPUT_MAX	 (64u << 20) /* a domain file of a million ranges is 28 MB */
#define TOOL_TIMEOUT_SEC 300u	     /* partclone takes minutes on a file system of many TiB */

/* Where a helper is to write what is asked of it when its standard output is full of other words. */
#define TOOL_ANSWER_PATH "/proc/self/fd/3"

/*
 * Run @argv (argv[0]: a name looked up in the system's folders only; NULL-terminated). On exit status 0
 * @ret_output is what it wrote to its standard output, or with @apart to TOOL_ANSWER_PATH, terminated, owned
 * by the caller. Returns 0; -ENOENT: no such program; -ECHILD: it failed; -ETIMEDOUT, -EFBIG or another
 * negative errno. @e has words.
 */
int tool_run(const char *const argv[], bool apart, char **ret_output, struct err *e);
