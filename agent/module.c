/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/module.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <time.h>

#include "lib/base/cleanup.h"

#define DETACH_TRIES 40u
#define DETACH_NS    50000000

int module_open(struct err *e)
{
	struct ambro_version version;
	_cleanup_close_ int fd = open(AMBRO_CONTROL_PATH, O_RDWR | O_CLOEXEC);

	if (fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
		return err_set(e, -ENOTSUP, "the kernel module ambro is not loaded");
	if (fd < 0)
		return err_set_errno(e, -errno, "%s", AMBRO_CONTROL_PATH);
	if (ioctl(fd, AMBRO_IOC_VERSION, &version) < 0)
		return err_set_errno(e, -errno, "%s: version", AMBRO_CONTROL_PATH);
	if (version.uapi != AMBRO_UAPI_VERSION) {
		return err_set(e, -ENOTSUP,
			       "the kernel module ambro speaks version %u of its interface, this "
			       "agent %u: install both from one release",
			       version.uapi, AMBRO_UAPI_VERSION);
	}
	return TAKE_FD(fd);
}

int module_query(int fd, uint32_t id, struct ambro_query *ret, struct err *e)
{
	*ret = (struct ambro_query){ .id = id };
	if (ioctl(fd, AMBRO_IOC_QUERY, ret) == 0)
		return 1;
	return errno == ENOENT ? 0 : err_set_errno(e, -errno, "%s: query", AMBRO_CONTROL_PATH);
}

static int module_call(int fd, unsigned long call, uint32_t id, const char *what, struct err *e)
{
	struct ambro_id arg = { .id = id };
	int r;

	for (unsigned int i = 0;; i++) {
		r = ioctl(fd, call, &arg) < 0 ? -errno : 0;
		/* udev has "back" open for a moment */
		if (r == -EBUSY && call == AMBRO_IOC_DETACH && i < DETACH_TRIES) {
			nanosleep(&(struct timespec){ .tv_nsec = DETACH_NS }, NULL);
		} else if (r != -EINTR) {
			break;
		}
	}
	return r < 0 ? err_set_errno(e, r, "%s: %s", AMBRO_CONTROL_PATH, what) : 0;
}

int module_off(int fd, uint32_t id, struct err *e)
{
	return module_call(fd, AMBRO_IOC_OFF, id, "off", e);
}

int module_disarm(int fd, uint32_t id, struct err *e)
{
	return module_call(fd, AMBRO_IOC_DISARM, id, "disarm", e);
}

int module_detach(int fd, uint32_t id, struct err *e)
{
	return module_call(fd, AMBRO_IOC_DETACH, id, "detach", e);
}
