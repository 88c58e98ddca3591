/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bus_driver - the little of a message bus that busctl expects at the other end.
 *
 * There is no bus here, but busctl says Hello, asks who owns a name and adds matches before it does anything.
 */
#pragma once

#include "agent/peer.h"

int bus_driver_add(struct peer *p);
