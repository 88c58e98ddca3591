/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bus_agent - the object /org/ambrotype/Agent1 on one connection. */
#pragma once

#include "agent/peer.h"

int bus_agent_add(struct peer *p);
