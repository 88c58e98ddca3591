/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A chunk's frame. Input: the plain length to expect (3 bytes), then the frame. What decodes must be exactly that long;
 * the same bytes as plain text must survive being coded and decoded.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/codec.h"
#include "tests/fuzz/fuzz.h"

static void there_and_back(struct codec *c, const uint8_t *plain, size_t len)
{
	const size_t bound = codec_bound(len);
	_cleanup_free_ uint8_t *frame = malloc(bound), *again = malloc(len + 1);
	ssize_t n;

	if (!frame || !again)
		return;
	n = codec_compress(c, plain, len, frame, bound);
	FUZZ_CHECK(n > 0 && (size_t)n <= bound);
	FUZZ_CHECK(codec_decompress(c, frame, (size_t)n, again, len) == 0);
	FUZZ_CHECK(memcmp(plain, again, len) == 0);
	FUZZ_CHECK(codec_decompress(c, frame, (size_t)n, again, len + 1) == -EBADMSG);
	FUZZ_CHECK(codec_decompress(c, frame, (size_t)n - 1, again, len) == -EBADMSG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(codec_freep) struct codec *c = NULL;
	_cleanup_free_ uint8_t *plain = NULL;
	size_t len;
	int r;

	if (size < 4)
		return 0;
	len = (size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16;
	data += 3;
	size -= 3;
	/* exactly as long as it may be */
	plain = malloc(len ? len : 1);
	if (!plain || codec_new(CODEC_LEVEL_DEFAULT, &c) < 0)
		return 0;
	r = codec_decompress(c, data, size, plain, len);
	FUZZ_CHECK(r == 0 || r == -EBADMSG);
	there_and_back(c, data, size);
	return 0;
}
