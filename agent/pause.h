/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pause - stop at a named step, for tests that kill the agent there.
 *
 * AMBRO_TEST_PAUSE=STEP:MILLISECONDS in the agent's environment makes it sleep so long at that step; without
 * it nothing happens. Steps: tracking, mapped, frozen, thawed, written.
 */
#pragma once

void pause_at(const char *step);
