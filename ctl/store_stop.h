/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store_stop - end, or fail, at one step of the directory store (lib/repo/store_dir.c), for tests that kill ambroctl there.
 *
 * AMBRO_TEST_STORE_STEP in the environment, one of:
 *	count:FILE	the name of each step goes to FILE, one a line
 *	kill:N		SIGKILL before step number N (the first is 1)
 *	fail:N:ERROR	that step fails with ERROR: ENOSPC, EIO or EOPNOTSUPP
 *	short:N		from that step on no file takes more than STORE_STOP_SHORT bytes: a write ends in the middle, the next fails
 * Without it nothing happens. Steps are counted over all threads of a process.
 */
#pragma once

#include "lib/base/err.h"

#define STORE_STOP_SHORT 700

/* Called before there are threads, more than once if need be. -EINVAL: the variable says none of the above. */
int store_stop_set_up(struct err *e);
