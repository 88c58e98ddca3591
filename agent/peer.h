/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * peer - one connection to the control socket, as the objects on it see it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include <systemd/sd-bus.h>

#include "agent/job.h"
#include "agent/manager.h"

#define PEER_SERVICE	"org.ambrotype.Agent1"
#define PEER_AGENT_PATH "/org/ambrotype/Agent1"
#define PEER_AGENT	"org.ambrotype.Agent1"
#define PEER_JOB_PATH	"/org/ambrotype/Agent1/job"
#define PEER_JOB	"org.ambrotype.Job1"

struct control;

struct peer {
	TAILQ_ENTRY(peer) link;
	struct control *control;
	struct manager *manager;
	sd_bus *bus;
	uint64_t id; /* never reused */
	uid_t uid;
	pid_t pid;
	bool allowed;
	/* has called something: a client that says Hello takes no signal before the answer (sd-bus: EIO) */
	bool heard;
};
TAILQ_HEAD(peer_list, peer);

/* Who asked for an ended job, and root, may look at it; one that runs is everybody's business. */
static inline bool peer_may_see(const struct peer *p, const struct job *j)
{
	return j->state == JOB_RUNNING || p->uid == 0 || p->uid == j->uid;
}

static inline bool peer_may_cancel(const struct peer *p, const struct job *j)
{
	return p->uid == 0 || p->uid == j->uid;
}
