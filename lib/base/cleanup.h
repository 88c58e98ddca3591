/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cleanup - scope-bound release of what a function owns (user space only).
 *
 *	_cleanup_close_ int fd = -EBADF;
 *	_cleanup_free_ char *name = NULL;
 *	_cleanup_(tracker_freep) struct tracker *t = NULL;
 *	…
 *	*ret = TAKE_PTR(t);
 *
 * Every destructor `foo_free()` accepts NULL and half-built objects; DEFINE_CLEANUP(struct foo, foo_free)
 * makes foo_freep() from it.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f)	__attribute__((cleanup(f)))
#define _cleanup_close_ _cleanup_(close_fdp)
#define _cleanup_free_	_cleanup_(free_ptrp)
#define _cleanup_file_	_cleanup_(file_closep)
#define _cleanup_dir_	_cleanup_(dir_closep)

/* NOLINTBEGIN(bugprone-macro-parentheses): a type cannot stand in parentheses */
#define DEFINE_CLEANUP(type, func)           \
	static inline void func##p(type **p) \
	{                                    \
		func(*p);                    \
	}                                    \
	struct err
/* NOLINTEND(bugprone-macro-parentheses) */

/* Hand over ownership: the value, and the variable is left empty so that its cleanup does nothing. */
#define TAKE_PTR(p)                     \
	({                              \
		typeof(p) _taken = (p); \
		(p) = NULL;             \
		_taken;                 \
	})
#define TAKE_FD(fd)                \
	({                         \
		int _taken = (fd); \
		(fd) = -EBADF;     \
		_taken;            \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)     ((a) < (b) ? (a) : (b))
#define MAX(a, b)     ((a) > (b) ? (a) : (b))
/* @n up or down to a multiple of @unit, a power of two; the type of @n must be wide enough */
#define ROUND_DOWN(n, unit) ((n) & ~((typeof(n))(unit)-1))
#define ROUND_UP(n, unit)   ROUND_DOWN((n) + ((typeof(n))(unit)-1), unit)
#define DIV_ROUND_UP(n, d)  (((n) + (d)-1) / (d))

/* close() if open; keeps errno; always returns -EBADF, to be assigned back. */
static inline int close_fd(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
	return -EBADF;
}

static inline void close_fdp(int *fd)
{
	*fd = close_fd(*fd);
}

static inline void free_ptrp(void *p)
{
	free(*(void **)p);
}

static inline void file_closep(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void dir_closep(DIR **d)
{
	if (*d)
		closedir(*d);
}
