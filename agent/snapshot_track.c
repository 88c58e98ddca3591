/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/ability.h"
#include "agent/snapshot.h"

void snapshot_track(struct snapshot *s)
{
	struct tracker *t = NULL;

	if (s->disk->is_file || s->disk->zoned || ability_tracker(NULL) < 0 ||
	    tracker_open_sure(s->disk->whole, &t, NULL) < 0)
		return;
	if (tracker_open_era(t, &s->era, NULL) < 0) {
		tracker_free(t);
		return;
	}
	s->tracker = t;
}
