/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/usedmap.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/disk_mounts.h"
#include "agent/livemap.h"
#include "agent/medium.h"
#include "agent/stack.h"
#include "lib/base/io.h"
#include "lib/base/le.h"
#include "lib/layout/sysblock.h"
#include "lib/layout/usedblocks.h"

/* Gaps up to this are read whole: alignment and boot loaders, never worth a thought. */
#define GAP_SMALL_BYTES UINT64_C(16777216)
/* Boot code, super blocks, and the first MiB that every partitioner leaves free. */
#define HEAD_BYTES UINT64_C(1048576)
/* Where md, dm-raid and fake RAIDs keep metadata behind a file system's end. */
#define TAIL_BYTES UINT64_C(65536)
/* No file system has smaller units that matter; no disk has larger sectors. */
#define ALIGN_BYTES 4096u

/* What is needed to map one region. */
struct place {
	const struct disk *disk;
	const struct layout_region *region;
	const struct disk_mount *mount; /* on the region itself, or NULL */
	dev_t device;			/* that the kernel has for the region; 0: none */
	enum usedmap_when when;
};

/* How a mounted file system is asked. */
struct way {
	const char *fs_type, *map;
	int (*ask)(const char *path, dev_t device, uint64_t end, struct extent_set *ret,
		   struct err *e);
};

static const struct way ways[] = {
	{ "xfs", "xfs-getfsmap", livemap_fsmap },
	{ "btrfs", "btrfs-dev-extents", livemap_btrfs },
};

/*
 * Kernel drivers whose maps on the medium serve while they are mounted: one allocation table, or ext's bitmaps
 * (usedblocks_ext.h). FUSE is not flushed by any freeze.
 */
static const char *const view_drivers[] = {
	"ext2", "ext3", "ext4", "vfat", "msdos", "exfat", "ntfs3",
};

static const struct way *way_find(const char *fs_type)
{
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		if (!strcmp(ways[i].fs_type, fs_type))
			return &ways[i];
	}
	return NULL;
}

static bool view_driver(const char *fs_type)
{
	for (size_t i = 0; i < ARRAY_SIZE(view_drivers); i++) {
		if (!strcmp(view_drivers[i], fs_type))
			return true;
	}
	return false;
}

/* A live, mounted file system's end within the region: an xfs's from its super block as it is on the medium. */
static uint64_t place_fs_end(const struct place *p)
{
	_cleanup_free_ uint8_t *buf = aligned_alloc(ALIGN_BYTES, ALIGN_BYTES);
	uint64_t length = p->region->length, blocks = 0, end;
	uint32_t size = 0;

	if (!buf || length < ALIGN_BYTES ||
	    io_pread_all(p->disk->fd, buf, ALIGN_BYTES, p->region->start) < 0)
		return length;
	if (!memcmp(buf, "XFSB", 4)) {
		uint32_t be_size;
		uint64_t be_blocks;

		memcpy(&be_size, buf + 4, sizeof(be_size));
		memcpy(&be_blocks, buf + 8, sizeof(be_blocks));
		size = be32toh(be_size);
		blocks = be64toh(be_blocks);
	}
	if (!size || !blocks || __builtin_mul_overflow(blocks, (uint64_t)size, &end))
		return length;
	return MIN(end, length);
}

/* Used blocks by way of the tools, which want a device of their own. Returns as usedblocks_map(). */
static int place_map_view(const struct place *p, enum usedblocks_state state,
			  struct extent_set *ret, const char **ret_map, struct err *e)
{
	const struct layout_region *region = p->region;
	struct medium_view view = { .fd = -EBADF };
	int r;

	r = medium_view_open(p->disk->fd, region->start, region->length, &view, e);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	r = usedblocks_map(view.path, region->fs_type, region->length, state, ret, ret_map, e);
	medium_view_close(&view);
	return r;
}

/* Of a file system that is mounted on the region itself. */
static int place_map_mounted(const struct place *p, struct extent_set *ret, const char **ret_map,
			     struct err *e)
{
	const struct disk_mount *m = p->mount;
	const struct way *way = way_find(m->fs_type);
	int r;

	if (m->unreplayed) {
		err_set(e, 0, "it is mounted without its log being replayed");
		return 0;
	}
	/*
	 * Where this finds reason for doubt the kernel is not asked instead: it would read the same maps, and for
	 * ext4 in time that grows with the square of the disk's size (4 s and 1 GB of page cache for 16 TiB).
	 */
	if (view_driver(m->fs_type) && p->region->fs_type)
		return place_map_view(p, USEDBLOCKS_LIVE, ret, ret_map, e);
	/* the mount tells of now, not of then; the medium of then is complete */
	if (way && p->when == USEDMAP_FROZEN && p->region->fs_type)
		return place_map_view(p, USEDBLOCKS_FROZEN, ret, ret_map, e);
	if (!way || p->when == USEDMAP_FROZEN) {
		err_set(e, 0, "mounted as %s, which tells nobody what is in use", m->fs_type);
		return 0;
	}
	r = way->ask(m->path, m->device, place_fs_end(p), ret, e);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	*ret_map = way->map;
	return 1;
}

/* Does anyone else have the region: a mount we cannot see, a holder, a loop device that is mounted? */
static bool place_taken(const struct place *p)
{
	const struct disk *d = p->disk;
	struct stack_target t = { .device = p->device ? p->device : d->device, .whole = d->whole };
	char path[SYSBLOCK_PATH_MAX];

	if (d->is_file)
		return d->in_use;
	for (size_t i = 0; i < d->n_mounts; i++) {
		if (!d->mounts[i].direct && stack_reaches(d->mounts[i].device, &t, false))
			return true;
	}
	return sysblock_path(t.device, path, sizeof(path)) < 0 || disk_mounts_claimed(path);
}

/* Of a file system that is not mounted. */
static int place_map_unmounted(const struct place *p, struct extent_set *ret, const char **ret_map,
			       struct err *e)
{
	_cleanup_extents_ struct extent_set used = { 0 };
	bool others = p->when != USEDMAP_IDLE, taken = others && place_taken(p);
	int r = 0;

	if (!taken)
		r = place_map_view(p, USEDBLOCKS_IDLE, &used, ret_map, e);
	/* it may have been mounted while we looked */
	if (r > 0 && others)
		taken = place_taken(p);
	if (taken) {
		err_set(e, 0, "something has it in use in a way that cannot be seen");
		return 0;
	}
	if (r > 0) {
		*ret = used;
		used = (struct extent_set){ 0 };
	}
	return r;
}

/* File systems that stand for something else than files: every byte counts. */
static bool opaque_type(const char *fs_type)
{
	size_t n = strlen(fs_type);

	return !strncmp(fs_type, "crypto_", 7) || (n > 7 && !strcmp(fs_type + n - 7, "_member"));
}

static int used_add(struct usedmap_region *u, const struct layout_region *region, uint64_t at,
		    uint64_t length)
{
	return at < region->length ? extent_set_add(&u->used, region->start + at,
						    MIN(length, region->length - at))
				   : 0;
}

static int used_all(struct usedmap_region *u, const struct layout_region *region, const char *why)
{
	u->content = CONTENT_ALL;
	u->map = "all";
	snprintf(u->why, sizeof(u->why), "%.*s", (int)sizeof(u->why) - 1, why);
	return used_add(u, region, 0, region->length);
}

static int used_gap(struct usedmap_region *u, const struct layout_region *region)
{
	int r;

	if (!region->start || region->in_extended || region->length <= GAP_SMALL_BYTES)
		return used_all(u, region, "");
	u->content = CONTENT_EDGES;
	u->map = "edges";
	r = used_add(u, region, 0, HEAD_BYTES);
	return r < 0 ? r : used_add(u, region, region->length - HEAD_BYTES, HEAD_BYTES);
}

/* From the file system's own map, in bytes of the region, to what is to be read. */
static int used_from_map(struct usedmap_region *u, const struct layout_region *region,
			 const struct extent_set *map)
{
	_cleanup_extents_ struct extent_set aligned = { 0 };
	uint64_t tail = MIN(region->length, TAIL_BYTES);
	int r;

	u->content = CONTENT_USED;
	r = extent_set_align(map, ALIGN_BYTES, region->length, &aligned);
	if (r >= 0)
		r = used_add(u, region, 0, HEAD_BYTES);
	for (size_t i = 0; i < aligned.count && r >= 0; i++)
		r = used_add(u, region, aligned.items[i].start, aligned.items[i].length);
	if (r >= 0) {
		r = used_add(u, region, ROUND_DOWN(region->length - tail, ALIGN_BYTES),
			     region->length);
	}
	return r;
}

static int used_fs(struct usedmap_region *u, const struct place *p)
{
	_cleanup_extents_ struct extent_set map = { 0 };
	const char *fs_type = p->region->fs_type;
	struct err why = { 0 };
	int r;

	if (p->mount) {
		r = place_map_mounted(p, &map, &u->map, &why);
	} else if (!fs_type || opaque_type(fs_type)) {
		return used_all(u, p->region, "");
	} else {
		r = place_map_unmounted(p, &map, &u->map, &why);
	}
	if (r < 0)
		return r;
	return r ? used_from_map(u, p->region, &map) : used_all(u, p->region, why.text);
}

static int used_region(struct usedmap_region *u, const struct place *p)
{
	const char *fs_type = p->region->fs_type;
	int r;

	if (p->region->kind == LAYOUT_GAP) {
		r = used_gap(u, p->region);
	} else if (!p->mount && fs_type && !strcmp(fs_type, "swap")) {
		u->content = CONTENT_HEADER;
		u->map = "swap-header";
		r = used_add(u, p->region, 0, SWAP_HEADER_BYTES);
	} else {
		r = used_fs(u, p);
	}
	extent_set_normalise(&u->used);
	return r;
}

static const struct disk_mount *mount_at(const struct disk *d, uint64_t start)
{
	for (size_t i = 0; i < d->n_mounts; i++) {
		if (d->mounts[i].direct && d->mounts[i].start == start)
			return &d->mounts[i];
	}
	return NULL;
}

/* The kernel's device for @region of @d, or 0. */
static dev_t region_device(const struct disk *d, const struct layout_region *region)
{
	dev_t parts[SYSBLOCK_LINKS_MAX];
	int n;

	if (d->is_file || d->is_partition || region->kind != LAYOUT_PARTITION)
		return d->device;
	n = sysblock_partitions(d->whole, parts, SYSBLOCK_LINKS_MAX);
	for (int i = 0; i < n; i++) {
		if (sysblock_start(parts[i]) == region->start)
			return parts[i];
	}
	return 0;
}

/* Is something mounted where the table has no partition (the kernel's table is older or newer)? */
static bool layout_contradicted(const struct disk *d)
{
	for (size_t i = 0; i < d->n_mounts; i++) {
		bool found = !d->mounts[i].direct;

		for (size_t j = 0; j < d->layout->n_regions && !found; j++) {
			found = d->layout->regions[j].start == d->mounts[i].start &&
				d->layout->regions[j].kind != LAYOUT_GAP;
		}
		if (!found)
			return true;
	}
	return false;
}

int usedmap_make(const struct disk *d, enum usedmap_when when, struct usedmap **ret, struct err *e)
{
	_cleanup_(usedmap_freep) struct usedmap *m = calloc(1, sizeof(*m));
	const struct layout *l = d->layout;
	bool doubt = layout_contradicted(d);

	if (!m)
		return err_oom(e);
	m->regions = calloc(l->n_regions, sizeof(*m->regions));
	if (!m->regions)
		return err_oom(e);
	m->n_regions = l->n_regions;
	for (size_t i = 0; i < l->n_regions; i++) {
		const struct layout_region *region = &l->regions[i];
		struct place p = {
			.disk = d,
			.region = region,
			.mount = mount_at(d, region->start),
			.device = region_device(d, region),
			.when = when,
		};
		int r = doubt ? used_all(&m->regions[i], region,
					 "what is mounted does not agree with the partition table")
			      : used_region(&m->regions[i], &p);

		if (r < 0)
			return err_set_errno(e, r, "%s: map of used blocks", d->path);
	}
	*ret = TAKE_PTR(m);
	return 0;
}

void usedmap_free(struct usedmap *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->n_regions; i++)
		extent_set_done(&m->regions[i].used);
	free(m->regions);
	free(m);
}
