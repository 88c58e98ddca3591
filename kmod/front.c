// SPDX-License-Identifier: GPL-2.0-only
/*
 * a bio that comes here was counted by front_divert(), and front_submit() or the end of its clone
 * takes the count back. That pairing is what OFF relies on, so nothing between the two may end a
 * bio: whatever submit_bio_noacct() would refuse or finish by itself is not diverted at all.
 */
#include "front.h"

#include "back.h"
#include "disk.h"

#ifdef CONFIG_PREEMPT_RT
#error "re-targeting a bio takes locks that sleep on PREEMPT_RT, and the hook must not"
#endif

enum verdict {
	TAKE,
	PASS, /* harmless: the disk refuses it, or it changes nothing */
	MISS, /* a write of which device-mapper will not hear */
};

/* Can front take this operation, as its queue is set just now? The settings are in sysfs. */
static __always_inline enum verdict judge_operation(const struct gendisk *front, struct bio *bio)
{
	switch (bio_op(bio)) {
	case REQ_OP_READ:
		return compat_bio_is_special(bio) ? PASS : TAKE;
	case REQ_OP_WRITE:
		if (compat_bio_is_special(bio))
			return MISS;
		if (op_is_flush(bio->bi_opf) && !compat_disk_caches(front))
			return bio_sectors(bio) ? MISS : PASS;
		return TAKE;
	case REQ_OP_DISCARD:
		return front->queue->limits.max_discard_sectors ? TAKE : MISS;
	case REQ_OP_SECURE_ERASE:
	case REQ_OP_WRITE_ZEROES:
#ifdef HAVE_REQ_OP_WRITE_SAME
	case REQ_OP_WRITE_SAME:
#endif
		return TAKE;
	default:
		return PASS;
	}
}

/* @ret_sector is set when the verdict is TAKE. */
static __always_inline enum verdict judge(const struct attachment *a, struct bio *bio,
					  sector_t *ret_sector)
{
	sector_t sector = bio->bi_iter.bi_sector, start, length;
	unsigned int n = bio_sectors(bio);
	enum verdict verdict = judge_operation(a->front, bio);

	if (verdict != TAKE)
		return verdict;
	if (n && compat_bio_bounds(bio, &start, &length)) {
		if (n > length || sector > length - n)
			return PASS;
		sector += start;
	}
	if (n && (n > a->sectors || sector > a->sectors - n))
		return op_is_write(bio_op(bio)) && sector < a->sectors ? MISS : PASS;
	*ret_sector = n ? sector : 0;
	return TAKE;
}

void notrace front_divert(struct attachment *a, struct bio *bio)
{
	sector_t sector;

	if (back_sent(a, bio))
		return;
	if (!percpu_ref_tryget_live(&a->in_flight))
		return;
	switch (judge(a, bio, &sector)) {
	case TAKE:
		this_cpu_inc(a->tally->redirected);
		compat_bio_make_patient(bio);
		compat_bio_redirect(bio, a->front);
		bio->bi_iter.bi_sector = sector;
		return;
	case MISS:
		this_cpu_inc(a->tally->missed);
		break;
	case PASS:
		this_cpu_inc(a->tally->passed_by);
		break;
	}
	percpu_ref_put(&a->in_flight);
}

static void front_end(struct attachment *a, struct bio *bio, blk_status_t status)
{
	this_cpu_inc(a->tally->done);
	bio->bi_status = status;
	bio_endio(bio);
	percpu_ref_put(&a->in_flight);
}

static void front_clone_end(struct bio *clone)
{
	struct bio *bio = clone->bi_private;
	struct attachment *a = compat_bio_disk(bio)->private_data;
	blk_status_t status = clone->bi_status;

	bio_put(clone);
	if (status)
		this_cpu_inc(a->tally->errors);
	front_end(a, bio, status);
}

static compat_submit_t front_submit(struct bio *bio)
{
	struct attachment *a = compat_bio_disk(bio)->private_data;
	struct bio *clone;

	switch (bio_op(bio)) {
	case REQ_OP_DISCARD:
		/* It must not reach the disk: what was not yet copied would be lost. */
		this_cpu_inc(a->tally->discards);
		front_end(a, bio, BLK_STS_OK);
		return COMPAT_SUBMITTED;
	case REQ_OP_SECURE_ERASE:
	case REQ_OP_WRITE_ZEROES:
#ifdef HAVE_REQ_OP_WRITE_SAME
	case REQ_OP_WRITE_SAME:
#endif
		/* The callers of these then write zeroes by themselves, or fail as they should. */
		front_end(a, bio, BLK_STS_NOTSUPP);
		return COMPAT_SUBMITTED;
	default:
		break;
	}
	clone = compat_bio_clone(a->armed.bdev, bio, &a->front_clones);
	/* Device-mapper fails read-ahead while it is suspended; let it wait like the rest. */
	clone->bi_opf &= ~REQ_RAHEAD;
	clone->bi_private = bio;
	clone->bi_end_io = front_clone_end;
	submit_bio_noacct(clone);
	return COMPAT_SUBMITTED;
}

static const struct block_device_operations front_operations = {
	.owner = THIS_MODULE,
	.submit_bio = front_submit,
};

static const struct disk_kind front_kind = {
	.prefix = AMBRO_FRONT_PREFIX,
	.fops = &front_operations,
	.hidden = true,
	.erases = true,
};

bool front_is(const struct gendisk *disk)
{
	return disk->fops == &front_operations;
}

int front_create(struct attachment *a)
{
	return disk_create(&front_kind, a, &a->front);
}

void front_destroy(struct attachment *a)
{
	disk_destroy(a->front);
	a->front = NULL;
}
