/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dm - the source is a device-mapper device itself (a logical volume): no module is needed.
 *
 *	prepare()  lock the volume group; the device below is "real", with the very table that the source has now
 *	load()	   snapshot-origin over "real" into the source's inactive slot
 *	on()	   one resume of the source: the kernel suspends it, swaps the table, resumes it
 *	off()	   the old table into the inactive slot, resume
 *
 * The source's file systems must never be thawed while it is suspended: the thaw writes the superblock, waits for
 * the device, and can be ended by nobody (measured). Hence no call of ours leaves it suspended; where the kernel
 * does (a swap that failed), the device is resumed at once, before the thaw.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/interpose.h"
#include "agent/vglock.h"
#include "lib/layout/sysblock.h"

struct volume {
	char name[MAPPER_NAME_MAX];
	struct mapper_table was;
	struct vglock lock;
	int mapper_fd;
	bool real, loaded, on;
	struct mapper_ready resume;
};

/* Only what maps sectors one to one, so that two devices may have the same table at once. */
static bool volume_simple(const struct mapper_table *t)
{
	for (size_t i = 0; i < t->count; i++) {
		if (strcmp(t->targets[i].type, "linear") != 0 &&
		    strcmp(t->targets[i].type, "striped") != 0)
			return false;
	}
	return t->count > 0;
}

static int dm_able(const struct disk *d, struct err *e)
{
	_cleanup_table_ struct mapper_table t = { 0 };
	char name[MAPPER_NAME_MAX];
	int r;

	if (d->is_partition)
		return err_set(e, -ENOTSUP, "%s is not a device-mapper device", d->path);
	r = mapper_name(d->device, name, e);
	if (r < 0)
		return err_set(e, -ENOTSUP, "%s is not a device-mapper device", d->path);
	r = mapper_able(e);
	if (r >= 0)
		r = mapper_read(name, false, &t, e);
	if (r < 0)
		return r;
	if (volume_simple(&t))
		return 0;
	if (t.count && !strcmp(t.targets[0].type, "snapshot-origin")) {
		return err_set(e, -EBUSY,
			       "%s has a snapshot already: another capture, or LVM's own", d->path);
	}
	return err_set(e, -ENOTSUP, "%s is not linear or striped, but %s", d->path,
		       t.count ? t.targets[0].type : "empty");
}

static int dm_make_real(struct interpose *i, struct volume *v, struct err *e)
{
	char real[MAPPER_NAME_MAX];
	int r;

	interpose_name(i, "real", real);
	r = mapper_create(real, &i->below, e);
	if (r < 0)
		return r;
	v->real = true;
	r = mapper_load(real, &v->was, false, e);
	if (r >= 0)
		r = mapper_resume(real, e);
	i->below_size = mapper_table_length(&v->was) * MAPPER_SECTOR;
	if (r >= 0 && i->below_size != i->disk->size)
		r = err_set(e, -ESTALE, "%s changed its size", i->disk->path);
	return r;
}

static int dm_prepare(struct interpose *i, struct err *e)
{
	struct volume *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return err_oom(e);
	v->mapper_fd = v->lock.fd = -EBADF;
	i->state = v;
	r = mapper_name(i->disk->device, v->name, e);
	if (r >= 0)
		r = vglock_take(v->name, &v->lock, e);
	if (r >= 0)
		r = v->mapper_fd = mapper_control_open(e);
	if (r >= 0)
		r = mapper_read(v->name, false, &v->was, e);
	if (r >= 0 && !volume_simple(&v->was))
		r = err_set(e, -ENOTSUP, "%s is not linear or striped any more", i->disk->path);
	return r < 0 ? r : dm_make_real(i, v, e);
}

static int dm_load(struct interpose *i, struct err *e)
{
	_cleanup_table_ struct mapper_table t = { 0 };
	struct volume *v = i->state;
	int r;

	if (mapper_table_add(&t, i->below_size / MAPPER_SECTOR, "snapshot-origin", "%u:%u",
			     major(i->below), minor(i->below)) < 0)
		return err_oom(e);
	r = mapper_load(v->name, &t, false, e);
	if (r < 0)
		return r;
	v->loaded = true;
	mapper_resume_prepare(v->mapper_fd, v->name, &v->resume);
	return 0;
}

static int dm_on(struct interpose *i)
{
	struct volume *v = i->state;
	int r = mapper_resume_run(&v->resume);

	/* a swap that failed leaves it suspended, and without the table: this lets the old one go on */
	if (r < 0) {
		mapper_resume_run(&v->resume);
		return r;
	}
	v->loaded = false;
	v->on = true;
	return 0;
}

/* Is the table still the one of dm_on()? Whoever replaced it has left writes out of the snapshot. */
static int dm_check(struct interpose *i, struct err *e)
{
	_cleanup_table_ struct mapper_table t = { 0 };
	const struct volume *v = i->state;
	int r;

	r = mapper_read(v->name, false, &t, e);
	if (r < 0)
		return r;
	if (t.count != 1 || strcmp(t.targets[0].type, "snapshot-origin") != 0) {
		return err_set(e, -ESTALE, "somebody changed the table of %s while it was captured",
			       i->disk->path);
	}
	return 0;
}

static int dm_off(struct interpose *i, struct err *e)
{
	struct volume *v = i->state;
	int r;

	if (!v || (!v->on && !v->loaded))
		return 0;
	if (v->loaded) {
		r = mapper_clear(v->name, e);
		if (r >= 0)
			v->loaded = false;
		return r;
	}
	r = mapper_load(v->name, &v->was, false, e);
	if (r >= 0)
		r = mapper_resume(v->name, e);
	if (r < 0) {
		mapper_resume(v->name, NULL);
		return r;
	}
	v->on = false;
	return 0;
}

static int dm_undo(struct interpose *i, struct err *e)
{
	struct volume *v = i->state;
	char real[MAPPER_NAME_MAX];
	int r = 0;

	if (!v)
		return 0;
	interpose_name(i, "real", real);
	if (v->real)
		r = mapper_remove(real, e);
	vglock_release(&v->lock);
	close_fd(v->mapper_fd);
	mapper_table_done(&v->was);
	free(v);
	i->state = NULL;
	return r;
}

const struct interpose_ops interpose_dm = {
	.name = "dm",
	.able = dm_able,
	.prepare = dm_prepare,
	.load = dm_load,
	.on = dm_on,
	.check = dm_check,
	.off = dm_off,
	.undo = dm_undo,
};
