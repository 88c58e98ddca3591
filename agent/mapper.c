/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/mapper.h"

#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "lib/base/array.h"
#include "lib/base/text.h"
#include "lib/layout/sysblock.h"

/* A tool that looks at a device (blkid, udev) has it open for a moment. */
#define REMOVE_TRIES 20u
#define REMOVE_NS    50000000

static pthread_mutex_t mapper_lock = PTHREAD_MUTEX_INITIALIZER;

static void mapper_unlock(pthread_mutex_t **m)
{
	pthread_mutex_unlock(*m);
}

static pthread_mutex_t *mapper_enter(void)
{
	static bool ready;

	pthread_mutex_lock(&mapper_lock);
	if (!ready) {
		/* the kernel makes /dev/dm-N; links in /dev/mapper are for people, and for them udev's */
		dm_udev_set_sync_support(0);
		dm_udev_set_checking(0);
		dm_set_sysfs_dir("/sys");
		ready = true;
	}
	return &mapper_lock;
}
/* NOLINTBEGIN(bugprone-macro-parentheses): a declaration */
#define MAPPER_ENTER \
	__attribute__((cleanup(mapper_unlock), unused)) pthread_mutex_t *entered = mapper_enter()
/* NOLINTEND(bugprone-macro-parentheses) */

/* What fails is told by the caller, with its errno. */
static void mapper_silent(int level, const char *file, int line, int error, const char *format, ...)
{
	(void)level, (void)file, (void)line, (void)error, (void)format;
}

static void task_freep(struct dm_task **t)
{
	if (*t)
		dm_task_destroy(*t);
}
#define _cleanup_task_ _cleanup_(task_freep)

static struct dm_task *task_new(int type, const char *name)
{
	struct dm_task *t;

	dm_log_with_errno_init(mapper_silent);
	t = dm_task_create(type);
	if (t && name && !dm_task_set_name(t, name)) {
		dm_task_destroy(t);
		return NULL;
	}
	return t;
}

/* 0 or a negative errno */
static int task_run(struct dm_task *t)
{
	int r;

	if (dm_task_run(t))
		return 0;
	r = dm_task_get_errno(t);
	return r > 0 ? -r : -EIO;
}

int mapper_table_add(struct mapper_table *t, uint64_t length, const char *type, const char *format,
		     ...)
{
	struct mapper_target *target;
	va_list args;
	int r;

	if (ARRAY_ROOM(t->targets, t->count, t->allocated, 8) < 0)
		return -ENOMEM;
	target = &t->targets[t->count];
	target->start = mapper_table_length(t);
	target->length = length;
	snprintf(target->type, sizeof(target->type), "%s", type);
	va_start(args, format);
	r = vasprintf(&target->params, format, args);
	va_end(args);
	if (r < 0)
		return -ENOMEM;
	t->count++;
	return 0;
}

uint64_t mapper_table_length(const struct mapper_table *t)
{
	return t->count ? t->targets[t->count - 1].start + t->targets[t->count - 1].length : 0;
}

void mapper_table_done(struct mapper_table *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->targets[i].params);
	free(t->targets);
	*t = (struct mapper_table){ 0 };
}

/* Is @wanted among the targets that the kernel knows now? */
static bool mapper_has_target(const char *wanted)
{
	_cleanup_task_ struct dm_task *t = task_new(DM_DEVICE_LIST_VERSIONS, NULL);
	struct dm_versions *v, *last;

	if (!t || task_run(t) < 0)
		return false;
	v = dm_task_get_versions(t);
	do {
		last = v;
		if (!strcmp(v->name, wanted))
			return true;
		v = (struct dm_versions *)((char *)v + v->next);
	} while (last->next);
	return false;
}

/* Asking for a target's version by name makes the kernel load its module (Linux 5.3). */
static void mapper_load_target(const char *name)
{
	_cleanup_task_ struct dm_task *t = task_new(DM_DEVICE_GET_TARGET_VERSION, name);

	if (t)
		task_run(t);
}

bool mapper_present(void)
{
	_cleanup_close_ int fd = open(MAPPER_CONTROL_PATH, O_RDWR | O_CLOEXEC);

	return fd >= 0;
}

int mapper_able(struct err *e)
{
	static const char *const targets[] = { "linear", "snapshot", "snapshot-origin", "zero" };
	MAPPER_ENTER;

	if (!mapper_present())
		return err_set(e, -ENOTSUP, "the kernel has no device-mapper");
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		if (mapper_has_target(targets[i]))
			continue;
		mapper_load_target(targets[i]);
		if (!mapper_has_target(targets[i])) {
			return err_set(e, -ENOTSUP,
				       "device-mapper has no target \"%s\" (modprobe dm-snapshot "
				       "dm-zero)",
				       targets[i]);
		}
	}
	return 0;
}

/*
 * What udev is told with an event of @name: nothing may look into what we make, or link to it. Of a volume it is told
 * nothing: then it keeps what it knows, and the volume its links.
 */
static uint16_t mapper_udev_flags(const char *name)
{
	if (strncmp(name, MAPPER_NAME_PREFIX, strlen(MAPPER_NAME_PREFIX)) != 0)
		return 0;
	return DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG | DM_UDEV_DISABLE_DISK_RULES_FLAG |
	       DM_UDEV_DISABLE_OTHER_RULES_FLAG | DM_UDEV_DISABLE_LIBRARY_FALLBACK;
}

static void task_hide(struct dm_task *t, const char *name)
{
	uint16_t flags = mapper_udev_flags(name);
	uint32_t cookie = 0;

	/* sync is off, so this only sends the flags along */
	if (flags)
		dm_task_set_cookie(t, &cookie, flags);
}

int mapper_create(const char *name, dev_t *ret, struct err *e)
{
	_cleanup_task_ struct dm_task *t = NULL;
	char uuid[MAPPER_NAME_MAX];
	struct dm_info info;
	MAPPER_ENTER;
	int r;

	t = task_new(DM_DEVICE_CREATE, name);
	snprintf(uuid, sizeof(uuid), MAPPER_UUID_PREFIX "%s", name);
	if (!t || !dm_task_set_uuid(t, uuid))
		return err_oom(e);
	task_hide(t, name);
	r = task_run(t);
	if (r == -EBUSY) {
		return err_set(e, r,
			       "%s exists already: another capture of this disk is running, or "
			       "one was killed (ambroctl status --repair)",
			       name);
	}
	if (r < 0)
		return err_set_errno(e, r, "cannot make the device-mapper device %s", name);
	if (!dm_task_get_info(t, &info) || !info.exists)
		return err_set(e, -EIO, "the device-mapper device %s did not come up", name);
	*ret = makedev(info.major, info.minor);
	return 0;
}

int mapper_load(const char *name, const struct mapper_table *table, bool read_only, struct err *e)
{
	_cleanup_task_ struct dm_task *t = NULL;
	MAPPER_ENTER;
	int r;

	t = task_new(DM_DEVICE_RELOAD, name);
	if (!t || (read_only && !dm_task_set_ro(t)))
		return err_oom(e);
	for (size_t i = 0; i < table->count; i++) {
		const struct mapper_target *x = &table->targets[i];

		if (!dm_task_add_target(t, x->start, x->length, x->type, x->params))
			return err_oom(e);
	}
	r = task_run(t);
	if (r < 0)
		return err_set_errno(e, r, "cannot load the table of %s", name);
	return 0;
}

static int mapper_simple(int type, const char *name)
{
	_cleanup_task_ struct dm_task *t = NULL;
	MAPPER_ENTER;

	t = task_new(type, name);
	if (!t)
		return -ENOMEM;
	if (type == DM_DEVICE_RESUME && !dm_task_skip_lockfs(t))
		return -ENOMEM;
	if (type == DM_DEVICE_RESUME || type == DM_DEVICE_REMOVE)
		task_hide(t, name);
	return task_run(t);
}

int mapper_clear(const char *name, struct err *e)
{
	int r = mapper_simple(DM_DEVICE_CLEAR, name);

	return r < 0 && r != -ENXIO ? err_set_errno(e, r, "cannot clear %s", name) : 0;
}

int mapper_resume(const char *name, struct err *e)
{
	int r = mapper_simple(DM_DEVICE_RESUME, name);

	return r < 0 ? err_set_errno(e, r, "cannot resume %s", name) : 0;
}

int mapper_remove(const char *name, struct err *e)
{
	int r = -EBUSY;

	for (unsigned int i = 0; i < REMOVE_TRIES && r == -EBUSY; i++) {
		if (i)
			nanosleep(&(struct timespec){ .tv_nsec = REMOVE_NS }, NULL);
		r = mapper_simple(DM_DEVICE_REMOVE, name);
	}
	if (r == -EBUSY)
		return err_set(e, r, "the device-mapper device %s is in use by somebody", name);
	return r < 0 && r != -ENXIO ? err_set_errno(e, r, "cannot remove %s", name) : 0;
}

int mapper_info(const char *name, struct mapper_info *ret, struct err *e)
{
	_cleanup_task_ struct dm_task *t = NULL;
	struct dm_info info = { 0 };
	MAPPER_ENTER;
	int r;

	*ret = (struct mapper_info){ 0 };
	t = task_new(DM_DEVICE_INFO, name);
	if (!t)
		return err_oom(e);
	r = task_run(t);
	if (r == -ENXIO)
		return 0;
	if (r < 0 || !dm_task_get_info(t, &info))
		return err_set_errno(e, r < 0 ? r : -EIO, "cannot look at %s", name);
	*ret = (struct mapper_info){
		.exists = info.exists,
		.inactive = info.inactive_table,
		.suspended = info.suspended,
		.device = makedev(info.major, info.minor),
	};
	return 0;
}

int mapper_read(const char *name, bool status, struct mapper_table *ret, struct err *e)
{
	_cleanup_task_ struct dm_task *t = NULL;
	void *next = NULL;
	MAPPER_ENTER;
	int r;

	t = task_new(status ? DM_DEVICE_STATUS : DM_DEVICE_TABLE, name);
	if (!t)
		return err_oom(e);
	/* a flush would wait for a table's swap */
	dm_task_no_flush(t);
	r = task_run(t);
	if (r < 0)
		return err_set_errno(e, r, "cannot read the table of %s", name);
	do {
		char *type = NULL, *params = NULL;
		uint64_t start, length;

		next = dm_get_next_target(t, next, &start, &length, &type, &params);
		if (!type)
			continue;
		if (mapper_table_add(ret, length, type, "%s", params ? params : "") < 0)
			return err_oom(e);
		ret->targets[ret->count - 1].start = start;
	} while (next);
	return 0;
}

int mapper_name(dev_t dev, char ret[static MAPPER_NAME_MAX], struct err *e)
{
	ssize_t n = sysblock_text(dev, "dm/name", ret, MAPPER_NAME_MAX);

	if (n > 0)
		return 0;
	return err_set(e, -ENXIO, "%u:%u is not a device-mapper device", major(dev), minor(dev));
}

int mapper_names(const char *prefix, char ***ret, struct err *e)
{
	_cleanup_(text_list_freep) char **names = calloc(1, sizeof(*names));
	_cleanup_task_ struct dm_task *t = NULL;
	struct dm_names *n;
	size_t count = 0;
	MAPPER_ENTER;
	int r;

	t = task_new(DM_DEVICE_LIST, NULL);
	if (!t || !names)
		return err_oom(e);
	r = task_run(t);
	if (r < 0)
		return err_set_errno(e, r, "cannot list device-mapper's devices");
	n = dm_task_get_names(t);
	/* an empty list has one entry, of no device */
	for (bool more = n && n->dev; more;) {
		if (!strncmp(n->name, prefix, strlen(prefix)) &&
		    text_list_add(&names, &count, n->name) < 0)
			return err_oom(e);
		more = n->next != 0;
		n = (struct dm_names *)((char *)n + n->next);
	}
	*ret = TAKE_PTR(names);
	return 0;
}

void mapper_path(dev_t dev, char *buf, size_t size)
{
	snprintf(buf, size, "/dev/dm-%u", minor(dev));
}

int mapper_control_open(struct err *e)
{
	int fd = open(MAPPER_CONTROL_PATH, O_RDWR | O_CLOEXEC);

	return fd < 0 ? err_set_errno(e, -errno, "%s", MAPPER_CONTROL_PATH) : fd;
}

void mapper_resume_prepare(int control_fd, const char *name, struct mapper_ready *ret)
{
	*ret = (struct mapper_ready){
		.fd = control_fd,
		.io = {
			.version = { DM_VERSION_MAJOR, 0, 0 },
			.data_size = sizeof(ret->io),
			.data_start = sizeof(ret->io),
			/* a resume is this call without DM_SUSPEND_FLAG */
			.flags = DM_SKIP_LOCKFS_FLAG,
			.event_nr = (uint32_t)mapper_udev_flags(name) << DM_UDEV_FLAGS_SHIFT,
		},
	};
	snprintf(ret->io.name, sizeof(ret->io.name), "%s", name);
}

int mapper_resume_run(struct mapper_ready *m)
{
	struct dm_ioctl io = m->io;

	return ioctl(m->fd, DM_DEV_SUSPEND, &io) < 0 ? -errno : 0;
}
