/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/leftover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/cow_file.h"
#include "agent/interpose.h"
#include "agent/mapper.h"
#include "agent/module.h"
#include "agent/run_dir.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/text.h"
#include "lib/layout/sysblock.h"

int leftover_claim(const char *name, struct err *e)
{
	_cleanup_close_ int fd = -EBADF;
	char path[128];

	mkdir(RUN_DIR, 0755);
	snprintf(path, sizeof(path), RUN_DIR "/%s.lock", name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set_errno(e, -errno, "%s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		return err_set(
			e, -EBUSY,
			"another capture holds a snapshot of this disk (%s): wait for it, or "
			"use --strategy precopy",
			path);
	}
	return TAKE_FD(fd);
}

/* One pass over what is left; remembers the first failure and goes on. */
struct repair {
	int module_fd;
	unsigned int found;
	int r;
	struct err *e;
};

static void repair_note(struct repair *x, int r)
{
	if (r < 0) {
		if (x->r >= 0)
			x->r = r;
		return;
	}
	x->found++;
}

/* Once something has failed its words are kept. */
static struct err *repair_err(struct repair *x)
{
	return x->r < 0 ? NULL : x->e;
}

/* The disk's part of "ambro-DISK-ROLE", as "ambro-DISK"; false: not of that role. */
static bool leftover_base(const char *device, const char *role, char *buf, size_t size)
{
	size_t n = strlen(device), k = strlen(role);

	if (n <= k + 1 || device[n - k - 1] != '-' || strcmp(device + n - k, role) != 0)
		return false;
	snprintf(buf, size, "%.*s", (int)(n - k - 1), device);
	return true;
}

/* The volume whose place @real took gets its own table back. */
static int leftover_restore_volume(const char *base, const char *real, struct err *e)
{
	_cleanup_table_ struct mapper_table live = { 0 }, own = { 0 };
	char path[SYSBLOCK_PATH_MAX], number[32], volume[MAPPER_NAME_MAX];
	unsigned int major_number, minor_number;
	struct mapper_info info;
	int r;

	snprintf(path, sizeof(path), "/sys/class/block/%s/dev", base + strlen(MAPPER_NAME_PREFIX));
	/* NOLINTBEGIN(cert-err34-c): the kernel's own numbers */
	if (io_read_line(path, number, sizeof(number)) < 0 ||
	    sscanf(number, "%u:%u", &major_number, &minor_number) != 2)
		return 0;
	/* NOLINTEND(cert-err34-c) */
	r = mapper_name(makedev(major_number, minor_number), volume, e);
	if (r >= 0)
		r = mapper_info(volume, &info, e);
	if (r >= 0)
		r = mapper_read(volume, false, &live, e);
	if (r < 0)
		return r;
	if (info.inactive)
		r = mapper_clear(volume, e);
	if (r >= 0 && info.suspended)
		r = mapper_resume(volume, e);
	if (r < 0 || live.count != 1 || strcmp(live.targets[0].type, "snapshot-origin") != 0)
		return r;
	r = mapper_read(real, false, &own, e);
	if (r >= 0)
		r = mapper_load(volume, &own, false, e);
	return r < 0 ? r : mapper_resume(volume, e);
}

/* Steps 1 and 2 for a volume. */
static void repair_volume(struct repair *x, const char *base)
{
	char real[MAPPER_NAME_MAX];
	struct mapper_info info;
	int r;

	snprintf(real, sizeof(real), "%s-real", base);
	if (mapper_info(real, &info, NULL) < 0 || !info.exists)
		return;
	r = leftover_restore_volume(base, real, repair_err(x));
	if (r < 0)
		repair_note(x, r);
}

/* The module's attachment to the disk of @base: 1 and it, or 0. */
static int repair_find(struct repair *x, const char *base, struct ambro_query *ret)
{
	const char *wanted = base + strlen(MAPPER_NAME_PREFIX);

	for (uint32_t id = 0; x->module_fd >= 0 && module_query(x->module_fd, id, ret, NULL) == 1;
	     id = ret->id + 1) {
		char name[64];

		if (sysblock_name(makedev(ret->major, ret->minor), name, sizeof(name)) < 0)
			continue;
		interpose_plain_name(name);
		if (!strcmp(name, wanted))
			return 1;
	}
	return 0;
}

/* Step 3: one device, 0 also when it is not there. */
static bool repair_remove(struct repair *x, const char *base, const char *role)
{
	char name[MAPPER_NAME_MAX];
	struct mapper_info info;
	int r;

	snprintf(name, sizeof(name), "%s-%s", base, role);
	if (mapper_info(name, &info, NULL) < 0 || !info.exists)
		return true;
	if (info.suspended)
		mapper_resume(name, NULL);
	r = mapper_remove(name, repair_err(x));
	repair_note(x, r);
	return r >= 0;
}

/* Everything of one disk that nobody holds. */
static void repair_disk(struct repair *x, const char *base)
{
	struct ambro_query q;
	bool attached, ok;
	int r;

	attached = repair_find(x, base, &q) == 1;
	if (attached && q.owned)
		return;
	if (attached)
		repair_note(x, module_off(x->module_fd, q.id, repair_err(x)));
	repair_volume(x, base);
	ok = repair_remove(x, base, "view") && repair_remove(x, base, "snap");
	if (attached) {
		r = module_disarm(x->module_fd, q.id, repair_err(x));
		ok &= r >= 0;
	}
	ok = ok && repair_remove(x, base, "origin") && repair_remove(x, base, "cow") &&
	     repair_remove(x, base, "real");
	if (ok && attached)
		repair_note(x, module_detach(x->module_fd, q.id, repair_err(x)));
}

static void repair_named(struct repair *x, const char *base)
{
	_cleanup_close_ int claim = leftover_claim(base, NULL);

	if (claim >= 0)
		repair_disk(x, base);
}

/* Disks of which there are devices; several devices of one disk are found gone the second time. */
static int repair_devices(struct repair *x)
{
	static const char *const roles[] = { "view", "snap", "origin", "cow", "real" };
	_cleanup_(text_list_freep) char **names = NULL;
	int r;

	if (!mapper_present())
		return 0;
	r = mapper_names(MAPPER_NAME_PREFIX, &names, x->e);
	for (char **n = names; r >= 0 && *n; n++) {
		char base[MAPPER_NAME_MAX];

		for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
			if (leftover_base(*n, roles[i], base, sizeof(base)))
				repair_named(x, base);
		}
	}
	return r;
}

/* Disks that the module is attached to though there are no devices any more. */
static void repair_attachments(struct repair *x)
{
	struct ambro_query q;

	for (uint32_t id = 0; x->module_fd >= 0 && module_query(x->module_fd, id, &q, NULL) == 1;
	     id = q.id + 1) {
		char name[64], base[MAPPER_NAME_MAX];

		if (q.owned)
			continue;
		if (sysblock_name(makedev(q.major, q.minor), name, sizeof(name)) >= 0) {
			interpose_plain_name(name);
			snprintf(base, sizeof(base), MAPPER_NAME_PREFIX "%s", name);
			repair_named(x, base);
			continue;
		}
		/* the disk is gone, and its name with it */
		if (module_off(x->module_fd, q.id, repair_err(x)) >= 0 &&
		    module_disarm(x->module_fd, q.id, repair_err(x)) >= 0)
			repair_note(x, module_detach(x->module_fd, q.id, repair_err(x)));
	}
}

int leftover_repair(struct err *e)
{
	struct repair x = { .e = e };
	int r;

	x.module_fd = module_open(NULL);
	r = repair_devices(&x);
	repair_attachments(&x);
	close_fd(x.module_fd);
	x.found += cow_file_sweep();
	return r < 0 ? r : x.r < 0 ? x.r : (int)x.found;
}
