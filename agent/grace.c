/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/grace.h"

#include <errno.h>
#include <stdint.h>

#include <bpf/bpf.h>

#include "lib/base/cleanup.h"

int grace_init(struct grace *g)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);

	*g = GRACE_NONE;
	g->inner = bpf_map_create(BPF_MAP_TYPE_ARRAY, "ambro_inner", 4, 4, 1, NULL);
	if (g->inner < 0)
		return g->inner;
	opts.inner_map_fd = (uint32_t)g->inner;
	g->outer = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "ambro_grace", 4, 4, 1, &opts);
	return g->outer < 0 ? g->outer : 0;
}

void grace_done(struct grace *g)
{
	g->outer = close_fd(g->outer);
	g->inner = close_fd(g->inner);
}

int grace_wait(const struct grace *g)
{
	uint32_t key = 0;

	return bpf_map_update_elem(g->outer, &key, &g->inner, BPF_ANY);
}
