/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The super blocks that decide whether an allocation map is to be believed: FAT, exFAT, btrfs, f2fs. Input: log2 of the
 * partition's size, then pieces of 128 bytes, each of which goes where one of the file systems looks.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/layout/usedblocks_check.h"
#include "tests/fuzz/fuzz.h"

#define PIECE 128u

/* Boot sector, btrfs, f2fs, and two checkpoint packs of f2fs at block 2 and 514. */
static const uint64_t places[] = { 0, 65536, 1024, 8192, 8192 + 128, 2105344, 2105344 + 128 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_close_ int fd = memfd_create("partition", MFD_CLOEXEC);
	uint64_t length, tail = 0;
	char path[64];

	if (fd < 0 || size < 1)
		return 0;
	length = UINT64_C(1) << data[0] % 48;
	data++;
	size--;
	FUZZ_CHECK(ftruncate(fd, 4 << 20) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(places) && i * PIECE < size; i++) {
		FUZZ_CHECK(io_pwrite_all(fd, data + i * PIECE, MIN(size - i * PIECE, PIECE),
					 places[i]) == 0);
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	(void)usedblocks_check_vfat(path);
	(void)usedblocks_check_btrfs(path);
	(void)usedblocks_check_f2fs(path, length);
	if (!usedblocks_exfat_tail(path, length, &tail))
		FUZZ_CHECK(tail < length);
	return 0;
}
