/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hex - bytes as lower-case hexadecimal digits. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* @ret holds 2 * @len + 1 bytes. Returns @ret. */
char *hex_encode(const uint8_t *bytes, size_t len, char *ret);
/* Exactly 2 * @len digits, either case, and nothing more. Returns 0 or -EINVAL. */
int hex_decode(const char *text, uint8_t *ret, size_t len);
