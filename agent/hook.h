/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hook - one executable of the hooks' directory: may it be run, and running it.
 *
 * A hook is called twice for each freeze: with the argument "freeze" before file systems are frozen, and with "thaw"
 * after they were thawed. docs/OPERATING.md is for those who write hooks.
 */
#pragma once

#include "agent/hook_set.h"
#include "lib/base/err.h"

#define HOOK_DIR_DEFAULT "/etc/ambro/hooks.d"

/* What one call of a hook may write to the log; the rest is counted. */
#define HOOK_LINES_MAX 64u
#define HOOK_LINE_MAX  400u

/*
 * Is @name in @dir to be run? 1: yes; 0: it is no hook (a hidden name) or is switched off (not executable); a negative errno: it is
 * one that nobody should trust, and why.
 */
int hook_check(const char *dir, const char *name, struct err *e);
/*
 * The names in @dir that hook_check() does not take for 0, sorted. Returns how many; 0 also when there is no such
 * directory. -EACCES: others than root may write to it. *ret: text_list_free().
 */
int hook_names(const char *dir, char ***ret, struct err *e);
/*
 * Call @name and wait for its end, at most set->timeout_ms; then its process group is killed. What it writes to stdout and stderr
 * is logged. The call is noted in @state_fd (hook_state.h) by the child itself, so it is noted if and only if it was begun, whoever is
 * killed when. @interrupt_fd (-EBADF: none): readable means that it is no longer wanted, and it is killed.
 * 0; -ETIME; -ECANCELED; -ECHILD: it failed, or could not be started.
 */
int hook_run(const struct hook_set *set, const char *name, enum hook_phase phase, int state_fd,
	     int interrupt_fd, struct err *e);

const char *hook_phase_name(enum hook_phase p); /* "freeze", "thaw" */
