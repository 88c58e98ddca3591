// SPDX-License-Identifier: GPL-2.0-only
/*
 * the attachments and their states.
 *
 *	         ATTACH
 *	           |
 *	           v      ARM               ON
 *	  +----> IDLE ---------> ARMED ------------> ON
 *	  |        |  <---------   ^                 |
 *	  |        |    DISARM     |                 | OFF, or the owner's file is closed
 *	  |      DETACH            | the last bio    v
 *	  |        |               +------------- DRAINING
 *	  +--------+                 is done
 *	   (gone)
 *
 *	IDLE	  the hook knows the disk and lets everything pass
 *	ARMED	  the device that bios will go through is held open; everything still passes
 *	ON	  every bio of the disk goes front -> armed device -> back -> disk
 *	DRAINING  new bios pass; those that are in front are waited for
 *
 * Invariants:
 *  1. in_flight is live exactly while the state is ON, and zero exactly while it is IDLE or ARMED.
 *  2. A bio is re-targeted only after it was counted in in_flight, and what was counted always
 *     comes to front_submit() (front.c says how). So a dead in_flight that has reached zero proves
 *     that no bio is, or will come, in front, in the armed device on front's behalf, or on the way
 *     there.
 *  3. a->armed changes only in IDLE and ARMED, hence never under a bio.
 *  4. A bio of back_clones is never diverted: there is no loop below back.
 *  5. front and back exist as long as the attachment is published; back has no opener when they
 *     go.
 *  6. ON and the start of OFF do not allocate, and wait for nothing but a->lock.
 *  7. Only the owner, or anybody when there is none, changes an attachment; the owner's death
 *     starts OFF and leaves the rest.
 *  8. The module is pinned by each attachment, and by each open control file.
 *
 * Locks: a->lock, then attach_lock (ATTACH, and the end of DETACH), then table_lock (a spinlock
 * around the table only). The end of DRAINING comes from percpu_ref in any context and takes none.
 */
#include "attach.h"

#include <linux/kdev_t.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "back.h"
#include "front.h"
#include "hook.h"
#include "target.h"

/* Clones in reserve when memory is short. One would do to move on; this many keep it moving. */
#define CLONES_RESERVED 64

static DEFINE_MUTEX(attach_lock);
static DEFINE_SPINLOCK(table_lock);
static struct attachment *table[AMBRO_ATTACH_MAX];

/* Called when the last count is dropped, inside rcu_read_lock(), in any context. */
static void attachment_drained(struct percpu_ref *ref)
{
	struct attachment *a = container_of(ref, struct attachment, in_flight);

	/* pairs with the acquire in those who go on because of it */
	smp_store_release(&a->state, AMBRO_STATE_ARMED);
	wake_up_all(&a->drained);
}

static enum ambro_state attachment_state(const struct attachment *a)
{
	/* pairs with the release in attachment_drained() */
	return smp_load_acquire(&a->state);
}

static void attachment_free(struct attachment *a)
{
	percpu_ref_exit(&a->in_flight);
	bioset_exit(&a->front_clones);
	bioset_exit(&a->back_clones);
	free_percpu(a->tally);
	compat_close(&a->target);
	mutex_destroy(&a->lock);
	kfree(a);
}

static void attachment_release(struct kref *kref)
{
	attachment_free(container_of(kref, struct attachment, kref));
}

static void attachment_put(struct attachment *a)
{
	kref_put(&a->kref, attachment_release);
}

/* The attachment with the lowest id in @first … @last, with a reference; or NULL. */
static struct attachment *attachment_find(u32 first, u32 last)
{
	struct attachment *a = NULL;

	spin_lock(&table_lock);
	for (; first < AMBRO_ATTACH_MAX && first <= last && !a; first++)
		a = table[first];
	if (a)
		kref_get(&a->kref);
	spin_unlock(&table_lock);
	return a;
}

/*
 * The attachment @id, referenced and locked, if @file may change it. An ERR_PTR otherwise; undone
 * by attachment_unlock().
 */
static struct attachment *attachment_lock(struct file *file, u32 id)
{
	struct attachment *a = attachment_find(id, id);
	int r;

	if (!a)
		return ERR_PTR(-ENOENT);
	r = mutex_lock_killable(&a->lock);
	if (r)
		goto put;
	if (a->detached)
		r = -ENOENT;
	else if (a->owner && a->owner != file)
		r = -EPERM;
	if (!r)
		return a;
	mutex_unlock(&a->lock);
put:
	attachment_put(a);
	return ERR_PTR(r);
}

static void attachment_unlock(struct attachment *a)
{
	mutex_unlock(&a->lock);
	attachment_put(a);
}

static struct attachment *attachment_alloc(void)
{
	struct attachment *a = kzalloc(sizeof(*a), GFP_KERNEL);
	int r = -ENOMEM;

	if (!a)
		return NULL;
	kref_init(&a->kref);
	mutex_init(&a->lock);
	init_waitqueue_head(&a->drained);
	INIT_HLIST_NODE(&a->hooked);
	a->tally = alloc_percpu(struct tally);
	if (a->tally)
		r = bioset_init(&a->front_clones, CLONES_RESERVED, 0, BIOSET_NEED_RESCUER);
	if (!r)
		r = bioset_init(&a->back_clones, CLONES_RESERVED, 0, BIOSET_NEED_RESCUER);
	if (!r)
		r = percpu_ref_init(&a->in_flight, attachment_drained,
				    PERCPU_REF_INIT_DEAD | PERCPU_REF_ALLOW_REINIT, GFP_KERNEL);
	if (r) {
		attachment_free(a);
		return NULL;
	}
	return a;
}

static int attachment_choose_id(struct attachment *a)
{
	unsigned int id;

	for (id = 0; id < AMBRO_ATTACH_MAX; id++) {
		if (!table[id]) {
			a->id = id;
			return 0;
		}
	}
	return -ENOSPC;
}

/* Hook the opened disk, prove that it works, make front and back. */
static int attachment_build(struct attachment *a)
{
	int r = hook_add(a);

	if (r)
		return -EIO;
	r = hook_prove(a);
	if (!r)
		r = front_create(a);
	if (!r)
		r = back_create(a);
	if (r) {
		hook_remove(a);
		front_destroy(a);
	}
	return r;
}

static void attachment_publish(struct attachment *a, struct file *file)
{
	a->dev = disk_devt(a->disk);
	a->front_dev = disk_devt(a->front);
	a->back_dev = disk_devt(a->back);
	a->owner = file;
	__module_get(THIS_MODULE);
	spin_lock(&table_lock);
	table[a->id] = a;
	spin_unlock(&table_lock);
}

static void attachment_describe(const struct attachment *a, struct ambro_attach *ret)
{
	ret->id = a->id;
	ret->front_major = MAJOR(a->front_dev);
	ret->front_minor = MINOR(a->front_dev);
	ret->back_major = MAJOR(a->back_dev);
	ret->back_minor = MINOR(a->back_dev);
	ret->sectors = a->sectors;
}

static int attach_locked(struct file *file, struct attachment *a, struct ambro_attach *arg)
{
	int r = target_open_disk(MKDEV(arg->major, arg->minor), &a->target);

	if (r)
		return r;
	a->disk = a->target.bdev->bd_disk;
	a->sectors = get_capacity(a->disk);
	if (hook_lookup(a->disk))
		return -EBUSY;
	r = attachment_choose_id(a);
	if (!r)
		r = attachment_build(a);
	if (r)
		return r;
	attachment_publish(a, file);
	attachment_describe(a, arg);
	return 0;
}

int attachment_attach(struct file *file, struct ambro_attach *arg)
{
	struct attachment *a;
	int r;

	if (arg->major > MAJOR(~0U) || arg->minor > MINOR(~0U))
		return -ENXIO;
	a = attachment_alloc();
	if (!a)
		return -ENOMEM;
	r = mutex_lock_killable(&attach_lock);
	if (!r) {
		r = attach_locked(file, a, arg);
		mutex_unlock(&attach_lock);
	}
	if (r)
		attachment_put(a);
	return r;
}

int attachment_arm(struct file *file, const struct ambro_arm *arg)
{
	struct attachment *a = attachment_lock(file, arg->id);
	int r = -EBUSY;

	if (IS_ERR(a))
		return PTR_ERR(a);
	if (arg->major > MAJOR(~0U) || arg->minor > MINOR(~0U))
		r = -ENXIO;
	else if (attachment_state(a) == AMBRO_STATE_IDLE)
		r = target_open_mapped(MKDEV(arg->major, arg->minor), &a->armed);
	if (r)
		goto unlock;
	if (a->armed.bdev->bd_disk == a->disk) {
		compat_close(&a->armed);
		r = -EINVAL;
		goto unlock;
	}
	WRITE_ONCE(a->armed_dev, disk_devt(a->armed.bdev->bd_disk));
	WRITE_ONCE(a->state, AMBRO_STATE_ARMED);
unlock:
	attachment_unlock(a);
	return r;
}

int attachment_on(struct file *file, u32 id)
{
	struct attachment *a = attachment_lock(file, id);
	int r = 0;

	if (IS_ERR(a))
		return PTR_ERR(a);
	if (attachment_state(a) != AMBRO_STATE_ARMED) {
		r = -EBUSY;
	} else if (get_capacity(a->armed.bdev->bd_disk) != a->sectors) {
		r = -EINVAL;
	} else {
		WRITE_ONCE(a->state, AMBRO_STATE_ON);
		percpu_ref_reinit(&a->in_flight);
	}
	attachment_unlock(a);
	return r;
}

/* Under a->lock. */
static void attachment_begin_off(struct attachment *a)
{
	if (attachment_state(a) != AMBRO_STATE_ON)
		return;
	WRITE_ONCE(a->state, AMBRO_STATE_DRAINING);
	percpu_ref_kill(&a->in_flight);
}

int attachment_off(struct file *file, u32 id)
{
	struct attachment *a = attachment_lock(file, id);
	int r;

	if (IS_ERR(a))
		return PTR_ERR(a);
	attachment_begin_off(a);
	r = wait_event_killable(a->drained, attachment_state(a) != AMBRO_STATE_DRAINING);
	attachment_unlock(a);
	return r ? -EINTR : 0;
}

int attachment_disarm(struct file *file, u32 id)
{
	struct attachment *a = attachment_lock(file, id);
	int r = 0;

	if (IS_ERR(a))
		return PTR_ERR(a);
	switch (attachment_state(a)) {
	case AMBRO_STATE_IDLE:
		break;
	case AMBRO_STATE_ARMED:
		WRITE_ONCE(a->armed_dev, 0);
		WRITE_ONCE(a->state, AMBRO_STATE_IDLE);
		compat_close(&a->armed);
		break;
	default:
		r = -EBUSY;
	}
	attachment_unlock(a);
	return r;
}

/* Under attach_lock. The reference of the table is left to the caller. */
static void attachment_demolish(struct attachment *a)
{
	spin_lock(&table_lock);
	table[a->id] = NULL;
	spin_unlock(&table_lock);
	hook_remove(a);
	front_destroy(a);
	back_destroy(a);
}

int attachment_detach(struct file *file, u32 id)
{
	struct attachment *a = attachment_lock(file, id);
	int r = -EBUSY;

	if (IS_ERR(a))
		return PTR_ERR(a);
	if (attachment_state(a) != AMBRO_STATE_IDLE)
		goto unlock;
	r = mutex_lock_killable(&attach_lock);
	if (r)
		goto unlock;
	r = back_retire(a);
	if (!r) {
		attachment_demolish(a);
		a->detached = true;
	}
	mutex_unlock(&attach_lock);
unlock:
	attachment_unlock(a);
	if (!r) {
		attachment_put(a);
		module_put(THIS_MODULE);
	}
	return r;
}

static void attachment_sum(const struct attachment *a, struct ambro_query *ret)
{
	u64 done = 0;
	int cpu;

	/* Done before redirected: in flight may come out too high for a moment, never below 0. */
	for_each_possible_cpu(cpu)
		done += READ_ONCE(per_cpu_ptr(a->tally, cpu)->done);
	smp_rmb(); /* done, then redirected; a bio is counted in the other order */
	for_each_possible_cpu(cpu) {
		const struct tally *t = per_cpu_ptr(a->tally, cpu);

		ret->redirected += READ_ONCE(t->redirected);
		ret->errors += READ_ONCE(t->errors);
		ret->discards += READ_ONCE(t->discards);
		ret->passed_by += READ_ONCE(t->passed_by);
		ret->missed += READ_ONCE(t->missed);
	}
	ret->in_flight = ret->redirected - done;
}

int attachment_query(struct file *file, struct ambro_query *arg)
{
	struct attachment *a = attachment_find(arg->id, U32_MAX);
	struct file *owner;
	dev_t armed;

	if (!a)
		return -ENOENT;
	memset(arg, 0, sizeof(*arg));
	owner = READ_ONCE(a->owner);
	armed = READ_ONCE(a->armed_dev);
	arg->id = a->id;
	arg->state = attachment_state(a);
	arg->owned = owner ? (owner == file ? 2 : 1) : 0;
	arg->major = MAJOR(a->dev);
	arg->minor = MINOR(a->dev);
	arg->front_major = MAJOR(a->front_dev);
	arg->front_minor = MINOR(a->front_dev);
	arg->back_major = MAJOR(a->back_dev);
	arg->back_minor = MINOR(a->back_dev);
	arg->armed_major = MAJOR(armed);
	arg->armed_minor = MINOR(armed);
	arg->sectors = a->sectors;
	arg->gone = compat_disk_is_gone(a->disk);
	attachment_sum(a, arg);
	attachment_put(a);
	return 0;
}

void attachments_disown(struct file *file)
{
	struct attachment *a;
	u32 id;

	for (id = 0; (a = attachment_find(id, U32_MAX)); id = a->id + 1, attachment_put(a)) {
		mutex_lock(&a->lock);
		if (a->owner == file) {
			attachment_begin_off(a);
			WRITE_ONCE(a->owner, NULL);
		}
		mutex_unlock(&a->lock);
	}
}
