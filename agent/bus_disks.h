/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bus_disks - the methods that look at disks. A disk may take its time (a drive that spins up, a dead path), so
 * they are answered from a task, and the loop goes on.
 */
#pragma once

#include <systemd/sd-bus.h>

/* sd-bus method handlers; userdata is the struct peer. */
int bus_disks_list(sd_bus_message *m, void *userdata, sd_bus_error *error);
int bus_disks_untrack(sd_bus_message *m, void *userdata, sd_bus_error *error);
int bus_disks_repair(sd_bus_message *m, void *userdata, sd_bus_error *error);
