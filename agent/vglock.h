/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vglock - LVM's own lock of a volume group, shared: LVM commands that would change the group wait until it is
 * given back, those that only read go on.
 *
 * LVM has one flock(2)ed file per group in /run/lock/lvm and removes it when it is the last to let go, so the file has to
 * be looked at again once it is locked (its lib/locking/file_locking and misc/lvm-flock; observed with 2.03.16).
 */
#pragma once

#include "lib/base/err.h"

struct vglock {
	int fd; /* -EBADF: none */
	char path[320];
};

/*
 * Lock the group of the volume whose device-mapper name is @volume ("vg-lv", hyphens doubled). Waits up to ten seconds;
 * -EBUSY: an LVM command is at work. 0 without a lock where LVM has no lock directory.
 */
int vglock_take(const char *volume, struct vglock *ret, struct err *e);
void vglock_release(struct vglock *l);
