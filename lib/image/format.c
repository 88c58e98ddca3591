/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/format.h"

/* magic; a one-segment frame with a 4-byte dictionary id; the id; content size 0; an empty last raw block */
const uint8_t ambro_guard[AMBRO_GUARD_SIZE] = {
	0x28, 0xb5, 0x2f, 0xfd, 0x23, 'A', 'M', 'B', 'R', 0x00, 0x01, 0x00, 0x00,
};
