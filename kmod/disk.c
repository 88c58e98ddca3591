// SPDX-License-Identifier: GPL-2.0-only
#include "disk.h"

/*
 * Both announce a write cache with FUA whatever the disk has: a flush that the disk does not need
 * ends at the disk, and one that ended above front would upset its count.
 */
#ifdef HAVE_ALLOC_DISK_LIMITS

static void limits_of(const struct disk_kind *kind, struct attachment *a, struct queue_limits *lim)
{
	blk_set_stacking_limits(lim);
	queue_limits_stack_bdev(lim, a->target.bdev, 0, kind->prefix);
	/* 6.11 and 6.12 take a stacked append limit for one without zones as an error */
	lim->max_zone_append_sectors = 0;
	lim->max_hw_discard_sectors = kind->erases ? UINT_MAX : 0;
	lim->max_user_discard_sectors = UINT_MAX;
	lim->max_secure_erase_sectors = kind->erases ? UINT_MAX : 0;
	lim->max_write_zeroes_sectors = kind->erases ? UINT_MAX : 0;
#ifdef HAVE_WZEROES_UNMAP
	lim->max_hw_wzeroes_unmap_sectors = 0;
	lim->max_user_wzeroes_unmap_sectors = 0;
#endif
#ifdef HAVE_BLK_FEAT_WRITE_CACHE
	lim->features |= BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA;
	lim->features &= ~BLK_FEAT_NOWAIT;
	if (kind->erases)
		lim->features |= BLK_FEAT_NOWAIT;
#endif
}

static struct gendisk *disk_alloc(const struct disk_kind *kind, struct attachment *a)
{
	struct queue_limits lim;

	limits_of(kind, a, &lim);
	return blk_alloc_disk(&lim, NUMA_NO_NODE);
}

#else

static struct gendisk *disk_alloc_bare(void)
{
#ifdef HAVE_BLK_ALLOC_DISK
	return blk_alloc_disk(NUMA_NO_NODE);
#else
	struct gendisk *disk = alloc_disk(0);

	if (!disk)
		return NULL;
	disk->queue = blk_alloc_queue(NUMA_NO_NODE);
	if (!disk->queue) {
		put_disk(disk);
		return NULL;
	}
	disk->flags |= GENHD_FL_EXT_DEVT;
	return disk;
#endif
}

static struct gendisk *disk_alloc(const struct disk_kind *kind, struct attachment *a)
{
	unsigned int most = kind->erases ? UINT_MAX : 0;
	struct gendisk *disk = disk_alloc_bare();
	struct request_queue *q;

	if (!disk)
		return ERR_PTR(-ENOMEM);
	q = disk->queue;
	blk_set_stacking_limits(&q->limits);
	disk_stack_limits(disk, a->target.bdev, 0);
	blk_queue_max_discard_sectors(q, most);
	blk_queue_max_write_zeroes_sectors(q, most);
#ifdef HAVE_QUEUE_FLAG_DISCARD
	if (kind->erases)
		blk_queue_flag_set(QUEUE_FLAG_DISCARD, q);
	else
		blk_queue_flag_clear(QUEUE_FLAG_DISCARD, q);
#endif
#ifdef HAVE_QUEUE_FLAG_SECERASE
	if (kind->erases)
		blk_queue_flag_set(QUEUE_FLAG_SECERASE, q);
#else
	blk_queue_max_secure_erase_sectors(q, most);
#endif
#ifdef HAVE_REQ_OP_WRITE_SAME
	blk_queue_max_write_same_sectors(q, most);
#endif
	return disk;
}

#endif

static void disk_set_flags(const struct disk_kind *kind, struct gendisk *disk)
{
#ifndef HAVE_BLK_FEAT_WRITE_CACHE
	blk_queue_write_cache(disk->queue, true, true);
	if (kind->erases)
		blk_queue_flag_set(QUEUE_FLAG_NOWAIT, disk->queue);
#endif
}

static void disk_free(struct gendisk *disk)
{
#if defined(HAVE_BLK_CLEANUP_DISK)
	blk_cleanup_disk(disk);
#else
#if !defined(HAVE_BLK_ALLOC_DISK) && !defined(HAVE_ALLOC_DISK_LIMITS)
	blk_cleanup_queue(disk->queue);
#endif
	put_disk(disk);
#endif
}

/*
 * LVM looks at every block device whose driver it knows by its name in /proc/devices, and would find each
 * volume of the attached disk a second time. Ours it does not know.
 */
static int disks_major;

int disks_register(void)
{
	disks_major = register_blkdev(0, KBUILD_MODNAME);
	return disks_major < 0 ? disks_major : 0;
}

void disks_unregister(void)
{
	unregister_blkdev(disks_major, KBUILD_MODNAME);
}

int disk_create(const struct disk_kind *kind, struct attachment *a, struct gendisk **ret_disk)
{
	struct gendisk *disk = disk_alloc(kind, a);
	int r = 0;

	if (IS_ERR(disk))
		return PTR_ERR(disk);
	disk_set_flags(kind, disk);
	disk->fops = kind->fops;
	disk->private_data = a;
	disk->major = disks_major;
	disk->first_minor = a->id * 2 + kind->hidden;
	disk->minors = 1;
	disk->flags |= COMPAT_NO_PARTITIONS | (kind->hidden ? GENHD_FL_HIDDEN : 0);
	snprintf(disk->disk_name, sizeof(disk->disk_name), "%s%u", kind->prefix, a->id);
	set_capacity(disk, a->sectors);
#ifdef HAVE_ADD_DISK_ERROR
	r = add_disk(disk);
#else
	add_disk(disk);
#endif
	if (r) {
		disk_free(disk);
		return r;
	}
#ifdef HAVE_BIO_BDEV
	/* Older kernels leave it 0 in a hidden disk; tracing tells its bios by it. */
	disk->part0->bd_dev = disk_devt(disk);
#endif
	*ret_disk = disk;
	return 0;
}

void disk_destroy(struct gendisk *disk)
{
	if (!disk)
		return;
	del_gendisk(disk);
	disk_free(disk);
}
