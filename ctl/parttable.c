/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/parttable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <linux/blkpg.h>
#include <linux/fs.h>

#include <libfdisk.h>

#include "lib/base/cleanup.h"
#include "lib/layout/sysblock.h"

/* udev opens a partition for some milliseconds whenever it changes; that passes. */
#define PARTTABLE_TRIES	   20
#define PARTTABLE_PAUSE_NS 50000000

static void context_free(struct fdisk_context **c)
{
	if (!*c)
		return;
	/* no sync(): the caller flushes the one disk that matters */
	fdisk_deassign_device(*c, 1);
	fdisk_unref_context(*c);
}

static void table_free(struct fdisk_table **t)
{
	fdisk_unref_table(*t);
}

static void iter_free(struct fdisk_iter **it)
{
	fdisk_free_iter(*it);
}

/* @sector 0: what the device says. */
static int context_open(int fd, const char *path, uint32_t sector, struct fdisk_context **ret,
			struct err *e)
{
	_cleanup_(context_free) struct fdisk_context *c = fdisk_new_context();
	int r;

	if (!c)
		return err_oom(e);
	fdisk_disable_dialogs(c, 1);
	if (sector)
		fdisk_save_user_sector_size(c, sector, sector);
	r = fdisk_assign_device_by_fd(c, fd, path, 0);
	if (r < 0)
		return err_set_errno(e, r, "reading the partition table of %s", path);
	*ret = TAKE_PTR(c);
	return 0;
}

static int partition_ioctl(int fd, int op, struct blkpg_partition *p)
{
	struct blkpg_ioctl_arg arg = { .op = op, .datalen = sizeof(*p), .data = p };
	const struct timespec pause = { .tv_nsec = PARTTABLE_PAUSE_NS };

	for (int i = 0;; i++) {
		if (ioctl(fd, BLKPG, &arg) == 0)
			return 0;
		if (errno != EBUSY || op != BLKPG_DEL_PARTITION || i == PARTTABLE_TRIES)
			return -errno;
		nanosleep(&pause, NULL);
	}
}

int parttable_drop(int fd, dev_t device, const char *path, struct err *e)
{
	struct sysblock_part parts[SYSBLOCK_LINKS_MAX];
	int n = sysblock_parts(device, parts), r;

	if (n < 0)
		return err_set_errno(e, n, "reading the partitions of %s from sysfs", path);
	for (int i = 0; i < n; i++) {
		struct blkpg_partition p = { .pno = (int)parts[i].number };

		r = partition_ioctl(fd, BLKPG_DEL_PARTITION, &p);
		if (r < 0 && r != -ENXIO) {
			return err_set_errno(e, r, "cannot let go of partition %u of %s",
					     parts[i].number, path);
		}
	}
	return 0;
}

int parttable_move_backup(int fd, const char *path, uint32_t sector, struct err *e)
{
	_cleanup_(context_free) struct fdisk_context *c = NULL, *again = NULL;
	int r = context_open(fd, path, sector, &c, e);

	if (r < 0)
		return r;
	if (!fdisk_is_label(c, GPT))
		return err_set(e, -EINVAL, "%s has no GPT to be fitted", path);
	/* writes both tables where they belong on a disk of this size */
	r = fdisk_write_disklabel(c);
	if (r < 0)
		return err_set_errno(e, r, "moving the backup GPT of %s to its end", path);
	if (fsync(fd) < 0)
		return err_set_errno(e, -errno, "writing the GPT of %s", path);
	r = context_open(fd, path, sector, &again, e);
	if (r < 0)
		return r;
	if (!fdisk_is_label(again, GPT) || fdisk_verify_disklabel(again)) {
		return err_set(e, -EIO, "the GPT of %s does not read back right after it was moved",
			       path);
	}
	return 0;
}

/* Add what the kernel lacks. Returns how many partitions there are, or a negative errno. */
static int partitions_add(int fd, struct fdisk_context *c, const char *path, struct err *e)
{
	_cleanup_(table_free) struct fdisk_table *t = NULL;
	_cleanup_(iter_free) struct fdisk_iter *it = fdisk_new_iter(FDISK_ITER_FORWARD);
	uint64_t sector = fdisk_get_sector_size(c);
	struct fdisk_partition *pa;
	int n = 0, r;

	if (!it)
		return err_oom(e);
	r = fdisk_get_partitions(c, &t);
	if (r < 0)
		return err_set_errno(e, r, "reading the partitions of %s", path);
	while (fdisk_table_next_partition(t, it, &pa) == 0) {
		/* an extended partition is a place for others, not one to be used */
		if (!fdisk_partition_has_start(pa) || !fdisk_partition_has_size(pa) ||
		    fdisk_partition_is_container(pa))
			continue;
		struct blkpg_partition p = {
			.start = (long long)(fdisk_partition_get_start(pa) * sector),
			.length = (long long)(fdisk_partition_get_size(pa) * sector),
			.pno = (int)fdisk_partition_get_partno(pa) + 1,
		};

		r = partition_ioctl(fd, BLKPG_ADD_PARTITION, &p);
		/* EBUSY: there is one, from BLKRRPART a moment ago */
		if (r < 0 && r != -EBUSY) {
			return err_set_errno(e, r, "telling the kernel of partition %d of %s",
					     p.pno, path);
		}
		n++;
	}
	return n;
}

int parttable_reread(int fd, dev_t device, const char *path, struct err *e)
{
	_cleanup_(context_free) struct fdisk_context *c = NULL;
	struct sysblock_part parts[SYSBLOCK_LINKS_MAX];
	int n, known, r;

	/* EINVAL from a device that scans no partitions; success and none where no parser is built in */
	(void)ioctl(fd, BLKRRPART, 0);
	r = context_open(fd, path, 0, &c, e);
	if (r < 0)
		return r;
	if (!fdisk_has_label(c))
		return 0;
	n = partitions_add(fd, c, path, e);
	if (n < 0)
		return n;
	known = sysblock_parts(device, parts);
	if (known < 0)
		return err_set_errno(e, known, "reading the partitions of %s from sysfs", path);
	if (known < n) {
		return err_set(e, -EIO, "the kernel knows %d of the %d partitions of %s", known, n,
			       path);
	}
	return n;
}
