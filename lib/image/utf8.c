/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

size_t utf8_sequence(const char *text)
{
	/* by length: the bits of the first byte, and the least code point that needs that many bytes */
	static const struct {
		uint8_t mask, lead;
		uint32_t least;
	} forms[] = {
		{ 0x80, 0x00, 0x01 },
		{ 0xe0, 0xc0, 0x80 },
		{ 0xf0, 0xe0, 0x800 },
		{ 0xf8, 0xf0, 0x10000 },
	};
	const uint8_t *s = (const uint8_t *)text;

	for (size_t extra = 0; extra < ARRAY_SIZE(forms); extra++) {
		uint32_t code = s[0] & (uint8_t)~forms[extra].mask;

		if ((s[0] & forms[extra].mask) != forms[extra].lead)
			continue;
		/* a terminating NUL is no continuation byte, so this never reads behind the text */
		for (size_t i = 1; i <= extra; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
			code = code << 6 | (s[i] & 0x3f);
		}
		if (code < forms[extra].least || code > 0x10ffff ||
		    (code >= 0xd800 && code <= 0xdfff))
			return 0;
		return extra + 1;
	}
	return 0;
}

char *utf8_sanitise(const char *text)
{
	char *clean = malloc(strlen(text) * strlen(REPLACEMENT) + 1);
	char *at = clean;

	if (!clean)
		return NULL;
	while (*text) {
		size_t n = utf8_sequence(text);

		if (n) {
			memcpy(at, text, n);
			at += n;
			text += n;
		} else {
			memcpy(at, REPLACEMENT, strlen(REPLACEMENT));
			at += strlen(REPLACEMENT);
			text++;
		}
	}
	*at = '\0';
	return clean;
}
