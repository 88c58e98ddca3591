/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/read_queue.h"

int read_queue_new(const struct read_queue_settings *settings, struct read_queue **ret,
		   struct err *e)
{
	int r;

	if (read_ring_new(settings, ret) >= 0)
		return 0;
	/* whatever the reason was (none, denied, no memory to lock): pread() needs nothing of it */
	r = read_threads_new(settings, ret);
	return r < 0 ? err_set_errno(e, r, "cannot set up reading") : 0;
}

void read_queue_free(struct read_queue *q)
{
	if (q)
		q->ops->free(q);
}
