/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/base/text.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "lib/base/cleanup.h"

int text_utf8_length(const char *text)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const uint8_t *t = (const uint8_t *)text;
	uint32_t c = t[0];
	int len;

	if (c < 0x80)
		return c ? 1 : 0;
	len = c >= 0xf0 && c < 0xf8 ? 4 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xc0 && c < 0xe0 ? 2 : 0;
	if (!len)
		return -1;
	c &= 0x7fu >> len;
	for (int i = 1; i < len; i++) {
		/* a terminating 0 is no continuation either */
		if ((t[i] & 0xc0) != 0x80)
			return -1;
		c = c << 6 | (t[i] & 0x3f);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return -1;
	return len;
}

static bool text_is_control(const char *text, int len)
{
	const uint8_t *t = (const uint8_t *)text;

	/* U+0080 … U+009F are controls to terminals too */
	return (len == 1 && (t[0] < 0x20 || t[0] == 0x7f)) ||
	       (len == 2 && t[0] == 0xc2 && t[1] < 0xa0);
}

char *text_clean(const char *text, bool printable, char *buf, size_t size)
{
	size_t at = 0;
	int len;

	for (const char *t = text ? text : ""; (len = text_utf8_length(t)) != 0; t += len) {
		bool bad = len < 0 || (printable && text_is_control(t, len));
		size_t n = bad ? 1 : (size_t)len;

		if (len < 0)
			len = 1;
		if (at + n >= size)
			break;
		memcpy(buf + at, bad ? "?" : t, n);
		at += n;
	}
	buf[at] = '\0';
	return buf;
}

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

char *text_sanitise(const char *text)
{
	char *clean = malloc(strlen(text) * strlen(REPLACEMENT) + 1);
	char *at = clean;
	int len;

	if (!clean)
		return NULL;
	for (; (len = text_utf8_length(text)) != 0; text += MAX(len, 1)) {
		at = len > 0 ? mempcpy(at, text, (size_t)len)
			     : mempcpy(at, REPLACEMENT, strlen(REPLACEMENT));
	}
	*at = '\0';
	return clean;
}

/* 0 … 255, or -1 when no escape begins there. */
static int text_escape(const char *text)
{
	int value = 0;

	if (text[0] != '\\' || text[1] > '3')
		return -1;
	for (int i = 1; i < 4; i++) {
		if (text[i] < '0' || text[i] > '7')
			return -1;
		value = value * 8 + (text[i] - '0');
	}
	return value;
}

char *text_of(const void *bytes, size_t len)
{
	char *text = malloc(len + 1);

	if (!text)
		return NULL;
	memcpy(text, bytes, len);
	text[len] = '\0';
	return text;
}

void text_unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		int c = text_escape(from);

		if (c > 0) {
			*to = (char)(uint8_t)c;
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* Moves @at behind the number. */
static int text_u32(const char **at, unsigned int *ret)
{
	const char *p = *at;
	uint64_t v = 0;

	while (*p >= '0' && *p <= '9' && v <= UINT32_MAX)
		v = v * 10 + (unsigned int)(*p++ - '0');
	if (p == *at || v > UINT32_MAX)
		return -EINVAL;
	*at = p;
	*ret = (unsigned int)v;
	return 0;
}

int text_device(const char *text, dev_t *ret)
{
	unsigned int major_number, minor_number;

	if (text_u32(&text, &major_number) < 0 || *text++ != ':' ||
	    text_u32(&text, &minor_number) < 0 || *text)
		return -EINVAL;
	*ret = makedev(major_number, minor_number);
	return 0;
}

int text_list_add(char ***list, size_t *count, const char *text)
{
	char **more = reallocarray(*list, *count + 2, sizeof(*more)), *copy;

	if (!more)
		return -ENOMEM;
	*list = more;
	more[*count] = NULL;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	more[(*count)++] = copy;
	more[*count] = NULL;
	return 0;
}

void text_list_free(char **list)
{
	for (char **at = list; at && *at; at++)
		free(*at);
	free(list);
}
