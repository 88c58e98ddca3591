/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hook_keeper - the process that runs the hooks of one freeze, and answers for their thaw.
 *
 * A process of its own (this program again, with HOOK_KEEPER_ARGUMENT) for each freeze, because a database must not stay
 * locked for the agent's sake: it thaws when the agent says so, when the agent is gone, and when the hooks have been held for as
 * long as one of them may take, whatever the agent is stuck in. Where it is killed itself, the agent thaws, and
 * where both are, the next start does (hook_keeper_recover()): the file of hook_state.h says what is left to be done. (The guardian
 * does not: it locks its memory, may not wait for anything, and has milliseconds; hooks take seconds and write to disks.)
 *
 *	agent                          keeper
 *	posix_spawn() ───────────────► makes the state file
 *	              ◄─────────────── answer: its path
 *	                               runs each hook with "freeze", in order
 *	              ◄─────────────── answer: result, until when it holds
 *	freeze, instant, thaw
 *	a byte, or its end ──────────► runs each begun hook with "thaw", in reverse order
 *	              ◄─────────────── answer: result; ends
 */
#pragma once

#include "agent/hook.h"
#include "agent/hook_state.h"

#define HOOK_KEEPER_ARGUMENT "--hook-keeper"
/* The descriptor at which it has its socket, SOCK_SEQPACKET. */
#define HOOK_KEEPER_SOCKET 3
/* Behind the argument: directory, milliseconds, "abort" or "continue", job, source, mounts. */
#define HOOK_KEEPER_ARGUMENTS 8

struct hook_answer {
	int result; /* 0 or a negative errno with `err` */
	unsigned int begun, failed;
	uint64_t until_ns; /* CLOCK_MONOTONIC: so long nothing is thawed unasked */
	char path[HOOK_STATE_PATH];
	struct err err;
};

/* main() of the keeper. Returns an exit code. */
int hook_keeper_main(char **argv);

/*
 * Thaw what the keeper of @path left, who is dead. Blocks as long as the hooks do. Returns how many failed, or a negative errno
 * (logged).
 */
int hook_keeper_settle(const char *path);
/* The same for all keepers that are dead. Returns how many hooks there were to thaw, or a negative errno. */
int hook_keeper_recover(void);
