/* SPDX-License-Identifier: GPL-2.0-or-later */
/* utf8 - making text of bytes that may be anything (names from partition tables, mount points). */
#pragma once

#include <stddef.h>

/* Length of the valid sequence (1 to 4 bytes) that @text begins with, or 0 if it begins with none. */
size_t utf8_sequence(const char *text);
/* A copy in which each byte that belongs to no valid sequence is U+FFFD. NULL: out of memory. */
char *utf8_sanitise(const char *text);
