/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/track_identity.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/layout/sysblock.h"

static int boot_id_read(uint8_t *ret)
{
	char text[64], digits[33];
	size_t n = 0;
	ssize_t r;

	r = io_read_line("/proc/sys/kernel/random/boot_id", text, sizeof(text));
	if (r < 0)
		return (int)r;
	for (const char *c = text; *c && n < 32; c++) {
		if (*c != '-')
			digits[n++] = *c;
	}
	digits[n] = '\0';
	return hex_decode(digits, ret, 16);
}

/* In bytes; sysfs counts sectors of 512 whatever the disk's own are. */
static int disk_size(dev_t disk, uint64_t *ret)
{
	uint64_t sectors;
	int r;

	r = sysblock_u64(disk, "size", &sectors);
	if (r < 0)
		return r;
	*ret = sectors * 512;
	return 0;
}

static uint64_t disk_sequence(dev_t disk)
{
	uint64_t n;

	return sysblock_u64(disk, "diskseq", &n) < 0 ? 0 : n;
}

int track_identity_read(dev_t disk, struct track_identity *ret, struct err *e)
{
	struct track_identity id = { .disk = major(disk) << 20 | minor(disk) };
	int r;

	if (sysblock_is_partition(disk)) {
		return err_set(e, -EINVAL, "%u:%u is a partition: its disk is what is tracked",
			       major(disk), minor(disk));
	}
	r = disk_size(disk, &id.size);
	if (r < 0)
		return err_set_errno(e, r, "no disk %u:%u", major(disk), minor(disk));
	if (!id.size)
		return err_set(e, -ENOMEDIUM, "disk %u:%u has no medium", major(disk), minor(disk));
	r = boot_id_read(id.boot_id);
	if (r < 0)
		return err_set_errno(e, r, "cannot read the boot id");
	id.sequence = disk_sequence(disk);
	/* the directory of its hardware queues: only a disk that takes requests has any */
	id.bio_based = !sysblock_has(disk, "mq");
	*ret = id;
	return 0;
}

uint32_t track_identity_hooks(const struct track_identity *id)
{
	if (id->bio_based)
		return 1U << TRACK_BIO_QUEUE | 1U << TRACK_BIO_COMPLETE;
	return 1U << TRACK_BIO_QUEUE | 1U << TRACK_RQ_ISSUE | 1U << TRACK_RQ_COMPLETE;
}

unsigned int track_identity_granule_shift(const struct track_identity *id)
{
	return id->size > TRACK_LARGE_BYTES ? TRACK_LARGE_GRANULE_SHIFT : TRACK_GRANULE_SHIFT;
}

bool track_identity_matches(const struct track_identity *id, const struct track_control *c)
{
	return c->magic == TRACK_MAGIC && c->version == TRACK_VERSION &&
	       memcmp(c->boot_id, id->boot_id, sizeof(c->boot_id)) == 0 && c->disk == id->disk &&
	       c->disk_sequence == id->sequence && c->size == id->size &&
	       c->granule_shift == track_identity_granule_shift(id) &&
	       c->hooks == track_identity_hooks(id);
}

/*
 * NVMe's multipath head, and md linear and raid0 without statistics, send the same bio to a lower
 * disk, which clears the flag that block_bio_complete depends on. With statistics md sends a clone.
 */
bool track_disk_retargets(dev_t disk)
{
	char name[64], level[32];
	uint64_t stats;

	if (sysblock_has(disk, "mq"))
		return false;
	if (sysblock_name(disk, name, sizeof(name)) == 0 && strncmp(name, "nvme", 4) == 0)
		return true;
	return sysblock_text(disk, "md/level", level, sizeof(level)) > 0 &&
	       (strcmp(level, "raid0") == 0 || strcmp(level, "linear") == 0) &&
	       (sysblock_u64(disk, "queue/iostats", &stats) < 0 || stats == 0);
}

bool track_disk_is_dax(dev_t disk)
{
	uint64_t n;

	return sysblock_u64(disk, "queue/dax", &n) == 0 && n;
}

enum track_reason track_disk_changed(dev_t disk, const struct track_control *c)
{
	uint64_t size;

	if (disk_size(disk, &size) < 0 || disk_sequence(disk) != c->disk_sequence)
		return TRACK_REPLACED;
	return size != c->size ? TRACK_RESIZED : TRACK_REASONS;
}
