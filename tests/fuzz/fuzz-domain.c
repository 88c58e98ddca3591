/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What helper programs say of a file system: a domain file, and btrfs' chunk tree as text. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/extent.h"
#include "lib/layout/usedblocks.h"
#include "lib/layout/usedblocks_btrfs.h"

/* NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(const struct extent_set *s, uint64_t length)
{
	extent_for_each(x, s)
		if (!x->length || x->start > length || x->length > length - x->start)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t lengths[] = { 0, 4096, UINT64_C(1) << 40, UINT64_MAX };
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct extent_set used = { 0 }, chunks = { 0 };

		if (usedblocks_parse_domain(text, lengths[i], &used) == 0)
			check_inside(&used, lengths[i]);
		if (usedblocks_btrfs_parse_chunks(text, lengths[i], &chunks) == 0)
			check_inside(&chunks, lengths[i]);
		extent_set_done(&used);
		extent_set_done(&chunks);
	}
	free(text);
	return 0;
}
