/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/ability.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <liburing.h>

#include "agent/mapper.h"
#include "agent/module.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

int ability_tracker(struct err *e)
{
	_cleanup_close_ int map = -EBADF;
	char line[128];

	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0) {
		return err_set(e, -ENOTSUP,
			       "writes cannot be tracked: the kernel has no type information "
			       "(CONFIG_DEBUG_INFO_BTF)");
	}
	/* level "integrity" lets tracing programs load, "confidentiality" does not let them read */
	if (io_read_line("/sys/kernel/security/lockdown", line, sizeof(line)) > 0 &&
	    strstr(line, "[confidentiality]")) {
		return err_set(e, -ENOTSUP,
			       "writes cannot be tracked: the kernel is locked down "
			       "(confidentiality)");
	}
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, NULL, 4, 4, 1, NULL);
	if (map >= 0)
		return 0;
	if (map == -EPERM) {
		return err_set(e, -ENOTSUP,
			       "writes cannot be tracked: BPF is denied (CAP_BPF is missing, or a "
			       "policy forbids it)");
	}
	return err_set(e, -ENOTSUP, "writes cannot be tracked: bpf(2): %s", strerrordesc_np(-map));
}

bool ability_io_uring(void)
{
	struct io_uring ring;

	if (io_uring_queue_init(1, &ring, 0) < 0)
		return false;
	io_uring_queue_exit(&ring);
	return true;
}

int ability_mapper(struct err *e)
{
	if (mapper_present())
		return 0;
	return err_set(e, -ENOTSUP, "the kernel has no device-mapper");
}

int ability_module(struct err *e)
{
	_cleanup_close_ int fd = module_open(e);

	return fd < 0 ? fd : 0;
}
