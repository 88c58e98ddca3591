/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * leftover - find and take down what a killed agent left between a disk and its file systems.
 *
 * What there is to be found is the kernel's own state (attachments of ambro.ko, devices whose names begin with
 * MAPPER_NAME_PREFIX, files of COW stores), so there is no list that could disagree with it. Whether somebody
 * still needs it is told by a lock file in /run/ambro for each disk, held by the agent that captures it.
 *
 * Order (each step may have been done already; anything may be killed here, too, and be called again):
 *  1. every device of ours that is suspended goes on
 *  2. the module's hook is switched off, which waits for what is under way; a volume gets its own table back
 *  3. the view, the snapshot, the origin, the store, the device below
 *  4. the module lets go of the disk
 *  5. the store's file, once no device can write to it
 */
#pragma once

#include "lib/base/err.h"

/*
 * Hold the name @name ("ambro-vda") for a capture: a descriptor, the caller's; closing it gives it back. -EBUSY:
 * another one holds it.
 */
int leftover_claim(const char *name, struct err *e);
/*
 * Take down everything that nobody holds. Returns how many things there were, or a negative errno with the first that
 * could not be taken down; the others were still tried. Blocks while I/O that is under way is waited for.
 */
int leftover_repair(struct err *e);
