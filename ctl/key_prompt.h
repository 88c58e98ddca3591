/* SPDX-License-Identifier: GPL-2.0-or-later */
/* key_prompt - ask for a passphrase on the terminal. */
#pragma once

#include "lib/base/err.h"
#include "lib/repo/secret.h"

/*
 * Print @question on the process's terminal and read a line there, not echoed. The terminal is as it was before when this
 * returns, and also when a signal ends or stops the process meanwhile. Blocks. Not thread-safe (signal handlers).
 * -ENOTTY: there is no terminal; -ECANCELED: a signal came, whose handler has run.
 */
int key_prompt(const char *question, struct secret **ret, struct err *e);
