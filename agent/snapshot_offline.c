/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * offline - a device that nobody uses, or an image file: one pass under an exclusive open.
 *
 * An exclusive open (O_EXCL) of a block device fails while it, or a partition of it, is mounted, swapped on or
 * part of a volume, and makes those fail while we read. A raw writer is not kept out by anything. Nobody
 * keeps a file from being written to: its size and time of change are compared afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/pause.h"
#include "agent/snapshot.h"
#include "lib/base/io.h"

struct offline {
	int exclusive_fd;   /* a device's; only held, never read */
	struct stat before; /* a file's */
};

static void offline_end(struct snapshot *s)
{
	struct offline *o = s->state;

	if (!o)
		return;
	tracker_free(TAKE_PTR(s->tracker));
	close_fd(o->exclusive_fd);
	free(o);
	s->state = NULL;
}

static int offline_hold(struct snapshot *s, struct offline *o, struct err *e)
{
	if (s->disk->is_file) {
		if (fstat(s->disk->fd, &o->before) < 0)
			return err_set_errno(e, -errno, "cannot look at %s", s->disk->path);
		return 0;
	}
	o->exclusive_fd = open(s->disk->path, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);
	if (o->exclusive_fd >= 0)
		return 0;
	if (errno == EBUSY) {
		return err_set(
			e, -EBUSY,
			"%s is in use (mounted, swapped on, or part of a volume); the offline "
			"strategy needs it for itself, use --strategy precopy",
			s->disk->path);
	}
	return err_set_errno(e, -errno, "cannot open %s for ourselves", s->disk->path);
}

static int offline_begin(struct snapshot *s, struct err *e)
{
	struct offline *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return err_oom(e);
	o->exclusive_fd = -EBADF;
	s->state = o;
	r = offline_hold(s, o, e);
	if (r < 0)
		return r;
	snapshot_track(s);
	s->instant_ns = io_realtime_ns();
	r = usedmap_make(s->disk, USEDMAP_IDLE, &s->map, e);
	if (r >= 0)
		pause_at("mapped");
	return r;
}

static int offline_next(struct snapshot *s, const struct extent_set **ret, struct err *e)
{
	struct offline *o = s->state;
	struct stat now;

	(void)ret;
	if (s->disk->is_file) {
		if (fstat(s->disk->fd, &now) < 0)
			return err_set_errno(e, -errno, "cannot look at %s", s->disk->path);
		if (now.st_size != o->before.st_size ||
		    memcmp(&now.st_mtim, &o->before.st_mtim, sizeof(now.st_mtim)) != 0) {
			return err_set(e, -EBUSY, "%s was changed while it was read",
				       s->disk->path);
		}
	}
	s->guarantee = "offline";
	return 0;
}

static int offline_able(const struct disk *d, struct err *e)
{
	if (!d->is_file || !d->in_use)
		return 0;
	return err_set(e, -EBUSY, "%s is in use as a loop device: capture that device", d->path);
}

const struct snapshot_ops snapshot_offline = {
	.name = "offline",
	.one_pass = true,
	.able = offline_able,
	.begin = offline_begin,
	.next = offline_next,
	.end = offline_end,
};
