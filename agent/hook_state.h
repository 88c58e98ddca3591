/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hook_state - which hooks are frozen: a file in /run/ambro that outlives whoever runs them.
 *
 * Each call of a hook is noted before it is begun, by the child that becomes the hook. Who deals with the hooks of a
 * file holds its lock; the child shares it until execve(). So whoever gets the lock later sees every call that was or will be
 * begun. A thaw is not begun a second time while it runs, nor when it has ended, however it did. But one that was killed together
 * with whoever waited for it (systemd kills all of a unit) may not have come to do anything: it has begun, nobody has seen its
 * end, and its process is gone. It is begun again.
 *
 * The file is records that end with NUL: 'd' directory, 't' milliseconds, 'j' job, 's' source, 'm' mounts; then '+' name
 * (freeze begun), '@' process id and '-' name (thaw begun by it), '=' name (thaw ended).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agent/hook_set.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"

#define HOOK_STATE_PREFIX "hooks-"
#define HOOK_STATE_PATH	  64

struct hook_state {
	int fd; /* open to read and append, and locked */
	char path[HOOK_STATE_PATH];
};

/* A new file, for @set. */
int hook_state_new(const struct hook_set *set, struct hook_state *ret, struct err *e);
/*
 * Take over the file at @path. 1; 0: there is nothing to do, it is gone or another one deals with it. @wait: wait for that
 * one, who is about to end.
 */
int hook_state_take(const char *path, bool wait, struct hook_state *ret, struct err *e);
/* All hooks are thawed: remove it. Only to close it: hook_state_close(). */
void hook_state_remove(struct hook_state *s);
void hook_state_close(struct hook_state *s);

struct hook_frozen {
	const char *name; /* into the `text` of the notes */
	pid_t thawing;	  /* who has begun to thaw it, but is gone; 0: nobody has */
};

/* What the file says; hook_notes_done(). */
struct hook_notes {
	struct hook_set set;	    /* points into `text` */
	struct hook_frozen *frozen; /* that are to be thawed, in order of the freezes */
	size_t count;
	char *text;
};

int hook_state_read(const struct hook_state *s, struct hook_notes *ret, struct err *e);
void hook_notes_done(struct hook_notes *n);
/* The records of a call, of *ret_len bytes; the caller's to free. NULL: no memory. */
char *hook_state_note(enum hook_phase phase, const char *name, size_t *ret_len);
/* In the child: put its process id into the note of a thaw. Async-signal-safe. */
void hook_state_sign(char *note, pid_t pid);
/* The thaw of @name has ended. 0 or a negative errno: it may be begun again. */
int hook_state_thawed(int fd, const char *name);
