/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/precopy_check.h"

#include <errno.h>
#include <string.h>

#include "agent/disk_layout.h"
#include "lib/layout/sysblock.h"

/* Is @dev in use by something that we neither froze nor know to be above our freeze? */
static bool device_hidden(const struct snapshot *s, dev_t dev)
{
	const struct disk *d = s->disk;
	uint64_t start = dev == d->device ? 0 : sysblock_start(dev);
	dev_t holder;

	for (size_t i = 0; i < d->layout->n_regions; i++) {
		if (d->layout->regions[i].start == start &&
		    s->map->regions[i].content == CONTENT_HEADER)
			return false;
	}
	return sysblock_links(dev, "holders", &holder, 1) <= 0 && disk_hides(d, dev);
}

bool precopy_hidden_mounts(const struct snapshot *s)
{
	dev_t devices[SYSBLOCK_LINKS_MAX];
	int n = disk_devices(s->disk, devices);

	for (int i = 0; i < n; i++) {
		if (device_hidden(s, devices[i]))
			return true;
	}
	return false;
}

int precopy_same_mounts(struct snapshot *s, const int *ids, size_t count, struct err *e)
{
	int r;

	r = disk_refresh_mounts(s->disk, e);
	if (r < 0)
		return r;
	/* one that went away was flushed by its umount, which we have tracked */
	for (size_t i = 0; i < s->disk->n_mounts; i++) {
		bool known = false;

		for (size_t k = 0; k < count; k++)
			known |= ids[k] == s->disk->mounts[i].mount_id;
		if (!known)
			return 0;
	}
	return 1;
}

static bool equal_texts(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

int precopy_check_layout(const struct snapshot *s, struct err *e)
{
	const struct disk *d = s->disk;
	const struct layout *was = d->layout;
	_cleanup_(layout_freep) struct layout *now = NULL;
	bool same;
	int r;

	r = disk_layout_probe_device(d->fd, d->path, d->size, d->logical_sector, &now, e);
	if (r < 0)
		return r;
	same = now->n_regions == was->n_regions &&
	       equal_texts(now->table_script, was->table_script);
	for (size_t i = 0; same && i < was->n_regions; i++) {
		same = now->regions[i].start == was->regions[i].start &&
		       now->regions[i].length == was->regions[i].length &&
		       equal_texts(now->regions[i].fs_type, was->regions[i].fs_type);
	}
	return same ? 0
		    : err_set(e, -ESTALE,
			      "the partitions of %s, or the file systems on them, were made anew while it "
			      "was captured: capture it again",
			      d->path);
}
