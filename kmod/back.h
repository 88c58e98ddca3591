/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * back.h - /dev/ambro-back<id>: passes everything on to the attached disk, below the hook.
 */
#ifndef AMBRO_BACK_H
#define AMBRO_BACK_H

#include "attach.h"

/* May sleep. back_destroy() takes one that was never made; back_retire() came before. */
int back_create(struct attachment *a);
void back_destroy(struct attachment *a);

/* No opener from now on; -EBUSY, and nothing changed, while there is one. */
int back_retire(struct attachment *a);

/* Is this bio on its way from back to the disk? Any context. */
bool back_sent(const struct attachment *a, const struct bio *bio);

/* Is this disk a back? Any context. */
bool back_is(const struct gendisk *disk);

#endif
