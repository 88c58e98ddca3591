/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/vglock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/base/cleanup.h"

#define LOCK_DIR   "/run/lock/lvm"
#define LOCK_TRIES 100u
#define LOCK_NS	   100000000

/* The group's part of a volume's name: up to the first single hyphen; a doubled one stands for one. */
static void vglock_group(const char *volume, char *buf, size_t size)
{
	size_t n = 0;

	for (; *volume && n + 1 < size; volume++) {
		if (*volume == '-' && *++volume != '-')
			break;
		buf[n++] = *volume;
	}
	buf[n] = '\0';
}

/* Is what we have locked still what the name means? */
static bool vglock_current(const struct vglock *l)
{
	struct stat ours, named;

	return fstat(l->fd, &ours) == 0 && stat(l->path, &named) == 0 &&
	       ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

int vglock_take(const char *volume, struct vglock *ret, struct err *e)
{
	char group[256];

	ret->fd = -EBADF;
	if (access(LOCK_DIR, F_OK) < 0)
		return 0;
	vglock_group(volume, group, sizeof(group));
	snprintf(ret->path, sizeof(ret->path), LOCK_DIR "/V_%s", group);
	for (unsigned int i = 0; i < LOCK_TRIES; i++) {
		ret->fd = open(ret->path, O_CREAT | O_APPEND | O_RDWR | O_CLOEXEC, 0600);
		if (ret->fd < 0)
			return err_set_errno(e, -errno, "LVM's lock %s", ret->path);
		if (flock(ret->fd, LOCK_SH | LOCK_NB) == 0 && vglock_current(ret))
			return 0;
		ret->fd = close_fd(ret->fd);
		nanosleep(&(struct timespec){ .tv_nsec = LOCK_NS }, NULL);
	}
	return err_set(e, -EBUSY, "an LVM command is changing the volume group %s: try again later",
		       group);
}

void vglock_release(struct vglock *l)
{
	if (l->fd < 0)
		return;
	/* the last one to let go removes it, as LVM does */
	if (flock(l->fd, LOCK_EX | LOCK_NB) == 0 && vglock_current(l))
		unlink(l->path);
	l->fd = close_fd(l->fd);
}
