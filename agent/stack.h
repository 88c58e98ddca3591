/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stack - what a block device or a file lies on in the end, through partitions, device-mapper, md, loop
 * devices and the file systems that hold their files.
 *
 * Reads sysfs and mountinfo, asks loop devices; bounded in depth and breadth. Thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* What is looked for. */
struct stack_target {
	dev_t device; /* a block device, with its partitions; 0: the file */
	dev_t whole;  /* the gendisk of @device */
	dev_t file_dev;
	ino_t file_ino;
};

/*
 * Does @dev lie on the target? With @files also through the file systems that loop devices' files are on;
 * without, only what claims or addresses the target's bytes as a device counts.
 */
bool stack_reaches(dev_t dev, const struct stack_target *t, bool files);
/*
 * Does the file behind @fd? A block device: does it overlap the target. An overlay whose upper layer
 * cannot be seen counts as yes; pipes, sockets and memory never do.
 */
bool stack_file_reaches(int fd, const struct stack_target *t);
