/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/manifest.h"

#include <stdlib.h>

static const char *const kind_names[] = {
	[REGION_GAP] = "gap",
	[REGION_PARTITION] = "partition",
	[REGION_WHOLE] = "whole",
};
static const char *const content_names[] = {
	[CONTENT_ALL] = "all",
	[CONTENT_USED] = "used",
	[CONTENT_HEADER] = "header",
	[CONTENT_EDGES] = "edges",
};

const char *region_kind_name(enum region_kind k)
{
	return (size_t)k < ARRAY_SIZE(kind_names) ? kind_names[k] : NULL;
}

const char *region_content_name(enum region_content c)
{
	return (size_t)c < ARRAY_SIZE(content_names) ? content_names[c] : NULL;
}

uint64_t region_chunks(uint64_t length, uint64_t chunk_size)
{
	return length / chunk_size + (length % chunk_size != 0);
}

uint32_t region_chunk_len(uint64_t length, uint64_t chunk_size, uint64_t index)
{
	return (uint32_t)MIN(length - index * chunk_size, chunk_size);
}

int manifest_new(size_t n_regions, struct manifest **ret)
{
	_cleanup_(manifest_freep) struct manifest *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->regions = calloc(MAX(n_regions, (size_t)1), sizeof(*m->regions));
	if (!m->regions)
		return -ENOMEM;
	m->n_regions = n_regions;
	*ret = TAKE_PTR(m);
	return 0;
}

static void region_done(struct manifest_region *region)
{
	free(region->type);
	free(region->name);
	free(region->uuid);
	free(region->flags);
	free(region->fs_type);
	free(region->fs_uuid);
	free(region->fs_label);
	for (char **mount = region->mounts; mount && *mount; mount++)
		free(*mount);
	free(region->mounts);
	free(region->map);
}

void manifest_free(struct manifest *m)
{
	if (!m)
		return;
	for (size_t i = 0; m->regions && i < m->n_regions; i++)
		region_done(&m->regions[i]);
	free(m->regions);
	extent_set_done(&m->bad);
	free(m->tool);
	free(m->hostname);
	free(m->machine_id);
	free(m->kernel);
	free(m->os);
	free(m->strategy);
	free(m->guarantee);
	free(m->increment);
	free(m->increment_reason);
	free(m->track);
	free(m->path);
	free(m->model);
	free(m->serial);
	free(m->wwid);
	free(m->table);
	free(m->table_id);
	free(m->table_script);
	free(m);
}
