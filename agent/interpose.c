/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/interpose.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/layout/sysblock.h"

int interpose_init(struct interpose *i, const struct interpose_ops *ops, const struct disk *d,
		   struct err *e)
{
	char name[MAPPER_NAME_MAX];
	int n, r;

	*i = (struct interpose){ .ops = ops, .disk = d };
	/* what is on the whole disk stands in one way at a time, so the name is the whole disk's */
	r = sysblock_name(d->whole, name, sizeof(name));
	if (r < 0)
		return err_set_errno(e, r, "%s: its name", d->path);
	n = snprintf(i->name, sizeof(i->name), MAPPER_NAME_PREFIX "%s", name);
	if (n < 0 || (size_t)n >= sizeof(i->name))
		return err_set(e, -ENAMETOOLONG, "%s: its name is too long", d->path);
	interpose_plain_name(i->name);
	return 0;
}

void interpose_plain_name(char *name)
{
	for (; *name; name++) {
		if (*name == '/' || *name == '!')
			*name = '_';
	}
}

void interpose_name(const struct interpose *i, const char *role, char buf[static MAPPER_NAME_MAX])
{
	snprintf(buf, MAPPER_NAME_MAX, "%s-%s", i->name, role);
}
