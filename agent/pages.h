/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pages - this process's pages stay in memory while anybody holds them.
 *
 * Locking is one for the process: one munlockall() unlocks what all others have locked, mlock(2)ed ranges included.
 * So whoever needs locked memory holds the pages for as long. What is made present later is locked too where it
 * was mapped before the last hold. Thread-safe.
 */
#pragma once

void pages_hold(void);
void pages_let_go(void);
