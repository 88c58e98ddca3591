/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * parent_server - the client's end of parent.h: answers what the agent asks, by callbacks.
 *
 * Requests are believed in nothing but their size: a callback is given region and number as they came.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/err.h"
#include "lib/image/parent.h"

/*
 * Each is called in parent_serve()'s thread, one at a time, and may block. A negative return becomes the answer's status,
 * and serving goes on.
 */
struct parent_server_ops {
	/* The manifest's text, which stays the callback's and valid until the next call. 0 or a negative errno. */
	int (*manifest)(void *ctx, const char **ret, size_t *ret_len);
	/* The page's body into @ret, which holds AMBRO_PAGE_MAX bytes. Its length or a negative errno. */
	ssize_t (*page)(void *ctx, uint32_t region, uint64_t number, void *ret);
	/* The chunk's plain bytes into @ret, which holds PARENT_CHUNK_MAX bytes. Their number or a negative errno. */
	ssize_t (*chunk)(void *ctx, uint32_t region, uint64_t number, void *ret);
};

/*
 * Answer on @fd (borrowed, blocking) until the other end closes it or shutdown(2) is called on it: then 0. -EBADMSG: what
 * came is no request. Any other negative errno: the socket failed. Blocks; never raises SIGPIPE.
 */
int parent_serve(int fd, const struct parent_server_ops *ops, void *ctx, struct err *e);
