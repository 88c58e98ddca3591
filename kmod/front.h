/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * front.h - where bios of an attached disk are sent while it is on: a hidden disk without anything
 * below it but the armed device.
 */
#ifndef AMBRO_FRONT_H
#define AMBRO_FRONT_H

#include "attach.h"

/* May sleep. front_destroy() takes NULL; nothing may be in flight. */
int front_create(struct attachment *a);
void front_destroy(struct attachment *a);

/*
 * A bio of the attached disk is at the entrance of submit_bio_noacct(): re-target it to front if
 * the attachment is on and front can take it. Called by the hook inside rcu_read_lock(); does not
 * sleep.
 */
void front_divert(struct attachment *a, struct bio *bio);

/* Is this disk a front? Any context. */
bool front_is(const struct gendisk *disk);

#endif
