/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pause - stop at a named step, for tests that kill the agent there.
 *
 * AMBRO_TEST_PAUSE=STEP:MILLISECONDS in the agent's environment makes it say "pause: STEP" on standard error and
 * sleep so long at that step, or until the file exists that AMBRO_TEST_GO names; without it nothing happens.
 * Steps: tracking, mapped, hooked, frozen, thawed, written; of a snapshot (snapshot_cow.c), in this order: claimed, below,
 * store, loaded, frozen, resumed, on, thawed, mapped, ending, off, unsnapped, unstored, undone.
 */
#pragma once

void pause_at(const char *step);
