/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * err - what went wrong, in words.
 *
 * Library code never logs. A function that can fail for a reason errno does not tell takes a
 * `struct err *` as its last parameter and fills it; the caller owns it, and may pass NULL when it
 * does not care. The text has a fixed size, so that failing never allocates.
 *
 * The text is one line without a trailing full stop or newline: what failed, on what, why and, where
 * there is something to be done, what to do.
 */
#pragma once

#include <stdarg.h>

#define ERR_TEXT_MAX 512

struct err {
	int code; /* negative errno, 0 while nothing has failed */
	char text[ERR_TEXT_MAX];
};

/*
 * Fill @e (which may be NULL) with the formatted text and @code, and return @code, so that
 * `return err_set(e, -EINVAL, "…")` is one statement. An error already there is replaced.
 */
int err_set(struct err *e, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As err_set(), and ": " with the system's words for @code are added at the end. */
int err_set_errno(struct err *e, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "prefix: " before the text that is there; keeps the code. Returns nothing: a caller's e may be NULL. */
void err_prefix(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Out of memory, the same words everywhere. Returns -ENOMEM. */
int err_oom(struct err *e);
