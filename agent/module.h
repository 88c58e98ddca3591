/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * module - ambro.ko's calls (kmod/uapi.h), with errors in words.
 *
 * The descriptor that attached owns the attachment; closing it switches it off. Every call needs CAP_SYS_ADMIN.
 */
#pragma once

#include <stdint.h>

#include "kmod/uapi.h"
#include "lib/base/err.h"

/* A descriptor, the caller's; -ENOTSUP: not loaded, or of another version. */
int module_open(struct err *e);
/* The lowest attachment whose id is not below @id: 1 and it, 0: none. */
int module_query(int fd, uint32_t id, struct ambro_query *ret, struct err *e);
/* OFF, DISARM, DETACH: 0 also when that is so already, -EBUSY and the like else. */
int module_off(int fd, uint32_t id, struct err *e);
int module_disarm(int fd, uint32_t id, struct err *e);
int module_detach(int fd, uint32_t id, struct err *e);
