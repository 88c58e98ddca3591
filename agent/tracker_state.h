/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tracker_state - what a tracker is made of: for tracker.c, tracker_doubt.c and tracker_stamp.c only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <linux/bpf.h>

#include "agent/eras.h"
#include "agent/grace.h"
#include "ebpf/track.h"

struct tracker {
	dev_t disk;
	bool resumed;
	struct track_control *control; /* both shared with the programs and with other processes */
	struct track_report *report;
	struct track_stamp *stamps; /* TRACK_STAMPS */
	struct eras eras;
	size_t eras_bytes;	/* of the mapping */
	int links[TRACK_HOOKS]; /* -1: not for this kind of disk */
	int programs[TRACK_HOOKS];
	struct grace grace;
};

/* What the kernel says of the program behind @fd. 0 or a negative errno. */
int tracker_program_info(int fd, struct bpf_prog_info *ret);
