/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run_dir - where the agent keeps what must outlive it but not the boot: its socket, locks, and notes of what an agent that is
 * killed leaves to be put right. The unit's RuntimeDirectory= (kept when it stops); by hand whoever needs it makes it, 0755.
 */
#pragma once

#define RUN_DIR "/run/ambro"
