/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bus_error - our errors in D-Bus's words. */
#pragma once

#include <systemd/sd-bus.h>

#include "lib/base/err.h"

/* Fill @error from @e; returns a negative errno, for `return bus_error_set(error, &e)` in a method. */
int bus_error_set(sd_bus_error *error, const struct err *e);
