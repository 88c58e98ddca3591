/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/bus_driver.h"

#include <inttypes.h>
#include <stdio.h>

#define DRIVER_NAME "org.freedesktop.DBus"
#define DRIVER_PATH "/org/freedesktop/DBus"

/* sd-bus only takes unique names for clients that look like one. */
static const char *driver_unique(const struct peer *p, char buf[static 32])
{
	snprintf(buf, 32, ":1.%" PRIu64, p->id);
	return buf;
}

static int driver_hello(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	char name[32];

	(void)error;
	return sd_bus_reply_method_return(m, "s", driver_unique(userdata, name));
}

static int driver_match(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)userdata, (void)error;
	/* all signals go to everyone who may have them */
	return sd_bus_reply_method_return(m, NULL);
}

/* Every name belongs to us: there is nobody else on the line. */
static int driver_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const char *name;
	int r;

	(void)userdata, (void)error;
	r = sd_bus_message_read(m, "s", &name);
	if (r < 0)
		return r;
	return sd_bus_reply_method_return(m, "s", name[0] == ':' ? name : PEER_SERVICE);
}

static int driver_names(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	char name[32];

	(void)error;
	return sd_bus_reply_method_return(m, "as", 3, DRIVER_NAME, PEER_SERVICE,
					  driver_unique(userdata, name));
}

static int driver_no_names(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)userdata, (void)error;
	return sd_bus_reply_method_return(m, "as", 0);
}

static const sd_bus_vtable driver_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Hello", "", "s", driver_hello, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("AddMatch", "s", "", driver_match, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("RemoveMatch", "s", "", driver_match, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("GetNameOwner", "s", "s", driver_owner, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ListNames", "", "as", driver_names, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ListActivatableNames", "", "as", driver_no_names,
		      SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

int bus_driver_add(struct peer *p)
{
	return sd_bus_add_object_vtable(p->bus, NULL, DRIVER_PATH, DRIVER_NAME, driver_vtable, p);
}
