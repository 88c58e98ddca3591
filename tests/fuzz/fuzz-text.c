/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Texts from outside: labels and paths made fit for a terminal and for JSON, escapes of /proc, device numbers and other
 * numbers of sysfs, hexadecimal ids, names of levels. Input: the text.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/base/text.h"
#include "lib/image/codec.h"
#include "tests/fuzz/fuzz.h"

static void clean_to(const char *text, bool printable, size_t size)
{
	/* exactly as long as it may be */
	_cleanup_free_ char *buf = malloc(size);

	if (!buf)
		return;
	text_clean(text, printable, buf, size);
	FUZZ_CHECK(strlen(buf) < size);
	for (const char *t = buf; *t; t += text_utf8_length(t)) {
		FUZZ_CHECK(text_utf8_length(t) > 0);
		FUZZ_CHECK(!printable || (uint8_t)*t >= 0x20);
	}
}

static void clean(const char *text)
{
	const size_t len = strlen(text);

	for (size_t size = 1; size < len + 2; size += 1 + size / 2) {
		clean_to(text, false, size);
		clean_to(text, true, size);
	}
}

static void sanitise(const char *text)
{
	_cleanup_free_ char *made = text_sanitise(text), *again = NULL;

	if (!made)
		return;
	for (const char *t = made; *t; t += text_utf8_length(t))
		FUZZ_CHECK(text_utf8_length(t) > 0);
	again = text_sanitise(made);
	FUZZ_CHECK(!again || !strcmp(made, again));
}

static void unescape(const char *text)
{
	_cleanup_free_ char *copy = strdup(text);

	if (!copy)
		return;
	text_unescape(copy);
	FUZZ_CHECK(strlen(copy) <= strlen(text));
	FUZZ_CHECK(strchr(text, '\\') || !strcmp(copy, text));
}

static void numbers(const char *text)
{
	uint8_t bytes[16], hex[2 * sizeof(bytes) + 1];
	dev_t dev;
	int level;

	if (text_device(text, &dev) == 0)
		FUZZ_CHECK(strspn(text, "0123456789:") == strlen(text));
	if (codec_level_parse(text, &level) == 0)
		FUZZ_CHECK(level >= -7 && level <= CODEC_LEVEL_MAX);
	if (hex_decode(text, bytes, sizeof(bytes)) == 0) {
		hex_encode(bytes, sizeof(bytes), (char *)hex);
		FUZZ_CHECK(strcasecmp((char *)hex, text) == 0);
	}
}

/* As a file of sysfs. */
static void attribute(const uint8_t *data, size_t size)
{
	_cleanup_close_ int fd = memfd_create("attribute", MFD_CLOEXEC);
	char path[64], line[32];
	uint64_t v;

	if (fd < 0)
		return;
	FUZZ_CHECK(io_write_all(fd, data, size) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	FUZZ_CHECK(io_read_line(path, line, sizeof(line)) < (ssize_t)sizeof(line));
	FUZZ_CHECK(!strchr(line, '\n'));
	(void)io_read_u64(path, &v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = malloc(size + 1);

	if (!text)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	clean(text);
	sanitise(text);
	unescape(text);
	numbers(text);
	attribute(data, size);
	return 0;
}
