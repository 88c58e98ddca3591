/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tracker_doubt - T4 of tracker.h: whatever could have been missed, and how it is said. */
#include <errno.h>
#include <sys/sysmacros.h>

#include "agent/track_identity.h"
#include "agent/tracker.h"
#include "agent/tracker_state.h"

static const char *const reason_words[TRACK_REASONS] = {
	[TRACK_BEYOND_END] = "something was written behind the end that it had",
	[TRACK_PASSTHROUGH] = "a passthrough command sent data to it",
	[TRACK_STRANGE_OP] =
		"it got a zone command or an operation that this version does not know",
	[TRACK_INFLIGHT_FULL] = "too many writes were in flight to follow them all",
	[TRACK_LOST_COMPLETION] = "the completion of a write was not seen",
	[TRACK_LONG_CHAIN] = "a discard had more ranges than can be followed",
	[TRACK_UNMARKED] = "a written range could not be marked",
	[TRACK_MISSED_EVENTS] = "the kernel skipped a tracking program",
	[TRACK_RESIZED] = "its size changed",
	[TRACK_REPLACED] = "another disk or medium stands under its number",
	[TRACK_DAX] = "it can be mapped directly (DAX), which bypasses the block layer",
	[TRACK_RETARGETS] = "it passes requests on so that their completion cannot be seen",
	[TRACK_UNSEEN] = "it missed a write",
};

static bool programs_missed(const struct tracker *t)
{
	struct bpf_prog_info info;

	for (int i = 0; i < TRACK_HOOKS; i++) {
		if (t->programs[i] >= 0 && (tracker_program_info(t->programs[i], &info) < 0 ||
					    info.recursion_misses != t->control->misses[i]))
			return true;
	}
	return false;
}

static void tracker_examine(struct tracker *t)
{
	enum track_reason changed = track_disk_changed(t->disk, t->control);
	uint64_t *doubt = (uint64_t *)t->control->doubt;

	if (programs_missed(t))
		doubt[TRACK_MISSED_EVENTS] = 1;
	if (changed != TRACK_REASONS)
		doubt[changed] = 1;
	if (track_disk_is_dax(t->disk))
		doubt[TRACK_DAX] = 1;
	if (track_disk_retargets(t->disk))
		doubt[TRACK_RETARGETS] = 1;
}

void tracker_distrust(struct tracker *t)
{
	t->control->doubt[TRACK_UNSEEN] = 1;
}

bool tracker_doubt(struct tracker *t, struct err *ret_why)
{
	tracker_examine(t);
	for (int i = 0; i < TRACK_REASONS; i++) {
		if (!t->control->doubt[i] && !t->report->doubt[i])
			continue;
		err_set(ret_why, -ESTALE, "tracking of disk %u:%u is broken: %s", major(t->disk),
			minor(t->disk), reason_words[i]);
		return true;
	}
	return false;
}
