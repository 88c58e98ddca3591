/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * text - strings from outside (labels, paths, messages) made fit for where they go.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Length in bytes of the UTF-8 character that @text begins with (1 … 4), 0 at the end, -1 when it is not
 * well-formed (overlong, surrogate, beyond U+10FFFF, cut).
 */
int text_utf8_length(const char *text);
/*
 * Copy @text (NULL: "") to @buf with every byte that is not part of well-formed UTF-8 replaced by '?', and
 * with @printable also control characters (C0, DEL, C1). Cut between characters to fit @size, terminated.
 * Returns @buf.
 */
char *text_clean(const char *text, bool printable, char *buf, size_t size);
/* A copy in which each byte that is not part of well-formed UTF-8 is U+FFFD. NULL: out of memory. */
char *text_sanitise(const char *text);
/* @len bytes as a string (to the first 0 among them): strndup() may look for one behind them. NULL: out of memory. */
char *text_of(const void *bytes, size_t len);
/* Octal escapes ("\040", always three digits), with which the kernel writes blanks in paths, become bytes; in place. */
void text_unescape(char *text);
/*
 * A list of strings, ended by NULL; both are owned by it. Add a copy of @text to @list, of which @count is known and which is
 * an allocated list or NULL. 0 or -ENOMEM: it is as it was.
 */
int text_list_add(char ***list, size_t *count, const char *text);
void text_list_free(char **list);
static inline void text_list_freep(char ***list)
{
	text_list_free(*list);
}
/* A device number as sysfs writes it, "MAJOR:MINOR" and nothing more. Returns 0 or -EINVAL. */
int text_device(const char *text, dev_t *ret);
