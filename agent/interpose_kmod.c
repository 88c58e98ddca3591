/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kmod - device-mapper under any block device, by ambro.ko (kmod/uapi.h).
 *
 *	prepare()  attach to the whole disk: the device below is the module's "back", which is as large
 *	load()	   the device "origin": snapshot-origin for the source's range, linear for what lies before and behind
 *		   it and for swap areas, so a write across a partition's edge is split where it should be; the module opens it
 *	on()	   resume "origin" (the snapshot runs already), tell the module
 *	off()	   tell the module; it waits for what is under way
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/interpose.h"
#include "agent/module.h"
#include "lib/base/io.h"
#include "lib/layout/sysblock.h"
#include "lib/layout/usedblocks.h"

struct kmod {
	int module_fd, mapper_fd;
	uint32_t id;
	bool attached, loaded;
	dev_t origin;
	struct mapper_ready resume;
};

/* A multipath device sends requests, not bios, to its paths. */
static bool kmod_is_path(const struct disk *d)
{
	dev_t holders[SYSBLOCK_LINKS_MAX];
	int n = sysblock_links(d->whole, "holders", holders, SYSBLOCK_LINKS_MAX);
	char uuid[64];

	for (int i = 0; i < n; i++) {
		if (sysblock_text(holders[i], "dm/uuid", uuid, sizeof(uuid)) > 0 &&
		    !strncmp(uuid, "mpath-", 6))
			return true;
	}
	return false;
}

static int kmod_able(const struct disk *d, struct err *e)
{
	_cleanup_close_ int fd = module_open(e);

	if (fd < 0)
		return fd;
	if (kmod_is_path(d)) {
		return err_set(e, -ENOTSUP,
			       "%s is one path of a multipath device, whose requests pass by the "
			       "module: capture that device",
			       d->path);
	}
	return mapper_able(e);
}

static int kmod_attach(struct interpose *i, struct kmod *k, struct err *e)
{
	struct ambro_attach attach = {
		.major = major(i->disk->whole),
		.minor = minor(i->disk->whole),
	};

	if (ioctl(k->module_fd, AMBRO_IOC_ATTACH, &attach) < 0) {
		if (errno == EBUSY) {
			return err_set(e, -EBUSY,
				       "%s has a snapshot already: another capture of this disk "
				       "is running, or one was killed (ambroctl status --repair)",
				       i->disk->path);
		}
		if (errno == EOPNOTSUPP) {
			return err_set(e, -ENOTSUP,
				       "%s is of a kind that the module ambro does not take: the "
				       "kernel's log says which",
				       i->disk->path);
		}
		return err_set_errno(e, -errno, "the module ambro cannot attach to %s",
				     i->disk->path);
	}
	k->attached = true;
	k->id = attach.id;
	i->below = makedev(attach.back_major, attach.back_minor);
	i->below_size = attach.sectors * MAPPER_SECTOR;
	i->below_start = i->disk->whole_offset;
	return 0;
}

static int kmod_prepare(struct interpose *i, struct err *e)
{
	struct kmod *k = calloc(1, sizeof(*k));

	if (!k)
		return err_oom(e);
	k->module_fd = k->mapper_fd = -EBADF;
	i->state = k;
	k->module_fd = module_open(e);
	if (k->module_fd < 0)
		return k->module_fd;
	k->mapper_fd = mapper_control_open(e);
	return k->mapper_fd < 0 ? k->mapper_fd : kmod_attach(i, k, e);
}

/* @what ("linear M:m 0") for bytes [@from, @to), if there are any. */
static int kmod_add(struct mapper_table *t, const struct interpose *i, bool origin, uint64_t from,
		    uint64_t to)
{
	const uint64_t sectors = (to - from) / MAPPER_SECTOR;

	if (from == to)
		return 0;
	if (origin) {
		return mapper_table_add(t, sectors, "snapshot-origin", "%u:%u", major(i->below),
					minor(i->below));
	}
	return mapper_table_add(t, sectors, "linear", "%u:%u %llu", major(i->below),
				minor(i->below), (unsigned long long)(from / MAPPER_SECTOR));
}

/*
 * The source's range. The body of a swap area is never captured, so its writes go straight to the disk: they come when
 * memory is short, and must not need more of it for a copy.
 */
static int kmod_add_source(struct mapper_table *t, const struct interpose *i)
{
	const struct layout *l = i->disk->layout;
	uint64_t at = 0;
	int r = 0;

	for (size_t k = 0; k < l->n_regions && r >= 0; k++) {
		const struct layout_region *region = &l->regions[k];
		uint64_t body = region->start + SWAP_HEADER_BYTES;
		uint64_t end = region->start + region->length;

		if (!region->fs_type || strcmp(region->fs_type, "swap") != 0 || body >= end)
			continue;
		r = kmod_add(t, i, true, i->below_start + at, i->below_start + body);
		if (r >= 0)
			r = kmod_add(t, i, false, i->below_start + body, i->below_start + end);
		at = end;
	}
	return r < 0 ? r
		     : kmod_add(t, i, true, i->below_start + at, i->below_start + i->disk->size);
}

static int kmod_load(struct interpose *i, struct err *e)
{
	const uint64_t start = i->below_start, end = start + i->disk->size;
	_cleanup_table_ struct mapper_table t = { 0 };
	struct kmod *k = i->state;
	char name[MAPPER_NAME_MAX];
	struct ambro_arm arm = { .id = k->id };
	int r;

	if (kmod_add(&t, i, false, 0, start) < 0 || kmod_add_source(&t, i) < 0 ||
	    kmod_add(&t, i, false, end, i->below_size) < 0)
		return err_oom(e);
	interpose_name(i, "origin", name);
	r = mapper_create(name, &k->origin, e);
	if (r < 0)
		return r;
	k->loaded = true;
	r = mapper_load(name, &t, false, e);
	if (r < 0)
		return r;
	mapper_resume_prepare(k->mapper_fd, name, &k->resume);
	arm.major = major(k->origin);
	arm.minor = minor(k->origin);
	if (ioctl(k->module_fd, AMBRO_IOC_ARM, &arm) < 0)
		return err_set_errno(e, -errno, "%s: arm", AMBRO_CONTROL_PATH);
	return 0;
}

static int kmod_on(struct interpose *i)
{
	struct kmod *k = i->state;
	struct ambro_id id = { .id = k->id };
	int r = mapper_resume_run(&k->resume);

	if (r < 0)
		return r;
	return ioctl(k->module_fd, AMBRO_IOC_ON, &id) < 0 ? -errno : 0;
}

static int kmod_check(struct interpose *i, struct err *e)
{
	const struct kmod *k = i->state;
	struct ambro_query q;
	int r;

	r = module_query(k->module_fd, k->id, &q, e);
	if (r < 0)
		return r;
	if (r == 0 || q.id != k->id || q.state != AMBRO_STATE_ON || q.owned != 2)
		return err_set(e, -ESTALE, "the module ambro let go of %s", i->disk->path);
	if (q.gone)
		return err_set(e, -ENODEV, "%s was removed", i->disk->path);
	if (q.missed) {
		return err_set(e, -EIO,
			       "%llu writes to %s were of a kind that the module ambro cannot send "
			       "through the snapshot",
			       (unsigned long long)q.missed, i->disk->path);
	}
	return 0;
}

static int kmod_off(struct interpose *i, struct err *e)
{
	struct kmod *k = i->state;

	return k && k->attached ? module_off(k->module_fd, k->id, e) : 0;
}

static int kmod_undo(struct interpose *i, struct err *e)
{
	struct kmod *k = i->state;
	char name[MAPPER_NAME_MAX];
	int r = 0;

	if (!k)
		return 0;
	interpose_name(i, "origin", name);
	if (k->attached)
		r = module_disarm(k->module_fd, k->id, e);
	if (r >= 0 && k->loaded)
		r = mapper_remove(name, e);
	if (r >= 0 && k->attached)
		r = module_detach(k->module_fd, k->id, e);
	close_fd(k->module_fd);
	close_fd(k->mapper_fd);
	free(k);
	i->state = NULL;
	return r;
}

const struct interpose_ops interpose_kmod = {
	.name = "kmod",
	.able = kmod_able,
	.prepare = kmod_prepare,
	.load = kmod_load,
	.on = kmod_on,
	.check = kmod_check,
	.off = kmod_off,
	.undo = kmod_undo,
};
