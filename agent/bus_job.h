/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bus_job - the objects /org/ambrotype/Agent1/job/N on one connection, and their signals.
 *
 * bus_job_emit_*(): a peer that does not read is not waited for: progress is dropped for it. They return 0 or
 * a negative errno, -ENOBUFS when the peer has not read for so long that it is to be hung up on.
 */
#pragma once

#include "agent/peer.h"

int bus_job_add(struct peer *p);
/* The object path, owned by the caller. */
int bus_job_path(const struct job *j, char **ret);
/* The job of that path which the peer may see, or NULL. */
struct job *bus_job_find(const struct peer *p, const char *path);

int bus_job_emit_progress(struct peer *p, struct job *j);
int bus_job_emit_phase(struct peer *p, struct job *j);
int bus_job_emit_ended(struct peer *p, struct job *j);
