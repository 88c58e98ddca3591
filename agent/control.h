/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control - the control socket: who may come in, and an sd-bus server for each who did (docs/CONTROL.md).
 */
#pragma once

#include "agent/manager.h"
#include "agent/run_dir.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"

#define CONTROL_SOCKET RUN_DIR "/control.sock"

/* The first bound is for those who may call, the second for those who are only told that they may not. */
#define CONTROL_MAX_PEERS  32u
#define CONTROL_MAX_DENIED 8u

struct control;

/*
 * Listen on @path, or, with @fd >= 0, on that socket (from systemd; taken over). A socket that nobody
 * answers on is replaced. -EADDRINUSE: another agent does. @m is borrowed, its listener becomes this.
 */
int control_new(struct manager *m, const char *path, int fd, struct control **ret, struct err *e);
/* Hangs up on everyone; removes the socket that it made. */
void control_free(struct control *c);
DEFINE_CLEANUP(struct control, control_free);
