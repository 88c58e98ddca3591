// SPDX-License-Identifier: GPL-2.0-only
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "target.h"

#include <linux/major.h>
#include <linux/string.h>

#include "back.h"
#include "front.h"

/*
 * md counts its bios by clones of its own, and what it splits off such a clone would come to the
 * hook a second time.
 */
static bool is_md(const struct gendisk *disk)
{
	return disk->major == MD_MAJOR || strncmp(disk->disk_name, "md", 2) == 0;
}

static bool is_ours(const struct gendisk *disk)
{
	return front_is(disk) || back_is(disk);
}

static bool is_mapped(const struct gendisk *disk)
{
	return strncmp(disk->disk_name, "dm-", 3) == 0;
}

static int refuse(const struct block_device *bdev, const char *why, int r)
{
	pr_notice("%pg: refused: %s\n", bdev, why);
	return r;
}

static int judge_disk(struct block_device *bdev)
{
	struct gendisk *disk = bdev->bd_disk;

	if (bdev_is_partition(bdev))
		return refuse(bdev, "a partition; attach its disk", -EINVAL);
	if (compat_disk_is_gone(disk))
		return refuse(bdev, "removed", -ENODEV);
	if (!get_capacity(disk))
		return refuse(bdev, "of size 0", -ENXIO);
	if (get_disk_ro(disk))
		return refuse(bdev, "read-only", -EROFS);
	if (is_ours(disk))
		return refuse(bdev, "one of ours", -EOPNOTSUPP);
	if (is_md(disk))
		return refuse(bdev, "md", -EOPNOTSUPP);
	if (bdev_is_zoned(bdev))
		return refuse(bdev, "zoned", -EOPNOTSUPP);
	if (blk_queue_dax(disk->queue))
		return refuse(bdev, "DAX writes are not bios", -EOPNOTSUPP);
	if (compat_disk_has_integrity(disk))
		return refuse(bdev, "integrity payloads", -EOPNOTSUPP);
	if (compat_disk_encrypts(disk))
		return refuse(bdev, "inline encryption", -EOPNOTSUPP);
	return 0;
}

static int judge_mapped(struct block_device *bdev)
{
	if (!is_mapped(bdev->bd_disk) || is_ours(bdev->bd_disk))
		return refuse(bdev, "not a device-mapper device", -EINVAL);
	return 0;
}

static int open_judged(dev_t dev, int (*judge)(struct block_device *), struct compat_opened *ret)
{
	struct compat_opened opened;
	int r = compat_open(dev, &opened);

	if (r)
		return r;
	r = judge(opened.bdev);
	if (r) {
		compat_close(&opened);
		return r;
	}
	*ret = opened;
	return 0;
}

int target_open_disk(dev_t dev, struct compat_opened *ret)
{
	return open_judged(dev, judge_disk, ret);
}

int target_open_mapped(dev_t dev, struct compat_opened *ret)
{
	return open_judged(dev, judge_mapped, ret);
}
