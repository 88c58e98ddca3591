/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk's first and last sectors: its layout is probed (as a capture does), its contents are described and its GPT is fitted
 * to a larger disk (as a restore does). Input: flags (bit 0: sectors of 4096 bytes), how many of the bytes go to the
 * end of the disk, in sectors, then the bytes.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ctl/contents.h"
#include "ctl/parttable.h"
#include "lib/base/io.h"
#include "lib/layout/layout.h"
#include "tests/fuzz/fuzz.h"

#define DISK_BYTES (UINT64_C(8) << 20)

static void check_layout(const struct layout *l)
{
	uint64_t at = 0;

	FUZZ_CHECK(l->n_regions > 0 && l->table);
	for (size_t i = 0; i < l->n_regions; i++) {
		const struct layout_region *r = &l->regions[i];

		FUZZ_CHECK(r->start == at && r->length > 0 && r->length <= DISK_BYTES - at);
		FUZZ_CHECK((r->kind == LAYOUT_PARTITION) == (r->partition > 0));
		for (size_t j = 0; j < i; j++)
			FUZZ_CHECK(!r->partition || l->regions[j].partition != r->partition);
		at += r->length;
	}
	FUZZ_CHECK(at == DISK_BYTES);
}

static void describe(int fd)
{
	_cleanup_(contents_freep) struct contents *c = NULL;
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	FILE *out;

	if (contents_probe(fd, 0, DISK_BYTES, &c, NULL) < 0)
		return;
	out = open_memstream(&text, &len);
	if (!out)
		return;
	contents_print(c, "  ", out);
	FUZZ_CHECK(fclose(out) == 0);
	for (size_t i = 0; i < len; i++)
		FUZZ_CHECK((uint8_t)text[i] >= 0x20 || text[i] == '\n');
}

static int make_disk(const uint8_t *data, size_t size, size_t sector)
{
	size_t tail;
	int fd = memfd_create("disk", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0 && ftruncate(fd, (off_t)DISK_BYTES) == 0);
	tail = MIN(data[0] * sector, size - 1);
	data++;
	size--;
	FUZZ_CHECK(io_pwrite_all(fd, data, size - tail, 0) == 0);
	FUZZ_CHECK(io_pwrite_all(fd, data + size - tail, tail, DISK_BYTES - tail) == 0);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(layout_freep) struct layout *l = NULL;
	_cleanup_close_ int fd = -EBADF;
	struct err e = { 0 };
	uint32_t sector;

	if (size < 2 || size > DISK_BYTES / 4)
		return 0;
	sector = data[0] & 1 ? 4096 : 512;
	fd = make_disk(data + 1, size - 1, sector);
	if (layout_probe(fd, "disk", DISK_BYTES, sector, &l, &e) == 0)
		check_layout(l);
	describe(fd);
	if (ftruncate(fd, (off_t)DISK_BYTES + (1 << 20)) == 0 &&
	    parttable_move_backup(fd, "disk", sector, &e) < 0)
		FUZZ_CHECK(e.code < 0 && *e.text);
	return 0;
}
