/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hooks - what an administrator wants done around a freeze (a database that flushes), as a capture sees it.
 *
 * Invariant H: for each hook whose "freeze" was begun, "thaw" is begun once: by hooks_thaw(), or without the agent (hook_keeper.h).
 *
 * The directory is HOOK_DIR_DEFAULT, or what AMBRO_HOOKS_DIR names in the agent's environment.
 */
#pragma once

#include <stdbool.h>

#include "agent/snapshot.h"
#include "lib/base/err.h"

struct hooks;

/* Is there anything that hooks_freeze() would run? */
bool hooks_wanted(struct snapshot *const *all, unsigned int n);
/*
 * Run the hooks once for all the @n disks, which are to show one instant, before anything is frozen. Where they differ, the strictest
 * policy and the shortest time count. 0: they are frozen, with *ret (hooks_thaw(); NULL: there are none). Or the error of the first that failed, if that is to
 * end the capture: -ECHILD; -ECANCELED when all[0] is cancelled; then all are thawed again. Blocks as long as the hooks take.
 */
int hooks_freeze(struct snapshot *const *all, unsigned int n, struct hooks **ret, struct err *e);
/* Are they frozen still, from before the call of hooks_freeze() ended until now? Never blocks. True for NULL. */
bool hooks_held(const struct hooks *h);
/* Thaw, and wait for it, whatever it takes (bounded by the hooks' time). What failed is logged and counted. Accepts NULL. */
void hooks_thaw(struct hooks *h);
