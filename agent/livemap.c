/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/livemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/fsmap.h>

#include "lib/base/cleanup.h"
#include "lib/base/le.h"

/* Records per call: 64 KiB of memory, and few calls for a fragmented disk. */
#define FSMAP_RECORDS 1024
/* Buffer of one tree search; the kernel takes at most 16 MiB. */
#define SEARCH_BYTES (256u << 10)

static bool fsmap_is_free(const struct fsmap *rec)
{
	return (rec->fmr_flags & FMR_OF_SPECIAL_OWNER) && rec->fmr_owner == FMR_OWN_FREE;
}

/* Collect the free space in @head's records. -EBADMSG: not what we know how to read. */
static int fsmap_take(const struct fsmap_head *head, dev_t device, struct extent_set *free_space)
{
	if (!(head->fmh_oflags & FMH_OF_DEV_T))
		return -EBADMSG;
	for (uint32_t i = 0; i < head->fmh_entries; i++) {
		const struct fsmap *rec = &head->fmh_recs[i];
		int r;

		/* logs and real-time sections on other devices are reported, too; their numbers differ */
		if (rec->fmr_device != (uint32_t)device || !fsmap_is_free(rec))
			continue;
		r = extent_set_add(free_space, rec->fmr_physical, rec->fmr_length);
		if (r < 0)
			return r;
	}
	return 0;
}

static int fsmap_read(int fd, dev_t device, struct extent_set *free_space)
{
	_cleanup_free_ struct fsmap_head *head = calloc(1, fsmap_sizeof(FSMAP_RECORDS));
	const struct fsmap *last;
	int r;

	if (!head)
		return -ENOMEM;
	/* from the lowest key to the highest; xfs insists on a length of 0 in it */
	head->fmh_keys[1] = (struct fsmap){
		.fmr_device = UINT32_MAX,
		.fmr_flags = UINT32_MAX,
		.fmr_physical = UINT64_MAX,
		.fmr_owner = UINT64_MAX,
		.fmr_offset = UINT64_MAX,
	};
	for (;;) {
		head->fmh_count = FSMAP_RECORDS;
		if (ioctl(fd, FS_IOC_GETFSMAP, head) < 0)
			return -errno;
		if (!head->fmh_entries)
			return 0;
		r = fsmap_take(head, device, free_space);
		if (r < 0)
			return r;
		last = &head->fmh_recs[head->fmh_entries - 1];
		if (last->fmr_flags & FMR_OF_LAST)
			return 0;
		if (last->fmr_device == head->fmh_keys[0].fmr_device &&
		    last->fmr_physical + last->fmr_length <= head->fmh_keys[0].fmr_physical)
			return -EBADMSG;
		fsmap_advance(head);
	}
}

int livemap_fsmap(const char *path, dev_t device, uint64_t end, struct extent_set *ret,
		  struct err *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	_cleanup_extents_ struct extent_set free_space = { 0 };
	struct extent all = { 0, end };
	struct extent_set whole = { .items = &all, .count = 1 };
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set_errno(e, -errno, "%s", path);
	if (st.st_dev != device)
		return err_set(e, -ESTALE, "%s: something else is mounted over it", path);
	r = fsmap_read(fd, device, &free_space);
	if (r >= 0) {
		extent_set_normalise(&free_space);
		r = extent_set_subtract(&whole, &free_space, ret);
	}
	return r < 0 ? err_set_errno(e, r, "%s: FS_IOC_GETFSMAP", path) : 0;
}

/* The number by which the btrfs of @fd knows @device. */
static int btrfs_devid(int fd, dev_t device, uint64_t *ret)
{
	struct btrfs_ioctl_fs_info_args info = { 0 };

	if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
		return -errno;
	for (uint64_t id = 0; id <= info.max_id; id++) {
		struct btrfs_ioctl_dev_info_args dev = { .devid = id };
		struct stat st;

		if (ioctl(fd, BTRFS_IOC_DEV_INFO, &dev) < 0) {
			if (errno == ENODEV)
				continue;
			return -errno;
		}
		dev.path[sizeof(dev.path) - 1] = '\0';
		if (stat((const char *)dev.path, &st) == 0 && S_ISBLK(st.st_mode) &&
		    st.st_rdev == device) {
			*ret = id;
			return 0;
		}
	}
	return -ENODEV;
}

/* Add the device extents in a search's answer; @key moves behind the last one. */
static int btrfs_take(const struct btrfs_ioctl_search_args_v2 *args, struct extent_set *used,
		      uint64_t *key)
{
	const uint8_t *buf = (const uint8_t *)args->buf;
	size_t at = 0;

	for (uint32_t i = 0; i < args->key.nr_items; i++) {
		struct btrfs_ioctl_search_header head;
		struct btrfs_dev_extent item;
		le64_t length;
		int r;

		if (SEARCH_BYTES - at < sizeof(head))
			return -EBADMSG;
		memcpy(&head, buf + at, sizeof(head));
		at += sizeof(head);
		if (head.len > SEARCH_BYTES - at)
			return -EBADMSG;
		*key = head.offset;
		if (head.type == BTRFS_DEV_EXTENT_KEY) {
			if (head.len < sizeof(item))
				return -EBADMSG;
			memcpy(&item, buf + at, sizeof(item));
			memcpy(&length, &item.length, sizeof(length));
			r = extent_set_add(used, head.offset, le64_get(length));
			if (r < 0)
				return r;
		}
		at += head.len;
	}
	return 0;
}

static int btrfs_read(int fd, uint64_t devid, struct extent_set *used)
{
	_cleanup_free_ struct btrfs_ioctl_search_args_v2 *args =
		calloc(1, sizeof(*args) + SEARCH_BYTES);
	uint64_t key = 0;

	if (!args)
		return -ENOMEM;
	for (;;) {
		uint64_t last = key;
		int r;

		args->key = (struct btrfs_ioctl_search_key){
			.tree_id = BTRFS_DEV_TREE_OBJECTID,
			.min_objectid = devid,
			.max_objectid = devid,
			.min_type = BTRFS_DEV_EXTENT_KEY,
			.max_type = BTRFS_DEV_EXTENT_KEY,
			.min_offset = key,
			.max_offset = UINT64_MAX,
			.max_transid = UINT64_MAX,
			.nr_items = UINT32_MAX,
		};
		args->buf_size = SEARCH_BYTES;
		if (ioctl(fd, BTRFS_IOC_TREE_SEARCH_V2, args) < 0)
			return -errno;
		if (!args->key.nr_items)
			return 0;
		r = btrfs_take(args, used, &key);
		if (r < 0)
			return r;
		if (key == UINT64_MAX || key < last)
			return -EBADMSG;
		key++;
	}
}

int livemap_btrfs(const char *path, dev_t device, uint64_t end, struct extent_set *ret,
		  struct err *e)
{
	/* every copy of the super block that fits on the device */
	static const uint64_t supers[] = { UINT64_C(64) << 10, UINT64_C(64) << 20,
					   UINT64_C(256) << 30 };
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	_cleanup_extents_ struct extent_set used = { 0 };
	uint64_t devid = 0;
	int r;

	if (fd < 0)
		return err_set_errno(e, -errno, "%s", path);
	r = btrfs_devid(fd, device, &devid);
	if (r < 0)
		return err_set_errno(e, r, "%s: the number of its device", path);
	r = btrfs_read(fd, devid, &used);
	if (r >= 0 && !used.count)
		r = -EBADMSG;
	for (size_t i = 0; i < ARRAY_SIZE(supers) && r >= 0; i++) {
		if (supers[i] + 4096 <= end)
			r = extent_set_add(&used, supers[i], 4096);
	}
	if (r < 0)
		return err_set_errno(e, r, "%s: BTRFS_IOC_TREE_SEARCH_V2", path);
	extent_set_normalise(&used);
	*ret = used;
	used = (struct extent_set){ 0 };
	return 0;
}
