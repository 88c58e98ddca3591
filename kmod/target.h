/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * target.h - opening what is to be attached or armed, and refusing what cannot be done right. The
 * reason for a refusal goes to the kernel log.
 */
#ifndef AMBRO_TARGET_H
#define AMBRO_TARGET_H

#include "compat.h"

/* All may sleep. @ret is written only on success. */
int target_open_disk(dev_t dev, struct compat_opened *ret);
int target_open_mapped(dev_t dev, struct compat_opened *ret);

#endif
