/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/disk_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <libmount.h>

#include "lib/base/cleanup.h"
#include "lib/base/text.h"
#include "lib/layout/sysblock.h"

static void table_freep(struct libmnt_table **tb)
{
	mnt_unref_table(*tb);
}

static void iter_freep(struct libmnt_iter **it)
{
	mnt_free_iter(*it);
}

/* A row of mountinfo that may become a disk_mount. */
struct row {
	struct libmnt_fs *fs;
	dev_t number;	/* of the super block: equal for all mounts of one file system */
	bool at_root;	/* not a bind mount of some folder */
	bool reachable; /* its path leads to it and not to what is mounted over it */
};

static bool path_leads_to(const char *path, int mount_id)
{
	struct statx sx;

	/* nothing here may wait for a dead server: no automounting, no attributes from afar */
	return statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_MNT_ID, &sx) ==
		       0 &&
	       (sx.stx_mask & STATX_MNT_ID) && sx.stx_mnt_id == (uint64_t)mount_id;
}

static bool row_better(const struct row *a, const struct row *b)
{
	if (a->reachable != b->reachable)
		return a->reachable;
	if (a->at_root != b->at_root)
		return a->at_root;
	return mnt_fs_get_id(a->fs) < mnt_fs_get_id(b->fs);
}

/* The block devices of the file system on @row. Returns how many. */
static int row_devices(const struct row *row, dev_t *ret, int max)
{
	const char *type = mnt_fs_get_fstype(row->fs), *source = mnt_fs_get_source(row->fs);
	_cleanup_close_ int fd = -EBADF;
	int count = 0;
	struct stat st;

	if (major(row->number)) {
		ret[0] = row->number;
		return 1;
	}
	if (type && !strcmp(type, "btrfs") && row->reachable) {
		fd = open(mnt_fs_get_target(row->fs), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0)
			count = sysblock_btrfs_devices(fd, ret, max);
		if (count > 0)
			return count;
	}
	if (source && source[0] == '/' && stat(source, &st) == 0 && S_ISBLK(st.st_mode)) {
		ret[0] = st.st_rdev;
		return 1;
	}
	return 0;
}

/* Is the log of a file system left as it was, so that its maps may be older than its log? */
static bool row_unreplayed(const struct row *row)
{
	static const char *const names[] = { "norecovery", "noload", "nologreplay" };
	const char *options = mnt_fs_get_fs_options(row->fs);

	for (size_t i = 0; options && i < ARRAY_SIZE(names); i++) {
		if (strstr(options, names[i]))
			return true;
	}
	return false;
}

/* Is @dev the target itself or, of a whole disk, a partition? */
static bool device_is_part(const struct stack_target *t, dev_t dev)
{
	dev_t whole;

	if (!t->device)
		return false;
	return dev == t->device ||
	       (t->device == t->whole && sysblock_whole(dev, &whole) == 0 && whole == t->whole);
}

static int mount_fill(const struct stack_target *t, const struct row *row, dev_t device,
		      struct disk_mount *ret)
{
	struct disk_mount m = { .device = device, .mount_id = mnt_fs_get_id(row->fs) };
	/* the file system's own: a mount of one that is written to elsewhere may be read-only too */
	const char *options = mnt_fs_get_fs_options(row->fs);

	m.path = strdup(mnt_fs_get_target(row->fs));
	m.fs_type = strdup(mnt_fs_get_fstype(row->fs));
	if (!m.path || !m.fs_type) {
		free(m.path);
		free(m.fs_type);
		return -ENOMEM;
	}
	m.read_only = options && mnt_match_options(options, "ro") == 1;
	m.unreplayed = row_unreplayed(row);
	m.direct = device_is_part(t, device);
	if (m.direct && device != t->device)
		m.start = sysblock_start(device);
	*ret = m;
	return 0;
}

/* One row for each file system, the best of its mounts. Returns how many, or -ENOMEM. */
static ssize_t rows_read(struct libmnt_table *tb, struct row **ret)
{
	_cleanup_(iter_freep) struct libmnt_iter *it = mnt_new_iter(MNT_ITER_FORWARD);
	_cleanup_free_ struct row *rows =
		calloc((size_t)mnt_table_get_nents(tb) + 1, sizeof(*rows));
	struct libmnt_fs *fs;
	ssize_t count = 0;

	if (!it || !rows)
		return -ENOMEM;
	while (mnt_table_next_fs(tb, it, &fs) == 0) {
		const char *root = mnt_fs_get_root(fs);
		struct row row = { .fs = fs, .number = mnt_fs_get_devno(fs) };
		ssize_t i = 0;

		if (!mnt_fs_get_target(fs) || !mnt_fs_get_fstype(fs))
			continue;
		row.at_root = root && !strcmp(root, "/");
		row.reachable = path_leads_to(mnt_fs_get_target(fs), mnt_fs_get_id(fs));
		while (i < count && rows[i].number != row.number)
			i++;
		if (i == count) {
			rows[count++] = row;
		} else if (row_better(&row, &rows[i])) {
			rows[i] = row;
		}
	}
	*ret = TAKE_PTR(rows);
	return count;
}

static int mount_compare(const void *a, const void *b)
{
	const struct disk_mount *x = a, *y = b;

	return (x->mount_id > y->mount_id) - (x->mount_id < y->mount_id);
}

/* Does @a lie on @b: in a loop device, say, whose file is there? */
static bool mount_lies_on(const struct disk_mount *a, const struct disk_mount *b)
{
	struct stack_target t = { .device = b->device, .whole = b->device };

	if (a->direct || a->device == b->device || sysblock_whole(b->device, &t.whole) < 0)
		return false;
	return stack_reaches(a->device, &t, true);
}

/*
 * What lies on another of the list comes behind it. The order of mount ids alone does not tell: they are
 * used again, and a mount namespace is copied in another order than that of time.
 */
static void mounts_stack(struct disk_mount *mounts, size_t count)
{
	for (size_t i = 0; i + 1 < count; i++) {
		struct disk_mount lowest;
		size_t j = i, k = i;

		/* the first of the rest that lies on none of the rest */
		while (j < count && k < count) {
			if (mount_lies_on(&mounts[j], &mounts[k])) {
				j++;
				k = i;
			} else {
				k++;
			}
		}
		if (j == count)
			return;
		lowest = mounts[j];
		memmove(&mounts[i + 1], &mounts[i], (j - i) * sizeof(*mounts));
		mounts[i] = lowest;
	}
}

void disk_mounts_free(struct disk_mount *mounts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(mounts[i].path);
		free(mounts[i].fs_type);
	}
	free(mounts);
}

/* Of the devices of one file system, the first that lies on @t: one on it directly if there is one. */
static dev_t devices_on_target(const struct stack_target *t, const dev_t *devs, int count)
{
	for (int i = 0; i < count; i++) {
		if (device_is_part(t, devs[i]))
			return devs[i];
	}
	for (int i = 0; i < count; i++) {
		if (stack_reaches(devs[i], t, true))
			return devs[i];
	}
	return 0;
}

int disk_mounts_read(const struct stack_target *t, struct disk_mount **ret, size_t *ret_count,
		     struct err *e)
{
	_cleanup_(table_freep) struct libmnt_table *tb = mnt_new_table();
	_cleanup_free_ dev_t *devs = calloc(SYSBLOCK_LINKS_MAX, sizeof(*devs));
	_cleanup_free_ struct row *rows = NULL;
	struct disk_mount *mounts;
	ssize_t n_rows;
	size_t count = 0;
	int r = 0;

	if (!tb || !devs)
		return err_oom(e);
	r = mnt_table_parse_file(tb, "/proc/self/mountinfo");
	if (r < 0)
		return err_set_errno(e, r, "/proc/self/mountinfo");
	n_rows = rows_read(tb, &rows);
	if (n_rows < 0)
		return err_oom(e);
	mounts = calloc((size_t)n_rows + 1, sizeof(*mounts));
	if (!mounts)
		return err_oom(e);
	for (ssize_t i = 0; i < n_rows && r >= 0; i++) {
		int n = row_devices(&rows[i], devs, SYSBLOCK_LINKS_MAX);
		dev_t device = devices_on_target(t, devs, n);

		if (!device)
			continue;
		r = mount_fill(t, &rows[i], device, &mounts[count]);
		if (r >= 0)
			count++;
	}
	if (r < 0) {
		disk_mounts_free(mounts, count);
		return err_oom(e);
	}
	qsort(mounts, count, sizeof(*mounts), mount_compare);
	mounts_stack(mounts, count);
	*ret = mounts;
	*ret_count = count;
	return 0;
}

/* Does a line of /proc/swaps name something on @t? */
static bool swap_reaches(char *line, const struct stack_target *t)
{
	_cleanup_close_ int fd = -EBADF;

	line[strcspn(line, " \t\n")] = '\0';
	if (line[0] != '/')
		return false;
	text_unescape(line);
	fd = open(line, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd >= 0 && stack_file_reaches(fd, t);
}

static bool target_swapped_on(const struct stack_target *t)
{
	_cleanup_file_ FILE *f = fopen("/proc/swaps", "re");
	char line[2048];

	while (f && fgets(line, sizeof(line), f)) {
		if (swap_reaches(line, t))
			return true;
	}
	return false;
}

static bool target_has_holders(const struct stack_target *t)
{
	dev_t parts[SYSBLOCK_LINKS_MAX], holder;
	int n = 0;

	if (sysblock_links(t->device, "holders", &holder, 1) > 0)
		return true;
	if (t->device == t->whole)
		n = sysblock_partitions(t->whole, parts, SYSBLOCK_LINKS_MAX);
	for (int i = 0; i < n; i++) {
		if (sysblock_links(parts[i], "holders", &holder, 1) > 0)
			return true;
	}
	return false;
}

bool disk_mounts_claimed(const char *path)
{
	/* the kernel refuses an exclusive open of what is mounted (in whatever namespace) or held */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 && errno == EBUSY;
}

bool disk_mounts_used(const struct stack_target *t)
{
	return target_swapped_on(t) || (t->device && target_has_holders(t));
}

bool disk_mounts_held(const struct stack_target *t, const char *path)
{
	return disk_mounts_used(t) || (t->device && disk_mounts_claimed(path));
}
