/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/disk_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/medium.h"
#include "lib/base/extent.h"
#include "lib/base/io.h"
#include "lib/base/le.h"

/* What is looked at of the disk and of each region: tables and super blocks lie there, and at the end
 * backup tables and RAID metadata. */
#define EDGE_BYTES UINT64_C(1048576)

/* A chain of extended boot records is as long as there are logical partitions. */
#define EBR_CHAIN_MAX 256

struct mbr_entry {
	uint8_t status, first_chs[3], type, last_chs[3];
	le32_t start, length; /* sectors */
};

struct mbr {
	uint8_t code[446];
	struct mbr_entry entries[4];
	uint8_t magic[2];
};
_Static_assert(sizeof(struct mbr) == 512, "a boot record is 512 bytes");

static int parts_add(struct extent_set *parts, uint64_t size, uint64_t start, uint64_t length)
{
	return start < size ? extent_set_add(parts, start, MIN(length, size - start)) : 0;
}

static int parts_add_edges(struct extent_set *parts, uint64_t size, uint64_t start, uint64_t length)
{
	uint64_t tail = length > EDGE_BYTES ? length - EDGE_BYTES : 0;
	int r;

	r = parts_add(parts, size, start, MIN(length, EDGE_BYTES));
	if (r < 0)
		return r;
	return parts_add(parts, size, start + tail, length - tail);
}

/* The start of the extended partition in @m in sectors, or 0. */
static uint32_t mbr_extended(const struct mbr *m)
{
	if (m->magic[0] != 0x55 || m->magic[1] != 0xaa)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(m->entries); i++) {
		uint8_t type = m->entries[i].type;

		if (type == 0x05 || type == 0x0f || type == 0x85)
			return le32_get(m->entries[i].start);
	}
	return 0;
}

/* A device that is read by direct I/O only. */
struct medium {
	int fd;
	const char *path;
	uint64_t size;
	uint32_t sector_size;
};

static int mbr_read(const struct medium *m, uint64_t at, struct mbr *ret)
{
	struct extent x = { at, m->sector_size };
	struct extent_set one = { .items = &x, .count = 1 };
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = medium_copy(m->fd, m->size, &one, &fd, NULL);
	return r < 0 ? r : io_pread_all(fd, ret, sizeof(*ret), at);
}

/* Every extended boot record, each of which says where the next one is. A loop ends at the limit. */
static int parts_add_ebrs(const struct medium *m, struct extent_set *parts)
{
	uint64_t base = 0, at = 0;
	struct mbr record;
	int r;

	for (int i = 0; i < EBR_CHAIN_MAX; i++) {
		uint32_t next;

		/* an unreadable record ends the chain; the table is then not believed */
		if (mbr_read(m, at, &record) < 0)
			return 0;
		next = mbr_extended(&record);
		if (!next)
			return 0;
		at = (base + next) * m->sector_size;
		if (!base)
			base = next;
		if (at >= m->size)
			return 0;
		r = parts_add(parts, m->size, at, m->sector_size);
		if (r < 0)
			return r;
	}
	return 0;
}

static int parts_probe(const struct medium *m, struct extent_set *parts, struct layout **ret,
		       struct err *e)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	extent_set_normalise(parts);
	r = medium_copy(m->fd, m->size, parts, &fd, e);
	if (r < 0) {
		err_prefix(e, "%s", m->path);
		return r;
	}
	return layout_probe(fd, m->path, m->size, m->sector_size, ret, e);
}

int disk_layout_probe_device(int fd, const char *path, uint64_t size, uint32_t sector_size,
			     struct layout **ret, struct err *e)
{
	struct medium m = { fd, path, size, sector_size };
	_cleanup_extents_ struct extent_set parts = { 0 };
	_cleanup_(layout_freep) struct layout *first = NULL;
	int r;

	if (parts_add_edges(&parts, size, 0, size) < 0 || parts_add_ebrs(&m, &parts) < 0)
		return err_oom(e);
	r = parts_probe(&m, &parts, &first, e);
	if (r < 0)
		return r;
	/* now that the partitions are known: what is on them */
	for (size_t i = 0; i < first->n_regions; i++) {
		const struct layout_region *region = &first->regions[i];

		if (region->kind == LAYOUT_PARTITION &&
		    parts_add_edges(&parts, size, region->start, region->length) < 0)
			return err_oom(e);
	}
	return parts_probe(&m, &parts, ret, e);
}

int disk_layout_probe_file(int fd, const char *path, uint64_t size, uint32_t sector_size,
			   struct layout **ret, struct err *e)
{
	_cleanup_close_ int buffered = -EBADF;
	char link[32];

	/* the libraries' buffers are not aligned as @fd wants; a file's page cache is never stale */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	buffered = open(link, O_RDONLY | O_CLOEXEC);
	if (buffered < 0)
		return err_set_errno(e, -errno, "%s", path);
	return layout_probe(buffered, path, size, sector_size, ret, e);
}
