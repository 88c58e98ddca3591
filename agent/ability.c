/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/ability.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/io.h"

int ability_tracker(struct err *e)
{
	char line[128];

	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0) {
		return err_set(e, -ENOTSUP,
			       "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF): writes cannot be "
			       "tracked, so only disks that are not in use can be captured");
	}
	/* level "integrity" lets tracing programs load, "confidentiality" does not let them read */
	if (io_read_line("/sys/kernel/security/lockdown", line, sizeof(line)) > 0 &&
	    strstr(line, "[confidentiality]")) {
		return err_set(
			e, -ENOTSUP,
			"the kernel is locked down (confidentiality): writes cannot be tracked");
	}
	return 0;
}
