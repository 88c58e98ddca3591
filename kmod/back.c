// SPDX-License-Identifier: GPL-2.0-only
/*
 * the device that device-mapper stands on. The clones that it sends to the disk come from its own
 * bio_set, and whatever is split off a clone is still that clone: bi_pool tells the hook to let
 * them through.
 */
#include "back.h"

#include "disk.h"

static void back_clone_end(struct bio *clone)
{
	struct bio *bio = clone->bi_private;

	bio->bi_status = clone->bi_status;
	bio_put(clone);
	bio_endio(bio);
}

static compat_submit_t back_submit(struct bio *bio)
{
	struct attachment *a = compat_bio_disk(bio)->private_data;
	struct bio *clone = compat_bio_clone(a->target.bdev, bio, &a->back_clones);

	clone->bi_private = bio;
	clone->bi_end_io = back_clone_end;
	submit_bio_noacct(clone);
	return COMPAT_SUBMITTED;
}

static COMPAT_OPEN(back_open)
{
	struct attachment *a = COMPAT_OPENED_DISK->private_data;

	return atomic_inc_unless_negative(&a->back_users) ? 0 : -ENXIO;
}

static COMPAT_RELEASE(back_release)
{
	struct attachment *a = disk->private_data;

	atomic_dec(&a->back_users);
}

static const struct block_device_operations back_operations = {
	.owner = THIS_MODULE,
	.submit_bio = back_submit,
	.open = back_open,
	.release = back_release,
};

static const struct disk_kind back_kind = {
	.prefix = AMBRO_BACK_PREFIX,
	.fops = &back_operations,
};

bool back_is(const struct gendisk *disk)
{
	return disk->fops == &back_operations;
}

bool notrace back_sent(const struct attachment *a, const struct bio *bio)
{
	return bio->bi_pool == &a->back_clones;
}

int back_create(struct attachment *a)
{
	atomic_set(&a->back_users, 0);
	return disk_create(&back_kind, a, &a->back);
}

int back_retire(struct attachment *a)
{
	return atomic_cmpxchg(&a->back_users, 0, -1) == 0 ? 0 : -EBUSY;
}

void back_destroy(struct attachment *a)
{
	disk_destroy(a->back);
	a->back = NULL;
}
