/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/describe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>

#include "lib/base/io.h"

/* strdup() that keeps NULL and "" as NULL; *oom is set when memory is short. */
static char *describe_dup(const char *text, bool *oom)
{
	char *copy;

	if (!text || !*text)
		return NULL;
	copy = strdup(text);
	if (!copy)
		*oom = true;
	return copy;
}

/* PRETTY_NAME of os-release(5). */
static char *describe_os(void)
{
	_cleanup_file_ FILE *f = fopen("/etc/os-release", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		char *value;

		if (strncmp(line, "PRETTY_NAME=", 12) != 0)
			continue;
		value = line + 12;
		value[strcspn(value, "\n")] = '\0';
		if (*value == '"' && strlen(value) > 1) {
			value++;
			value[strlen(value) - 1] = '\0';
		}
		return strdup(value);
	}
	return NULL;
}

static void describe_host(struct manifest *m, bool *oom)
{
	char id[64] = "", name[sizeof(((struct utsname *)0)->nodename)] = "";
	struct utsname u;

	io_read_line("/etc/machine-id", id, sizeof(id));
	m->machine_id = describe_dup(id, oom);
	if (uname(&u) == 0) {
		memcpy(name, u.nodename, sizeof(name));
		m->hostname = describe_dup(name, oom);
		m->kernel = describe_dup(u.release, oom);
	}
	m->os = describe_os();
}

static void describe_disk(struct manifest *m, const struct disk *d, bool *oom)
{
	m->path = describe_dup(d->path, oom);
	m->model = describe_dup(d->model, oom);
	m->serial = describe_dup(d->serial, oom);
	m->wwid = describe_dup(d->wwid, oom);
	m->table = describe_dup(d->layout->table, oom);
	m->table_id = describe_dup(d->layout->table_id, oom);
	m->table_script = describe_dup(d->layout->table_script, oom);
	m->disk_size = d->size;
	m->logical_sector = d->logical_sector;
	m->physical_sector = d->physical_sector;
}

/* Where the region was mounted: a NULL-terminated list, or NULL. */
static char **describe_mounts(const struct disk *d, uint64_t start, bool *oom)
{
	char **list = NULL;
	size_t n = 0;

	for (size_t i = 0; i < d->n_mounts; i++) {
		char **more;

		if (!d->mounts[i].direct || d->mounts[i].start != start)
			continue;
		more = reallocarray(list, n + 2, sizeof(*list));
		if (!more) {
			*oom = true;
			break;
		}
		list = more;
		list[n] = describe_dup(d->mounts[i].path, oom);
		n += list[n] != NULL;
		list[n] = NULL;
	}
	return list;
}

static void describe_region(struct manifest_region *to, const struct layout_region *from,
			    const struct usedmap_region *map, const struct disk *d, bool *oom)
{
	static const enum region_kind kinds[] = {
		[LAYOUT_GAP] = REGION_GAP,
		[LAYOUT_PARTITION] = REGION_PARTITION,
		[LAYOUT_WHOLE] = REGION_WHOLE,
	};

	to->kind = kinds[from->kind];
	to->partition = from->partition;
	to->start = from->start;
	to->length = from->length;
	to->type = describe_dup(from->type, oom);
	to->name = describe_dup(from->name, oom);
	to->uuid = describe_dup(from->uuid, oom);
	to->flags = describe_dup(from->flags, oom);
	to->fs_type = describe_dup(from->fs_type, oom);
	to->fs_uuid = describe_dup(from->fs_uuid, oom);
	to->fs_label = describe_dup(from->fs_label, oom);
	if (from->kind != LAYOUT_GAP)
		to->mounts = describe_mounts(d, from->start, oom);
	to->content = map->content;
	to->map = describe_dup(map->map, oom);
	to->used = extent_set_total(&map->used);
}

int describe_capture(const struct disk *d, const struct usedmap *map, const char *strategy,
		     uint32_t chunk_size, struct manifest **ret, struct err *e)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	bool oom = false;
	int r;

	r = manifest_new(d->layout->n_regions, &m);
	if (r < 0)
		return err_oom(e);
	if (getrandom(m->image_id, sizeof(m->image_id), 0) != sizeof(m->image_id))
		return err_set_errno(e, -errno, "no random numbers");
	m->created_ns = io_realtime_ns();
	m->chunk_size = chunk_size;
	m->tool = describe_dup("ambrotype " AMBRO_VERSION, &oom);
	m->strategy = describe_dup(strategy, &oom);
	describe_host(m, &oom);
	describe_disk(m, d, &oom);
	for (size_t i = 0; i < m->n_regions; i++)
		describe_region(&m->regions[i], &d->layout->regions[i], &map->regions[i], d, &oom);
	if (oom)
		return err_oom(e);
	*ret = TAKE_PTR(m);
	return 0;
}
