/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compat.h - one name for what the kernel has named differently from 5.10 on. What the kernel at
 * hand has is not guessed from its version: probe.sh compiles a fragment for each HAVE_ and writes
 * config.h.
 */
#ifndef AMBRO_COMPAT_H
#define AMBRO_COMPAT_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/ftrace.h>
#include <linux/sched.h>

#include "config.h"
#ifdef CONFIG_BLK_DEV_INTEGRITY
#ifdef HAVE_BLK_INTEGRITY_H
#include <linux/blk-integrity.h>
#endif
#endif

#ifndef SECTOR_SHIFT
#define SECTOR_SHIFT 9
#endif

/* ---- opening a block device by number, read-only, not exclusively ---- */

struct compat_opened {
	struct block_device *bdev;
#if defined(HAVE_BDEV_FILE_OPEN_BY_DEV)
	struct file *file;
#elif defined(HAVE_BDEV_OPEN_BY_DEV)
	struct bdev_handle *handle;
#endif
};

static inline int compat_open(dev_t dev, struct compat_opened *ret)
{
#if defined(HAVE_BDEV_FILE_OPEN_BY_DEV)
	struct file *file = bdev_file_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL);

	if (IS_ERR(file))
		return PTR_ERR(file);
	*ret = (struct compat_opened){ .bdev = file_bdev(file), .file = file };
#elif defined(HAVE_BDEV_OPEN_BY_DEV)
	struct bdev_handle *handle = bdev_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL);

	if (IS_ERR(handle))
		return PTR_ERR(handle);
	*ret = (struct compat_opened){ .bdev = handle->bdev, .handle = handle };
#else
#if defined(HAVE_BLKDEV_PUT_HOLDER)
	struct block_device *bdev = blkdev_get_by_dev(dev, BLK_OPEN_READ, NULL, NULL);
#else
	struct block_device *bdev = blkdev_get_by_dev(dev, FMODE_READ, NULL);
#endif

	if (IS_ERR(bdev))
		return PTR_ERR(bdev);
	*ret = (struct compat_opened){ .bdev = bdev };
#endif
	return 0;
}

/* Takes one that was never opened. */
static inline void compat_close(struct compat_opened *opened)
{
	if (!opened->bdev)
		return;
#if defined(HAVE_BDEV_FILE_OPEN_BY_DEV)
	fput(opened->file);
#elif defined(HAVE_BDEV_OPEN_BY_DEV)
	bdev_release(opened->handle);
#elif defined(HAVE_BLKDEV_PUT_HOLDER)
	blkdev_put(opened->bdev, NULL);
#else
	blkdev_put(opened->bdev, FMODE_READ);
#endif
	opened->bdev = NULL;
}

/* ---- block_device_operations ---- */

#ifdef HAVE_SUBMIT_BIO_VOID
#define compat_submit_t void
#define COMPAT_SUBMITTED
#else
#define compat_submit_t	 blk_qc_t
#define COMPAT_SUBMITTED BLK_QC_T_NONE
#endif

#ifdef HAVE_OPEN_BY_DISK
#define COMPAT_OPEN(name)    int name(struct gendisk *disk, blk_mode_t mode)
#define COMPAT_RELEASE(name) void name(struct gendisk *disk)
#define COMPAT_OPENED_DISK   disk
#else
#define COMPAT_OPEN(name)    int name(struct block_device *bdev, fmode_t mode)
#define COMPAT_RELEASE(name) void name(struct gendisk *disk, fmode_t mode)
#define COMPAT_OPENED_DISK   bdev->bd_disk
#endif

/* ---- bios ---- */

static __always_inline struct gendisk *compat_bio_disk(const struct bio *bio)
{
#ifdef HAVE_BIO_BDEV
	return bio->bi_bdev->bd_disk;
#else
	return bio->bi_disk;
#endif
}

/*
 * Where in its disk the partition (or disk) that @bio was sent to begins, and how long it is.
 * False: there is no such thing, or @bio is already in terms of the disk. Inside rcu_read_lock().
 */
static __always_inline bool compat_bio_bounds(struct bio *bio, sector_t *ret_start,
					      sector_t *ret_sectors)
{
#ifdef HAVE_BIO_BDEV
	if (bio_flagged(bio, BIO_REMAPPED))
		return false;
	*ret_start = bio->bi_bdev->bd_start_sect;
#ifdef HAVE_BDEV_NR_SECTORS
	*ret_sectors = bdev_nr_sectors(bio->bi_bdev);
#else
	*ret_sectors = i_size_read(bio->bi_bdev->bd_inode) >> SECTOR_SHIFT;
#endif
	return true;
#else
	struct disk_part_tbl *table = rcu_dereference(bio->bi_disk->part_tbl);
	struct hd_struct *part = NULL;

	if (bio->bi_partno < table->len)
		part = rcu_dereference(table->part[bio->bi_partno]);
	*ret_start = part ? part->start_sect : 0;
	*ret_sectors = part ? READ_ONCE(part->nr_sects) : 0;
	return true;
#endif
}

/* Re-target @bio to the whole of @disk; the sector is the caller's to set. Does not sleep. */
static __always_inline void compat_bio_redirect(struct bio *bio, struct gendisk *disk)
{
#ifdef HAVE_BIO_BDEV
	bio_set_dev(bio, disk->part0);
#else
	bio_clear_flag(bio, BIO_THROTTLED);
	bio->bi_disk = disk;
	bio->bi_partno = 0;
	bio_associate_blkg(bio);
#endif
}

/*
 * From here on @bio may wait and is not polled for. The plug that is cleared would put REQ_NOWAIT
 * back after the hook.
 */
static __always_inline void compat_bio_make_patient(struct bio *bio)
{
	bio->bi_opf &= ~REQ_NOWAIT;
#if defined(HAVE_BIO_CLEAR_POLLED)
	bio_clear_polled(bio);
#else
#ifdef HAVE_REQ_HIPRI
	bio->bi_opf &= ~REQ_HIPRI;
#else
	bio->bi_opf &= ~REQ_POLLED;
#endif
#ifdef HAVE_BIO_PERCPU_CACHE
	/* such a bio must not end in an interrupt */
	bio_clear_flag(bio, BIO_PERCPU_CACHE);
#endif
#endif
#ifdef HAVE_PLUG_NOWAIT
	if (current->plug)
		current->plug->nowait = false;
#endif
}

/* A write that device-mapper would not do as it was asked for. */
static __always_inline bool compat_bio_is_special(const struct bio *bio)
{
#ifdef HAVE_REQ_ATOMIC
	if (bio->bi_opf & REQ_ATOMIC)
		return true;
#endif
#ifdef CONFIG_BLK_INLINE_ENCRYPTION
	if (bio->bi_crypt_context)
		return true;
#endif
	return false;
}

/* May sleep, does not fail: @clones has a reserve, and a rescuer for what is held up behind it. */
static inline struct bio *compat_bio_clone(struct block_device *bdev, struct bio *bio,
					   struct bio_set *clones)
{
#ifdef HAVE_BIO_ALLOC_CLONE
	return bio_alloc_clone(bdev, bio, GFP_NOIO, clones);
#else
	struct bio *clone = bio_clone_fast(bio, GFP_NOIO, clones);

	bio_set_dev(clone, bdev);
	return clone;
#endif
}

static inline struct bio *compat_bio_alloc_read(struct block_device *bdev)
{
#ifdef HAVE_BIO_ALLOC_BDEV
	return bio_alloc(bdev, 1, REQ_OP_READ, GFP_KERNEL);
#else
	struct bio *bio = bio_alloc(GFP_KERNEL, 1);

	if (bio) {
		bio_set_dev(bio, bdev);
		bio->bi_opf = REQ_OP_READ;
	}
	return bio;
#endif
}

/* ---- disks ---- */

#ifdef HAVE_GENHD_FL_NO_PART
#define COMPAT_NO_PARTITIONS GENHD_FL_NO_PART
#else
#define COMPAT_NO_PARTITIONS GENHD_FL_NO_PART_SCAN
#endif

static __always_inline bool compat_disk_caches(const struct gendisk *disk)
{
#ifdef HAVE_BLK_QUEUE_WRITE_CACHE_TEST
	return blk_queue_write_cache(disk->queue);
#else
	return test_bit(QUEUE_FLAG_WC, &disk->queue->queue_flags);
#endif
}

static inline bool compat_disk_is_gone(const struct gendisk *disk)
{
#ifdef HAVE_GD_DEAD
	return test_bit(GD_DEAD, &disk->state);
#else
	return !(disk->flags & GENHD_FL_UP);
#endif
}

static inline bool compat_disk_has_integrity(struct gendisk *disk)
{
#ifdef CONFIG_BLK_DEV_INTEGRITY
	return blk_get_integrity(disk);
#else
	return false;
#endif
}

static inline bool compat_disk_encrypts(const struct gendisk *disk)
{
#if defined(CONFIG_BLK_INLINE_ENCRYPTION) && defined(HAVE_CRYPTO_PROFILE)
	return disk->queue->crypto_profile;
#elif defined(CONFIG_BLK_INLINE_ENCRYPTION)
	return disk->queue->ksm;
#else
	return false;
#endif
}

/* ---- ftrace ---- */

#ifdef HAVE_FTRACE_REGS
#define compat_regs_t struct ftrace_regs
#else
#define compat_regs_t struct pt_regs
#endif

/*
 * Never dropped as a "recursion" (nothing that the hook calls submits bios), and not to be
 * switched off by the sysctl ftrace_enabled.
 */
#if defined(HAVE_FTRACE_REGS_GET_ARGUMENT) || defined(HAVE_FTRACE_REGS_DI)
#define COMPAT_HOOK_FLAGS FTRACE_OPS_FL_PERMANENT
#elif defined(HAVE_FTRACE_REGS)
#define COMPAT_HOOK_FLAGS (FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_SAVE_REGS)
#else
#define COMPAT_HOOK_FLAGS \
	(FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_RECURSION_SAFE)
#endif

static __always_inline void *compat_first_argument(compat_regs_t *regs)
{
#if defined(HAVE_FTRACE_REGS_GET_ARGUMENT)
	return (void *)ftrace_regs_get_argument(regs, 0);
#elif defined(HAVE_FTRACE_REGS_DI)
	return (void *)regs->regs.di;
#elif defined(HAVE_FTRACE_REGS)
	return (void *)regs_get_kernel_argument(ftrace_get_regs(regs), 0);
#else
	return (void *)regs_get_kernel_argument(regs, 0);
#endif
}

#endif
